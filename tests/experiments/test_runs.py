"""The book's runs: made of distinct conditions, reproducible row by row, published without text."""

import json
import os
import subprocess
from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from geolib.dimension import gate_names
from geolib.experiments import Runs, fresh, gate, publish
from geolib.experiments.names import NAMES
from geolib.experiments.runs import _draw
from geolib.reasoning import Question, available_questions, generate_questions, load_questions, load_run, split
from geolib.reasoning.published import CHOICES, choice_of, results_folder
from tests.tiny import TINY

QUESTIONS = generate_questions(210, seed=5)
TRAIN = [Question(f"Pens {i}?", float(i), i, steps=f"{i} = {i}") for i in range(12)]


@pytest.fixture(scope="module")
def runs(embedded, tmp_path_factory):
    """A model that is made in no time, with the real tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(**TINY | {"vocab_size": 49152, "max_position_embeddings": 8192})
    model = LlamaForCausalLM(config).eval()
    store = tmp_path_factory.mktemp("store")
    settings = {"max_new_tokens": 3, "progress": False, "n_wrong": 4, "n_right": 4, "gates": gate_names(model)}
    return Runs(model, embedded[1], QUESTIONS, train=TRAIN, store=store, **settings)


@pytest.mark.parametrize("name", NAMES)
def test_labels_tell_the_parts_of_a_run_apart(runs, name):
    labels = [
        (*part.labels.values(), part.asked, condition.name, condition.example_set, condition.shots)
        for part in runs.parts(name)
        for condition in part.conditions
    ]
    assert len(set(labels)) == len(labels)


def test_a_selection_is_of_the_evaluation_set_and_answered_so(runs):
    wrong = runs._asked("wrong")
    evaluation = {question.index for question in runs.split.evaluation}
    rows = runs.run("bare").set_index("question")
    assert len(wrong) == 4
    assert {question.index for question in wrong} <= evaluation
    assert not rows.frozen[[question.index for question in wrong]].any()
    assert runs._asked("half of wrong") == wrong[:2]
    assert len(rows) == len(QUESTIONS)


def test_published_answers_of_the_same_runs_select(runs, tmp_path, monkeypatch):
    """Rows of the same model, questions and settings spare a store without them the 0-shot run; others do not."""
    expected, calls = runs._asked("wrong"), []
    publish(runs.run("bare"), "bare", tmp_path, runs=runs, source="generated", command="")
    monkeypatch.setenv("GEOLIB_RESULTS", str(tmp_path))
    for settings, asked_anew in (({}, False), ({"max_new_tokens": 2}, True), ({"questions": QUESTIONS[:200]}, True)):
        other = Runs(
            runs.model,
            runs.tokenizer,
            settings.pop("questions", QUESTIONS),
            n_wrong=4,
            **{"max_new_tokens": 3, "progress": False} | settings,
        )
        monkeypatch.setattr(other, "_bare_rows", lambda: calls.append(1) or runs._bare_rows())
        selected = other._asked("wrong")
        assert bool(calls) == asked_anew
        assert asked_anew or selected == expected
        calls.clear()


def test_some_of_the_evaluation_set_are_asked_at_all(runs):
    few = copy(runs)
    few.n_asked, few._bare_cache = 20, None
    rows = few.run("bare")
    assert len(rows) == 20
    assert set(rows.question) < {question.index for question in runs.split.evaluation}
    assert set(few.run("shots").question) <= set(rows.question[~rows.frozen])


def test_repeats_ask_the_same_questions_in_other_ways(runs):
    rows = runs.run("repeats")
    asked = [set(group.question) for _, group in rows.groupby(["condition", "temperature", "seed"])]
    assert len(asked) == 5  # as before, reworded, and drawn three times
    assert all(one == asked[0] for one in asked)
    assert sorted(rows.groupby(["temperature", "seed"]).size()) == [4, 4, 4, 8]


def test_gates_that_change(runs):
    rows = runs.run("shots")
    changed = np.stack(rows.gates_changed)
    assert changed.shape == (len(rows), 3)
    assert (changed[rows.shots == 0] == 0).all()
    assert (changed[rows.shots > 0] > 0).any()
    assert changed.max() <= TINY["intermediate_size"]


def test_the_intervention_changes_id_and_no_prompt(runs):
    rows = runs.run("intervention")
    five = rows[rows.shots == 5]
    assert five.groupby("question").prompt_tokens.nunique().eq(1).all()
    sharp = five[(five.layers == "all")].set_index(["question", "sharpness"]).sink_share
    first = five.question.iloc[0]
    assert not np.allclose(sharp[first, 0.5], sharp[first, 2.0])
    assert set(five.layers) == {"none", "all", "first third", "middle third", "last third"}


def test_round_two_asks_fresh_questions_behind_their_prompts(runs):
    """On a few of the questions: each behind its own examples, once under each factor, with no gates."""
    few = copy(runs)
    few.questions = QUESTIONS
    asked = fresh.fresh(QUESTIONS)
    for name, factors, shots in (
        ("sharper", [1, 1.25], [5]),
        ("dose", [0.9, 1.1, 1.4, 1.6], [5]),
        ("length", [1, 1.25], [0, 1, 10, 32]),
    ):
        parts = [part for part in few.parts(name) if part.paired]
        assert sorted({part.sharpness for part in parts}) == factors
        assert sorted({condition.shots for part in parts for condition in part.conditions}) == shots
        assert all(list(part.asked) == asked for part in parts)
        few.parts = lambda _, parts=parts: [
            replace(part, asked=part.asked[:4], conditions=part.conditions[:4]) for part in parts
        ]
        rows = few.run(name)
        del few.parts
        assert len(rows) == 4 * len(parts)
        assert not {"signs", "gates_changed"} & set(rows)
        sets = {q.index: c.example_set for q, c in zip(asked, fresh.prompts(QUESTIONS, asked, 5), strict=True)}
        assert (rows.example_set == rows.question.map(sets)).all()
        assert rows.groupby(["question", "shots"]).prompt_tokens.nunique().eq(1).all()


def test_margins_under_both_factors(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(fresh, "fresh", lambda questions, **_: split(questions).evaluation[:6])
    rows = runs.run("margins")
    publish(rows, "margins", tmp_path, runs=runs, source="generated", command="")
    read, manifest = load_run("margins", tmp_path)
    assert manifest["rows"] == len(rows) > 4
    pd.testing.assert_frame_equal(read, rows)
    assert rows.groupby("question").sharpness.agg(list).map(lambda one: one == [1, 1.25]).all()
    assert rows.groupby("question").margin.nunique().eq(2).all()
    assert fresh.sharper(rows, y="margin", n_boot=100).n == len(rows) / 2


def chosen_sets(runs):
    return {one.example_set: one.examples for part in runs.parts("choosing") for one in part.conditions}


@pytest.fixture(scope="module")
def choosing(runs):
    return runs.run("choosing")


def test_examples_are_chosen_for_other_questions_than_those_asked(runs, choosing):
    chosen = choosing[choosing.shots == 3]
    held_out = {question.index for question in runs._asked("held out")}
    assert len(held_out) == 4
    asked = chosen.question.groupby(chosen.example_set.map(choice_of)).agg(set)
    assert asked.to_dict() == dict.fromkeys([*CHOICES.values(), "nearest"], held_out)
    explored = choosing[choosing.shots == 1]
    assert not held_out & set(explored.question)
    assert (explored.new_tokens <= 1).all()
    for row in (explored.iloc[0], chosen.iloc[0], chosen.iloc[-1], choosing[choosing.shots == 0].iloc[-1]):
        assert runs.again("choosing", row).response == row.response


def test_published_rises_decide_what_is_shown(runs, choosing, tmp_path, monkeypatch):
    monkeypatch.setenv("GEOLIB_RESULTS", str(tmp_path))
    before = chosen_sets(runs)
    turned = choosing.assign(**{"id_relative_0.1": [-row for row in choosing["id_relative_0.1"]]})
    publish(turned, "choosing", tmp_path, runs=runs, source="generated", command="")
    after = chosen_sets(runs)
    assert (after[10], after[12]) == (before[12], before[10])
    assert after[11] == before[11]
    # Those of another model decide nothing here.
    path = tmp_path / "choosing.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_sha256": "another"}))
    assert chosen_sets(runs) == before


def test_a_row_again(runs):
    rows = runs.run("right") if len(runs._asked("right")) else runs.run("ablations")
    for _, row in rows.sample(4, random_state=0).iterrows():
        again = runs.again("right" if len(runs._asked("right")) else "ablations", row)
        assert again.response == row.response
        np.testing.assert_array_equal(again["id_relative_0.01"], row["id_relative_0.01"])


def test_published_and_read_back(runs, tmp_path):
    rows = runs.run("shots")
    manifest = publish(rows, "shots", tmp_path, runs=runs, source="generated", command="geolib sweep --run shots")
    read, stored = load_run("shots", tmp_path)
    assert stored == manifest == json.loads((tmp_path / "shots.json").read_text())
    assert not {"response", "expected", "signs"} & set(read)
    shared = [column for column in read if not isinstance(read[column].iloc[0], np.ndarray)]
    pd.testing.assert_frame_equal(read[shared], rows[shared])
    for column in ("id_absolute_0.1", "gates_changed"):
        np.testing.assert_array_equal(np.stack(read[column]), np.stack(rows[column]))
    np.testing.assert_allclose(np.stack(read.sink_share), np.stack(rows.sink_share), atol=1e-3)
    for column in ("entropy", "renyi2"):
        np.testing.assert_allclose(np.stack(read[column]), np.stack(rows[column]), atol=1 / 100)
    assert [c for c in read if c.startswith("heads_")] == ["heads_absolute_0.1", "heads_relative_0.1"]
    for rule in ("absolute", "relative"):  # the heads of a layer add up to it
        counts = np.stack(read[f"id_{rule}_0.1"])
        heads = np.stack(read[f"heads_{rule}_0.1"]).reshape(*counts.shape, -1)
        np.testing.assert_array_equal(heads.sum(-1), counts)
    assert (manifest["failed"], manifest["near_threshold"]) == (0, rows.near.sum())
    # No text of a question or a response, in any encoding that grep would find.
    raw = (tmp_path / "shots.parquet").read_bytes()
    assert not any(question.text[:20].encode() in raw for question in QUESTIONS)


def test_heads_of_other_runs_are_published_as_their_mean(runs, tmp_path):
    rows = runs.run("repeats")
    publish(rows, "repeats", tmp_path, runs=runs, source="generated", command="geolib sweep --run repeats")
    read, _ = load_run("repeats", tmp_path)
    assert not [c for c in read if c.startswith("heads_") or c in ("entropy", "renyi2")]
    for column in ("entropy", "renyi2"):
        expected = np.stack(rows[column]).astype(float).mean(1)
        np.testing.assert_allclose(read[f"mean_{column}"], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["arms", "rounding", "within", "second"])
def test_runs_behind_the_gate(runs, name):
    """Their arms are told apart by columns, ask the same questions, and differ in what they measure."""
    small = copy(runs)
    small.questions = QUESTIONS[:60]
    small.split = split(small.questions)
    small._bare_cache = None
    rows = small.run(name)
    keys = [key for key in ("question", "shots", "sharpness", "arm") if key in rows]
    assert ("sharpness" in rows) != (name == "arms")  # one factor would not say what an arm does
    assert not rows.duplicated(keys).any()
    counted = rows.groupby(keys[1:]).question.apply(frozenset)
    assert counted.nunique() == 1
    seen = rows.groupby(keys[1:]).entropy.apply(lambda cells: np.stack(cells).tobytes())
    assert len(set(seen)) >= (
        len(seen) - 2 if name == "arms" else len(seen)
    )  # an answer's arm leaves the prompt as it is


def test_what_is_not_published(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^load_run: there is no run 'shots' in "):
        load_run("shots", tmp_path)


def test_files_that_are_not_those_of_the_manifest(runs, tmp_path):
    """Cut short, one bit flipped, or swapped with another run's; or a manifest that is none."""
    for name in ("shots", "bare"):
        publish(runs.run(name), name, tmp_path, runs=runs, source="generated", command="")
    path, manifest = tmp_path / "shots.parquet", tmp_path / "shots.json"
    whole, text = path.read_bytes(), manifest.read_text()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[:-1], bytes(flipped), (tmp_path / "bare.parquet").read_bytes(), b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^load_run: .*shots.json describes another file than shots.parquet"):
            load_run("shots", tmp_path)
    path.write_bytes((tmp_path / "bare.parquet").read_bytes())
    manifest.write_text((tmp_path / "bare.json").read_text())  # both swapped
    with pytest.raises(ValueError, match=r"^load_run: .*shots.json describes another file"):
        load_run("shots", tmp_path)
    for damaged in ("", "[]", text[:-9], '{"run": "shots"}', "[" * 100_000):
        manifest.write_text(damaged)
        with pytest.raises(ValueError, match=r"^load_run: .*shots.json is not a manifest, but an object with "):
            load_run("shots", tmp_path)
    path.write_bytes(whole)
    manifest.write_text(text)
    assert len(load_run("shots", tmp_path)[0]) == json.loads(text)["rows"]


def test_no_such_run(runs):
    with pytest.raises(ValueError, match=r"^run: name is 'walk', but one of bare, shots"):
        runs.run("walk")
    with pytest.raises(ValueError, match=r"^Runs: n_asked is 0, "):
        Runs(runs.model, runs.tokenizer, QUESTIONS, n_asked=0)
    row = dict(runs.run("shots").iloc[0])
    with pytest.raises(ValueError, match=r"^again: row has labels that run 'shots' lacks"):
        runs.again("shots", row | {"shots": 99})


@pytest.mark.parametrize("n", [-1, True, 1.5, "3", None])
def test_numbers_of_questions_are_checked(runs, n):
    with pytest.raises((ValueError, TypeError), match=r"^draw: n is "):
        _draw(QUESTIONS, n)
    for name in ("n_wrong", "n_right"):
        with pytest.raises((ValueError, TypeError), match=f"^Runs: {name} is "):
            Runs(runs.model, runs.tokenizer, QUESTIONS, **{name: n})


def test_draws_are_as_many_as_asked_for():
    assert [len(_draw(QUESTIONS[:7], n)) for n in (0, 1, 7, 9)] == [0, 1, 7, 7]


@pytest.mark.parametrize(("name", "n"), [("shots", 50), ("many", 80), ("other-sets", 100), ("choosing", 50)])
def test_runs_that_show_examples_say_how_many_questions_they_need(runs, name, n):
    few = Runs(runs.model, runs.tokenizer, QUESTIONS[: n - 1], train=TRAIN)
    with pytest.raises(
        ValueError, match=rf"^run: questions has {n - 1}, but {n} were expected: '{name}' shows .*\(--questions\)$"
    ):
        few.parts(name)
    if name != "choosing":
        assert few.parts("bare")
        enough = Runs(runs.model, runs.tokenizer, QUESTIONS[:n], train=TRAIN).parts(name)
        assert any(condition.shots for part in enough for condition in part.conditions)


def test_a_manifest_names_all_that_made_the_rows(runs, tmp_path):
    manifest = publish(runs.run("bare"), "bare", tmp_path, runs=runs, source="generated", command="")
    assert manifest["settings"] == {"n_asked": None, "n_wrong": 4, "n_right": 4, "max_new_tokens": 3}
    assert manifest["n_questions"] == manifest["rows"]
    head = subprocess.run(
        ["git", "log", "-1", "--format=%H", "--", "geolib", "benchmarks"], capture_output=True, text=True
    )
    assert (manifest["commit"] or "").rstrip("+") == head.stdout.strip()


def test_a_manifest_of_round_two_names_what_its_plan_fixes(runs, tmp_path):
    few = {"seed": 2026, "n_prompts": 20, "factor": 1.25, "max_new_tokens": 3}
    assert runs.settings_of("second") == few
    assert runs.settings_of("arms") == few | {"noise": gate.NOISE}


PUBLISHED = sorted(path.stem for path in results_folder().glob("*.parquet") if path.stem in NAMES)


@pytest.fixture(scope="module")
def real(embedded):
    questions, source = available_questions()
    if source != "gsm8k-zero":
        pytest.skip("GSM8K-Zero is neither here nor within reach")
    return Runs(*embedded, questions, train=load_questions(source="gsm8k-train"), gates=gate_names(embedded[0]))


# On each push a few, and each night more.
@pytest.mark.parametrize("seed", range(8) if os.environ.get("GEOLIB_DRAW") == "anew" else (0, 1, 5))
def test_published_rows_computed_anew(real, seed):
    """Rows drawn from all published files: the same prompt, the same counts, the same verdict."""
    rng = np.random.default_rng(seed)
    name = PUBLISHED[rng.integers(len(PUBLISHED))]
    rows, manifest = load_run(name)
    assert manifest["questions"] == "gsm8k-zero"
    row = rows.iloc[rng.integers(len(rows))]
    again = real.again(name, row)
    for column in ("prompt_tokens", "new_tokens", "truncated", "correct", "strict", "redundant", "kind"):
        assert again[column] == row[column]
    for column in (column for column in rows if column.startswith("id_")):
        # In a batch sums are taken in another order: an entry at the threshold may fall on its other side.
        assert (np.abs(again[column] - row[column]) <= 1).all()
        assert (again[column] == row[column]).mean() > 0.9
    np.testing.assert_allclose(again.sink_share, row.sink_share.astype(float), atol=2e-3)
