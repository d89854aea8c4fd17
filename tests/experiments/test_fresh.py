"""Fresh questions, their prompts, and the tests that the plans of round two fix: on rows whose effects are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from geolib.experiments import fresh
from geolib.reasoning import (
    Condition,
    Estimate,
    Question,
    association,
    build_prompt,
    generate_questions,
    load_run,
    mean_over_prompts,
    split,
)
from geolib.reasoning.protocol import N_ZERO
from geolib.reasoning.published import own_results
from tests.tiny import TINY

ROOT = Path(__file__).resolve().parents[2]
ZERO = [Question(f"Ann has {i} pens. How many?", float(i), i) for i in range(N_ZERO)]
FACTS = load_run("questions")


# GSM8K-Zero has 24 texts twice, and 2,186 and 1,984 questions that are fresh; here every text is another.
@pytest.mark.parametrize(("second", "n"), [(False, 2186 + 24), (True, 1984 + 24)])
def test_no_question_was_shown_with_examples(second, n):
    asked = [question.index for question in fresh.fresh(ZERO, second=second)]
    assert len(set(asked)) == len(asked) == n
    assert {*asked} <= {question.index for question in split(ZERO).evaluation}
    for name in (*fresh.SHOWN, "other-sets"):  # whose questions are those of "shots"
        rows, _ = load_run(name)
        assert not {*asked} & {*rows.question[rows.shots > 0]}
    assert asked != sorted(asked)
    assert [q.index for q in fresh.fresh(ZERO) if q.index in {*asked}] == asked


def test_of_other_questions_none_was_asked():
    questions = generate_questions(50)
    assert {*fresh.fresh(questions)} == {*split(questions).evaluation}


def test_each_question_has_its_prompt_whatever_is_asked_beside_it():
    asked = fresh.fresh(ZERO, second=True)
    five, ten = (fresh.prompts(ZERO, asked, k) for k in (5, 10))
    assert all(more.examples[:5] == some.examples for some, more in zip(five, ten, strict=True))
    assert fresh.prompts(ZERO, asked[7:9], 5) == five[7:9]
    sizes = pd.Series([one.example_set for one in five]).value_counts()
    assert len(sizes) == fresh.N_PROMPTS
    assert sizes.between(70, 130).all()
    assert len({one.examples for one in five}) == fresh.N_PROMPTS
    assert {e for one in five for e in one.examples} <= {*split(ZERO).pool}


def simulated(seed, *, gain=0.0, link=0.0, prompt=0.0, length=0.0):
    """Rows of the run "sharper": a share that sharpness raises, and an ID at layer -2 that a right answer follows."""
    rng, asked = np.random.default_rng(seed), fresh.fresh(ZERO)
    numbers = [one.example_set for one in fresh.prompts(ZERO, asked, 5)]
    effects = dict(zip(range(fresh.PROMPT, fresh.PROMPT + fresh.N_PROMPTS), rng.normal(0, prompt, 20), strict=True))
    rows, sharp = [], {question.index for question in fresh.fresh(ZERO, second=True)}
    for question, number in zip(asked, numbers, strict=True):
        size = rng.normal()
        before, now = rng.normal(size=2)
        of_id = {"example_set": number, "shots": 5, "prompt_tokens": 500 + int(20 * size)}
        chance, drawn = 0.4 + link * (now - before) + length * size, rng.random()
        bare = {"question": question.index, "example_set": 0, "shots": 0, "prompt_tokens": 100 + int(20 * size)}
        rows.append(bare | {"sharpness": 1.0, "correct": False, "id_relative_0.1": [0, before, 0]})
        for factor in (1.0, 1.25)[: 1 + (question.index in sharp)]:
            more = (gain + effects[number]) * (factor > 1)
            share = {"sharpness": factor, "correct": drawn < chance + more}
            rows.append({"question": question.index, **of_id, **share, "id_relative_0.1": [0, now + length * size, 0]})
    return pd.DataFrame(rows)


def test_a_gain_is_found_over_the_questions_of_both_factors():
    found = fresh.sharper(simulated(1, gain=0.08), n_boot=2000)
    assert found.n == 1984 + 24
    assert 0.05 < found.low / 100 < 0.08 < found.high / 100 < 0.11
    none = fresh.sharper(simulated(2), n_boot=2000)
    assert none.low <= 0 <= none.high


def test_prompts_that_differ_widen_the_interval():
    """A bootstrap over questions alone would be too narrow by as much as the prompts' own effects."""
    rows = simulated(3, gain=0.05, prompt=0.1)
    shown = rows[rows.shots > 0].pivot_table(index=["question", "example_set"], columns="sharpness", values="correct")
    table = (shown[1.25] - shown[1.0]).dropna().rename("gain").reset_index()
    found = mean_over_prompts(table, "gain", n_boot=2000)
    by_prompt = table.groupby("example_set").gain.agg(["mean", "size"])
    spread = np.sqrt((by_prompt["size"] ** 2 * (by_prompt["mean"] - found.value) ** 2).sum()) / len(table)
    alone = table.gain.std() / np.sqrt(len(table))
    assert (found.high - found.low) / 3.92 > 1.5 * alone
    assert spread < (found.high - found.low) / 3.92 < 1.5 * spread
    assert found.value == pytest.approx(table.gain.mean())


def test_one_question_a_prompt_leaves_the_bootstrap_over_questions():
    values = np.random.default_rng(0).normal(size=400)
    found = mean_over_prompts(pd.DataFrame({"y": values, "example_set": range(400)}), "y", n_boot=4000)
    assert found.high - found.low == pytest.approx(3.92 * values.std() / 20, rel=0.05)


def test_a_rise_that_answers_follow_is_found_and_one_by_length_is_held():
    wrong = [question.index for question in fresh.fresh(ZERO)]
    manifest = {"questions_sha256": FACTS[1]["questions_sha256"]}
    linked = fresh.rise(simulated(4, link=0.05), manifest, wrong, n_boot=500)
    assert linked["plain"].low > 0.05
    assert linked["held"].low > 0.05
    by_length = fresh.rise(simulated(5, length=0.15), manifest, wrong, n_boot=500)
    assert by_length["plain"].value > by_length["held"].value + 0.02
    few = fresh.rise(simulated(4, link=0.05), manifest, wrong[:300], n_boot=500)
    assert few["plain"].n == 300
    table = simulated(4).query("shots == 5")
    with pytest.raises(ValueError, match=r"^association: x is 'change', but the table's columns are "):
        association(table)


def test_contrasts_are_means_of_each_question_s_sum():
    rows = simulated(6, gain=0.08)
    found = fresh.contrast(rows, {1.0: -1, 1.25: 1}, n_boot=500)
    assert found == fresh.sharper(rows, n_boot=500)
    assert fresh.contrast(rows, {1.25: 2, 1.0: -2}, n_boot=500).value == pytest.approx(2 * found.value)
    wide = rows[rows.shots > 0].pivot(index="question", columns="sharpness", values="correct").dropna()
    assert found.value == pytest.approx(100 * (wide[1.25].mean() - wide[1.0].mean()))
    by_both = rows.assign(arm="a")
    assert fresh.contrast(by_both, {("a", 1.0): -1, ("a", 1.25): 1}, by=["arm", "sharpness"], n_boot=500) == found
    with pytest.raises(ValueError, match=r"^contrast: weights has the arm 2, but the rows have \[1.0, 1.25\]$"):
        fresh.contrast(rows, {1.0: -1, 2: 1})


def test_the_slope_is_that_of_least_squares():
    values, y = [0.9, 1.0, 1.1, 1.25], np.array([3.0, 1.0, 4.0, 1.5])
    weights = fresh.slope(values)
    assert sum(w * one for w, one in zip(weights.values(), y, strict=True)) == pytest.approx(
        np.polyfit(values, y, 1)[0]
    )


def test_rows_of_an_older_format_are_named():
    rows, manifest = load_run("shots", own_results() / "first")
    lack = "rows of an older format lack frozen; geolib sweep --run shots records them now$"
    with pytest.raises(ValueError, match=f"^contrast: {lack}"):
        fresh.sharper(rows, y="frozen")
    with pytest.raises(ValueError, match=f"^id_change: {lack}"):
        fresh.rise(rows, manifest, rows.question.unique(), verdict="frozen")
    with pytest.raises(ValueError, match=r"^contrast: y is 'gain', but the table's columns are "):
        fresh.sharper(rows, y="gain")


def test_what_the_plans_say_of_each_outcome():
    plan = (ROOT / "book" / "plan-sharper.md").read_text()
    low_high = {
        (3.1, 8): "",
        (0.1, 8): "",
        (0.1, 2.9): "refuted",
        (-2, 8): "",
        (-2, 2.9): "refuted",
        (-9, -1): "refuted",
    }
    for (low, high), refuted in low_high.items():
        said, _, more = fresh.said_of_sharper(Estimate((low + high) / 2, low, high, 9)).partition(", and is ")
        assert more.startswith(refuted)
        assert bool(more) == bool(refuted)
        assert f"| {said} |" in plan
    plan = (ROOT / "book" / "plan-rise.md").read_text()
    above, around = Estimate(0.1, 0.01, 0.2, 9), Estimate(0.1, -0.01, 0.2, 9)
    said = {fresh.said_of_rise(plain, held) for plain in (above, around) for held in (above, around)}
    assert len(said) == 3
    assert all(f"| {one} |" in plan for one in said)


@pytest.mark.whole
def test_margins_are_those_of_the_whole_texts(tokenizer):
    """By one pass over prompt and reply each, with nothing shared and the scores scaled by the model itself."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**TINY | {"vocab_size": 49152, "max_position_embeddings": 2048})).eval()
    asked = [
        Question("Ann has 12 pens and 30 cups. How many cups?", 30.0, 5),
        Question("Ann has 12 pens. How many pens?", 12.0, 6),  # no other number
        Question("Ann has 1 pen, two cups and 345 hats. How many pens?", 1.0, 7),
        Question("Ann has pens and 3 cups. How many pens?", 4.0, 8),  # the right number is not stated
    ]
    shown = Condition(examples=generate_questions(2, seed=1), example_set=2001)
    other = Condition(examples=generate_questions(3, seed=2), example_set=2000)
    found = fresh.margins(model, tokenizer, asked, [shown, shown, other, other], sharpness={0: 1.5})
    assert found[["question", "example_set", "candidates"]].to_numpy().tolist() == [[5, 2001, 2], [7, 2000, 3]]
    model.model.layers[0].self_attn.scaling *= 1.5
    for row, examples, texts in (
        (found.iloc[0], shown.examples, ["30", "12"]),
        (found.iloc[1], other.examples, ["1", "2", "345"]),
    ):
        (question,) = (one for one in asked if one.index == row.question)
        prompt, scores = build_prompt(tokenizer, question.text, examples), []
        for text in texts:
            said = tokenizer(f"The answer is {text}.", add_special_tokens=False).input_ids
            with torch.no_grad():
                logits = model(torch.tensor([prompt + said])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            scores.append(float(logits[range(len(said)), said].sum()))
        assert row.margin == pytest.approx(scores[0] - max(scores[1:]), abs=1e-3)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"y": [], "example_set": []}, "the table has no rows"),
        ({"y": [1.0, np.nan], "example_set": [0, 1]}, "y is 'y', which is not finite in 1 of 2 rows"),
        ({"y": [1.0], "other": [0]}, "prompt is 'example_set', but the table's columns are y, other"),
    ],
)
def test_what_has_no_mean_over_prompts(table, message):
    with pytest.raises(ValueError, match=f"^mean_over_prompts: {message}$"):
        mean_over_prompts(pd.DataFrame(table), "y")
