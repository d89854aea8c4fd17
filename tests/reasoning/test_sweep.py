"""The sweep on the real model: what a row holds, and that nothing finished is lost or done twice."""

import logging
import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_folder import save_tiny

from geolib.dimension import attention_dimension
from geolib.models import load
from geolib.reasoning import Condition, Question, Sweep, build_prompt, frozen_judge, generate_questions, judge
from geolib.reasoning.answers import Answerer

# A small model is asked in each.
pytestmark = pytest.mark.whole
QUESTIONS = generate_questions(6, seed=3)
EXAMPLES = generate_questions(3, seed=4)


HINTED = Condition(hint="Let's think step by step.")


def small(model, tokenizer, **settings):
    defaults = {"questions": QUESTIONS, "examples": EXAMPLES, "shots": (0, 2), "max_new_tokens": 12, "batch_size": 4}
    return Sweep(model=model, tokenizer=tokenizer, progress=False, **(defaults | settings))


@pytest.fixture(scope="module")
def rows(embedded):
    return small(*embedded, eps=(0.1, 0.01)).run()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model that answers in no time, for what no weights decide: its folder, itself and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    model, tokenizer = save_tiny(folder, max_position_embeddings=8192)
    tokenizer.model_max_length = 8192
    tokenizer.save_pretrained(folder)
    return folder, model, tokenizer


def test_one_row_per_question_and_shots(rows):
    pairs = list(zip(rows.question, rows.shots, strict=True))
    assert pairs == [(question.index, shots) for shots in (0, 2) for question in QUESTIONS]


def test_a_row_is_what_one_prompt_gives_alone(rows, model, tokenizer):
    """Batches are padded; the row must be that of the prompt by itself: same ID, same greedy answer, same verdict."""
    for row in rows.iloc[[0, 7]].itertuples():
        question = next(q for q in QUESTIONS if q.index == row.question)
        ids = torch.tensor([build_prompt(tokenizer, question.text, EXAMPLES[: row.shots])])
        assert row.prompt_tokens == ids.shape[1]
        for rule in ("absolute", "relative"):
            alone = attention_dimension(model, ids, eps=(0.1, 0.01), rule=rule).per_layer[:, 0, :, 0]
            for e, eps in enumerate(("0.1", "0.01")):
                recorded = rows.loc[row.Index, f"id_{rule}_{eps}"]
                # Padding changes the order of sums: an entry at the threshold may fall on its other side.
                assert (np.abs(recorded - alone[e]) <= 1).all()
                assert (recorded == alone[e]).mean() > 0.9
        output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert row.response == tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip()
        verdict = judge(row.response, question.answer, question=question, truncated=row.truncated)
        assert (row.correct, row.computed) == (verdict.correct, verdict.redundant)
        told = judge(row.response, question.answer, truncated=row.truncated)
        assert row.redundant == told.redundant
        assert row.kind == ((told.redundant and "reasoning") or "extraction" if row.correct else verdict.kind)
        frozen = frozen_judge(row.response, question.answer)
        assert (row.frozen, row.frozen_redundant) == (frozen.correct, frozen.redundant)


@pytest.mark.parametrize(("threads", "batch_size"), [(1, 1), (2, 2)])
def test_threads_and_batches_change_what_lies_at_a_threshold_alone(rows, model, tokenizer, threads, batch_size):
    """Verdicts are the same; so are the counts, but for weights that are recorded as lying within 1e-6 of one."""
    asked = QUESTIONS[:3]
    rows = rows[rows.question.isin([question.index for question in asked])].reset_index(drop=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        other = small(model, tokenizer, questions=asked, eps=(0.1, 0.01), batch_size=batch_size).run()
    finally:
        torch.set_num_threads(before)
    for column in ("response", "correct", "strict", "redundant", "kind"):
        assert other[column].tolist() == rows[column].tolist()
    counts = [column for column in rows if column.startswith("id_")]
    moved = sum(np.abs(np.stack(other[c]) - np.stack(rows[c])).sum(1) for c in counts)
    assert (moved <= np.maximum(rows.near, other.near)).all()


def test_cut_answers_say_so(rows):
    assert (rows.new_tokens[rows.truncated] == 12).all()
    assert (rows.new_tokens[~rows.truncated] <= 12).all()


def assert_same(first, second):
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"), check_exact=True)


def test_only_wrong_goes_on_with_the_wrong(model, tokenizer):
    result = small(model, tokenizer, only_wrong=True).run()
    bare = result[result.shots == 0]
    assert set(bare.question) == {question.index for question in QUESTIONS}
    assert set(result.question[result.shots == 2]) == set(bare.question[~bare.correct])


def test_a_stored_sweep_is_read_back_without_the_model(tiny, tmp_path, monkeypatch):
    _, model, tokenizer = tiny
    first = small(model, tokenizer, store=tmp_path).run()
    monkeypatch.setattr(Answerer, "__call__", lambda *_: pytest.fail("computed again"))
    assert_same(small(model, tokenizer, store=tmp_path).run(), first)
    # A part of it, in another order, is the same rows.
    part = small(model, tokenizer, store=tmp_path, questions=QUESTIONS[::-1], shots=(2,)).run()
    expected = first[first.shots == 2].iloc[::-1].reset_index(drop=True)
    assert_same(part, expected)


def test_one_threshold_or_many(model, tokenizer):
    """A number is the same as a sequence of one, and any kind of whole number counts shots."""

    def keys(**settings):
        return keys_of(small(model, tokenizer, **settings))

    assert keys(eps=0.2) == keys(eps=[0.2]) == keys(eps=np.array([0.2]))
    assert list(small(model, tokenizer, shots=np.arange(3)).shots) == [0, 1, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"max_new_tokens": 11},
        {"eps": (0.2,)},
        {"examples": EXAMPLES[::-1]},
        {"temperature": 0.5},
        {"sharpness": {0: 2.0}},
        {"watched": ["model.layers.0.mlp.gate_proj"]},
    ],
)
def test_other_settings_are_other_rows(model, tokenizer, change):
    assert set(keys_of(small(model, tokenizer))).isdisjoint(keys_of(small(model, tokenizer, **change)))


def test_the_seed_counts_only_where_it_is_used(model, tokenizer):
    assert keys_of(small(model, tokenizer, seed=1)) == keys_of(small(model, tokenizer))
    drawn = [keys_of(small(model, tokenizer, temperature=0.5, seed=seed)) for seed in (0, 1)]
    assert set(drawn[0]).isdisjoint(drawn[1])


def keys_of(sweep):
    """Keys of the rows with two examples."""
    return [prompt["key"] for prompt in sweep._prompts(sweep._conditions[-1], QUESTIONS, "model", [])]


def test_a_damaged_batch_is_set_aside_and_redone(tiny, tmp_path, caplog):
    _, model, tokenizer = tiny
    first = small(model, tokenizer, store=tmp_path).run()
    damaged = sorted(tmp_path.glob("*.parquet"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with caplog.at_level(logging.WARNING):
        assert_same(small(model, tokenizer, store=tmp_path).run(), first)
    assert "is damaged" in caplog.text
    assert damaged.with_suffix(".damaged").exists()


def _run_slowly(folder, store):
    """In a process of its own: a sweep that can be killed between batches."""
    original = Answerer.__call__

    def slow(self, batch):
        time.sleep(0.5)
        return original(self, batch)

    Answerer.__call__ = slow
    small(*load(folder, device="cpu"), store=store).run()


def test_a_killed_sweep_goes_on(tiny, tmp_path, monkeypatch):
    folder, _, _ = tiny
    model, tokenizer = load(folder, device="cpu")  # as the process does: weights at other addresses round otherwise
    process = multiprocessing.get_context("spawn").Process(target=_run_slowly, args=(folder, tmp_path))
    process.start()
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    done = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    assert 0 < len(done) < 4  # of four batches: six prompts under each of two conditions, 4 at most
    computed = []
    original = Answerer.__call__
    monkeypatch.setattr(Answerer, "__call__", lambda self, *rest: computed.append(1) or original(self, *rest))
    resumed = small(model, tokenizer, store=tmp_path).run()
    assert len(computed) == 4 - len(done)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in done} == done
    assert_same(resumed, small(model, tokenizer).run())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"questions": []}, "questions is empty"),
        ({"shots": ()}, "shots is empty, but at least one integer was expected"),
        ({"shots": (-1,)}, r"shots\[0\] is -1, but at least 0 was expected"),
        ({"shots": (True,)}, r"shots\[0\] is True, but an integer was expected"),
        ({"shots": (1, 1)}, "shots holds the same number twice, but distinct"),
        ({"shots": (4,)}, "shots has 4, but at most 3, as many as examples"),
        ({"shots": (1,), "only_wrong": True}, "only_wrong is True, but 0 among shots, or"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"examples": QUESTIONS[:2]}, "examples has 2 of the questions, but none"),
        ({"questions": [QUESTIONS[0]] * 2}, "questions holds the same index twice"),
        ({"examples": [EXAMPLES[0]] * 2}, "examples holds the same text twice"),
        ({"temperature": -1}, "temperature is -1, but a number of at least 0 was expected"),
        ({"temperature": float("nan")}, "temperature holds nan, but finite"),
        ({"sharpness": {3: 0}}, "sharpness of layer 3 is 0, but a number above 0 was expected"),
        ({"conditions": [Condition()]}, "conditions and examples are both given"),
        (
            {"conditions": [Condition()] * 2, "examples": ()},
            "conditions holds the same name, example set",
        ),
        (
            {"conditions": [HINTED], "examples": (), "only_wrong": True},
            r"only_wrong is True, but 0 among shots, or Condition\(\) among conditions, was",
        ),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises((ValueError, TypeError), match=f"^Sweep: {message}") as info:
        small(None, None, **settings)
    assert "\n" not in str(info.value)


def test_conditions_must_be_conditions():
    with pytest.raises(TypeError, match=r"^Sweep: conditions holds a str, but Conditions were expected"):
        small(None, None, conditions=["examples"], examples=())


def test_a_module_that_is_not_there(model, tokenizer):
    with pytest.raises(ValueError, match=r"^Sweep: watched holds 'gate', but names of the model's modules"):
        small(model, tokenizer, watched=["gate"]).run()


def test_a_prompt_beyond_the_window_is_passed_over_and_counted(model, tokenizer, caplog):
    long = Question("How many? " * 9000, 1.0, 7)
    rows = small(model, tokenizer, questions=[QUESTIONS[0], long], shots=(0,)).run()
    assert rows.question.tolist() == [QUESTIONS[0].index]
    (skipped,) = rows.attrs["skipped"]
    assert (skipped["question"], skipped["shots"]) == (7, 0)
    assert skipped["prompt_tokens"] > 8192
    assert "1 prompts do not fit" in caplog.text
    with pytest.raises(ValueError, match=r"^Sweep: none of 1 prompts fits into the model's window"):
        small(model, tokenizer, questions=[long], shots=(0,)).run()


def test_conditions_beside_examples(tiny):
    """Every kind of condition is asked, in order, and rows are told apart by its name."""
    _, model, tokenizer = tiny
    conditions = [Condition(), HINTED, *(Condition(kind=kind, examples=EXAMPLES[:2]) for kind in ("random", "prose"))]
    rows = small(model, tokenizer, conditions=conditions, examples=()).run()
    assert rows.condition.drop_duplicates().tolist() == [condition.name for condition in conditions]
    lengths = rows[rows.shots == 2].pivot(index="question", columns="condition", values="prompt_tokens")
    assert (lengths["random"] == lengths["prose"]).all()


def test_a_text_that_occurs_twice_is_answered_once(model, tokenizer, monkeypatch):
    again = Question(QUESTIONS[0].text, QUESTIONS[0].answer, 99)
    asked = []
    original = Answerer.__call__
    monkeypatch.setattr(Answerer, "__call__", lambda self, batch: asked.extend(batch) or original(self, batch))
    rows = small(model, tokenizer, questions=[QUESTIONS[0], again], shots=(0,)).run()
    assert len(asked) == 1
    assert rows.response[0] == rows.response[1]
    assert rows.question.tolist() == [QUESTIONS[0].index, 99]


def test_sampled_answers_depend_on_the_seed_alone(tiny, monkeypatch):
    """Not on the batch, nor on what else is measured, nor on the version of a row: a later version draws the same."""
    _, model, tokenizer = tiny

    def responses(**settings):
        return small(model, tokenizer, shots=(0,), temperature=1.0, **settings).run().response.tolist()

    first = responses(seed=1)
    assert responses(seed=1, batch_size=1) == first
    assert responses(seed=1, eps=(0.3, 0.2)) == first
    monkeypatch.setattr("geolib.reasoning.sweep._MEASURE", 99)
    monkeypatch.setattr("geolib.reasoning.sweep.fingerprint", lambda model: "another hash")
    assert responses(seed=1) == first
    assert responses(seed=2) != first


def test_without_a_template_an_answer_ends_at_a_blank_line(model, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    rows = small(model, tokenizer, shots=(2,), max_new_tokens=40).run()
    assert not rows.response.str.contains("Question:").any()
    assert (~rows.truncated).any()


def test_batches_are_sized_by_memory(model, tokenizer, monkeypatch):
    sweep = small(model, tokenizer, batch_size=None)
    assert 16 < sweep._rows_that_fit(50) <= 256
    tight = SimpleNamespace(total=2 * 2**30)
    monkeypatch.setattr("geolib.reasoning.answers.psutil.virtual_memory", lambda: tight)
    assert 1 <= sweep._rows_that_fit(8000) < sweep._rows_that_fit(200) < 64
