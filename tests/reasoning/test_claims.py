"""Verdicts on the paper's claims: the same with another seed, and of whatever a results folder holds."""

import ast
import re
import shutil
from collections import Counter
from decimal import Decimal
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geolib.estimates import estimate_of, finding
from geolib.experiments.runs import write
from geolib.reasoning import (
    Estimate,
    association,
    findings,
    id_change,
    load_run,
    question_facts,
    said_of,
    same_question,
)
from geolib.reasoning.claims import CLAIMS, RULES, SMALLEST, written
from geolib.reasoning.published import add_facts, all_sets, as_planned, asked_again, own_results
from geolib.statements import Table, VerdictMap
from geolib.store import write_parquet
from tests.reasoning.recomputed import recomputed
from tools import execute, toc

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def table():
    return findings()


def test_no_verdict_hangs_on_the_draw(table):
    """Another seed moves the ends of intervals by their error, and no word."""
    again = findings(seed=1)
    drawn = ~table.unit.eq("points per sd") & table.estimate.notna()
    assert (table.low[drawn] != again.low[drawn]).mean() > 0.5
    pd.testing.assert_series_equal(table.verdict, again.verdict)
    pd.testing.assert_series_equal(table.estimate, again.estimate)


def test_every_claim_has_every_reading(table):
    assert table.line.unique().tolist() == list(range(1, len(CLAIMS) + 1))
    assert not (table.verdict == "untested").any()
    c7 = table[(table.claim == "C7") & table.text.isin([claim.text for claim in CLAIMS[9:16]])]
    readings = {f"{rule}, {place}" for rule in RULES for place in ("second to last layer", "last layer")}
    assert all(set(one.reading) == readings for _, one in c7.groupby("line"))
    fresh = table.line.isin([20, 21])
    assert set(table.n[fresh]) == {1855}, "the questions of the plan of H2"
    assert (table.n[table.estimate.notna() & ~fresh] <= 300).all(), "n counts questions"


def test_headline_numbers_come_out_of_the_files_without_geolib(table):
    printed = table.set_index(["claim", "line", "reading"])
    found = recomputed()
    assert len(found) >= 10
    for key, (value, *ends) in found.items():
        row = printed.loc[key]
        assert value == pytest.approx(row.estimate, abs=1e-9), key
        for mine, theirs in zip(ends, (row.low, row.high), strict=True):
            assert np.isnan(mine) or abs(mine - theirs) < 0.12 * (row.high - row.low), key


def test_a_reading_is_what_the_chapters_compute(table):
    """The page of all claims and a chapter that calls the same functions say one number."""
    rows, _ = as_planned("shots")
    (plan,) = table[(table.line == 10) & (table.reading == "absolute, second to last layer")].itertuples()
    assert estimate_of(plan) == association(id_change(rows, rule="absolute", layer=-2))
    assert plan.verdict == "absent"
    (same,) = table[(table.line == 16) & (table.reading == "relative, last layer")].itertuples()
    every = id_change(all_sets(), rule="relative", layer=-1)
    assert estimate_of(same) == same_question(every, within=("example_set", "shots"))


def test_verdicts_follow_from_the_interval(table):
    for row in table[table.estimate.notna()].itertuples():
        claimed, smallest = CLAIMS[row.line - 1].claimed, SMALLEST[row.unit][0]
        if min(abs(end - at) for end in (row.low, row.high) for at in (0, smallest, -smallest)) > 0.01:
            assert row.verdict == finding(Estimate(row.estimate, row.low, row.high, row.n), claimed, smallest)


# What the page of all claims prints: every verdict follows from the text beside it.

PAGE = Path(__file__).parents[2] / "notebooks" / "appendix" / "reported-and-reproduced.md"
ENDS = re.compile(r"\S+ \[(\S+), (\S+)\]")
WORDS = re.compile(r"(agrees|disagrees|absent|undecided)(?: \(([^)]*)\))?(?:; |$)")
LIVE = "Claims that the live chapters measure"
MAP = "the map of verdicts"
EVERY = "Every reading of the published runs"
# Of the lines that live chapters hand on: the claimed effect, and the value that means none.
CLAIMED = {
    "the more regions in an interval, the smaller the error": ("below 0", 0),
    "training places regions where the target curves": ("above 0", 0),
    "so do the regions of real (random) layers": ("above 0", 1),
    "by a constant factor, that is, exponentially": ("none", 1),
    "a longer context raises the regions met": ("above 0", 0),
    "more heads raise the regions met": ("above 0", 0),
    "a longer context: more regions in reach": ("above 0", 0),
    "a higher ID: more regions near the token": ("above 0", 0),
    "a higher ID: more regions in the token's set": ("above 0", 0),
}


def number(text):
    return Decimal(text.replace("\N{MINUS SIGN}", "-").replace(",", "").replace("unknown", "nan"))


def word(claimed, low, high, smallest):
    """The rules of the page, once more."""
    if low.is_nan() or high.is_nan():
        return "undecided"
    if claimed == "none":
        return "agrees" if -smallest < low and high < smallest else "disagrees" if low > 0 or high < 0 else "undecided"
    low, high = (low, high) if claimed == "above 0" else (-high, -low)
    return "disagrees" if high < 0 else "absent" if high < smallest else "agrees" if low > 0 else "undecided"


def exact(line):
    """Of claims without an effect: the word that the evidence calls for."""
    if sizes := re.search(r"(?:deviation|rebuilt to) (\S+) .*rounding: below (\S+)\)", line.evidence):
        held = re.search(r"in (\d+) of (\d+) cases", line.evidence)
        agrees = float(sizes[1]) < float(sizes[2]) and (not held or held[1] == held[2])
    elif sizes := re.search(r"at least x(\S+) .*matters: (\d+)\)", line.evidence):
        agrees = float(sizes[1]) > float(sizes[2])
    elif line.text == "the bound distinguishes prompts":
        agrees = "not heads x tokens for every prompt" in line.evidence
    else:
        assert line.text == "a cut at eps moves the row little", line
        (low, high), smallest = (
            ENDS.search(line.evidence).groups(),
            number(re.search(r"effect ([\d.]+)", line.evidence)[1]),
        )
        return "agrees" if number(high) < smallest else "disagrees" if number(low) > smallest else "undecided"
    return "agrees" if agrees else "disagrees"


def of_live(line):
    """How often each word is said in a line of the live chapters, and how often its evidence says it."""
    said, ends = Counter(), ENDS.findall(line.evidence)
    for verdict, names in WORDS.findall(line.status):
        said[verdict] += len(ends) if names == "each" else 1 + names.count(";")
    if line.text not in CLAIMED:
        return said, Counter([exact(line)])
    (claimed, null), smallest = CLAIMED[line.text], number(re.search(r"smallest effect ([\d.]+)", line.evidence)[1])
    return said, Counter(word(claimed, number(low) - null, number(high) - null, smallest) for low, high in ends)


def contradicted(tables):
    """Lines of the page, as printed, whose verdict is not the one that their own text calls for."""
    wrong, words = [], {}
    for line in tables[LIVE].itertuples():
        words[line.claim, line.text] = Counter([line.status])
        if not line.status.startswith("untested"):
            words[line.claim, line.text], called = of_live(line)
            wrong += [line] * (words[line.claim, line.text] != called or not called)
    for key, rows in groupby(tables[EVERY].itertuples(), key=lambda row: (row.claim, row.text)):
        words.setdefault(key, Counter())  # a line may come again below another
        for row in rows:
            words[key][row.verdict] += 1
            ends = ENDS.fullmatch(row.estimate)
            called = word(row.claimed, *map(number, ends.groups()), number(row.smallest)) if ends else "no estimate"
            wrong += [row] * (row.verdict != called and (bool(ends) or row.verdict not in ("no estimate", "untested")))
    marks = {key: Counter(own.verdict) for key, own in tables[MAP].groupby(["claim", "text"])}
    said_alike = {key for key in words if "each" not in tables[MAP].reading[tables[MAP].text == key[1]].tolist()}
    return wrong + [key for key in {*words, *marks} if key in said_alike and marks.get(key) != words[key]]


HEADS = {"what it says": "text", "status in this build": "status", "estimate [95 %]": "estimate"}


@pytest.fixture(scope="module")
def printed(table):
    """The tables of the page, by caption, with what the chapters found in the last build if there was one."""
    handed = {"C2a": said_of(FOUR, -1, 1, "% error per region more:", "toys", together=True)}
    handed["C5a"] = said_of(FOUR, 1, 0.1, "rank correlation", "toys")
    handed["C3a"] = ["agrees", "factor per dimension 3.21 [3.10, 3.30] (from 1; smallest effect 0.1); toys"]
    for notebook in execute.find_notebooks(PAGE.parents[2], "quick"):
        if notebook.name in toc.read(PAGE).metadata["needs"]:
            handed |= execute._findings(notebook) if execute.read_executed(notebook) else {}
    found, space = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geolib.reasoning.claims.findings", lambda: table)
        for cell in toc.read(PAGE).cells:
            *body, last = ast.parse(cell.source if cell.cell_type == "code" else "0").body
            exec(
                compile(ast.Module([*body, *([] if isinstance(last, ast.Expr) else [last])], []), "page", "exec"), space
            )
            if "parameters" in cell.metadata.get("tags", ()):
                space["findings"] = handed
            value = (
                eval(compile(ast.Expression(last.value), "page", "eval"), space) if isinstance(last, ast.Expr) else 0
            )
            if isinstance(value, Table):
                found[value.caption] = value.cells.rename(columns=HEADS)
            if isinstance(value, VerdictMap):
                found[MAP] = value.readings.reset_index(drop=True)
    return found


def test_no_verdict_is_contradicted_by_its_own_numbers(printed):
    assert contradicted(printed) == []
    assert len(printed[EVERY]) > 190
    assert set(printed[LIVE].text) >= set(CLAIMED)


@pytest.mark.parametrize(
    ("caption", "column", "pick", "other"),
    [
        (EVERY, "verdict", lambda t: t.verdict == "absent", "agrees"),
        (EVERY, "claimed", lambda t: t.verdict == "disagrees", "below 0"),
        (EVERY, "smallest", lambda t: t.verdict == "absent", "0.001"),
        (LIVE, "status", lambda t: t.claim == "C1", "disagrees"),
        (LIVE, "status", lambda t: t.text == "so do the regions of real (random) layers", "absent"),
        (MAP, "verdict", lambda t: (t.claim == "C7") & (t.verdict == "absent"), "agrees"),
    ],
)
def test_a_verdict_that_is_contradicted_is_found(printed, caption, column, pick, other):
    changed = printed[caption].copy()
    changed.loc[changed.index[pick(changed)][0], column] = other
    assert len(contradicted(printed | {caption: changed})) >= 1


# What a chapter hands to the page of all claims, as the chapters' own three functions wrote it.

FOUR = {
    "one": Estimate(0.3, 0.1, 0.5, 9),
    "two": Estimate(-0.2, -0.35, -0.05, 9),
    "three": Estimate(0.25, 0.004, 0.5, 9),
    "four": Estimate(0.1, -0.2, 0.4, 9),
}


def test_a_chapter_says_a_word_for_each_estimate():
    status, evidence = said_of(FOUR, 1, 0.1, "rank correlation", "toy blocks")
    assert status == "agrees (one); disagrees (two); agrees (three); undecided (four)"
    assert evidence == (
        "rank correlation +0.30 [+0.10, +0.50], -0.20 [-0.35, -0.05], +0.250 [+0.004, +0.500], +0.10 [-0.20, +0.40] "
        "(smallest effect 0.1); toy blocks"
    )


def test_a_chapter_names_those_of_one_verdict_together():
    status, evidence = said_of(FOUR, 1, 0.1, "slope:", "toys", together=True)
    assert status == "agrees (one; three); disagrees (two); undecided (four)"
    assert evidence == said_of(FOUR, 1, 0.1, "slope:", "toys")[1]
    agreed = {name: FOUR[name] for name in ("one", "three")}
    assert said_of(agreed, 1, 0.1, "slope:", "toys", together=True)[0] == "agrees (each)"
    assert said_of(FOUR, -1, 0.1, "slope:", "toys", together=True)[0] == (
        "disagrees (one; three); agrees (two); undecided (four)"
    )


def test_what_rounds_to_0_has_no_sign_and_what_is_not_known_is_said():
    tiny = {"one": Estimate(-0.001, -0.5, np.nan, 9), "two": Estimate(np.nan, np.nan, np.nan, 0)}
    status, evidence = said_of(tiny, 1, 0.1, "slope", "toys")
    assert status == "undecided (one); undecided (two)"
    assert evidence == "slope 0.00 [-0.50, unknown], unknown [unknown, unknown] (smallest effect 0.1); toys"


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((0.05, 0.01, 0.098), "+0.050 [+0.010, +0.098]"),  # absent: at two digits its end would be the smallest effect
        ((0.05, 0.01, 0.094), "+0.05 [+0.01, +0.09]"),
        ((0.3, 0.004, 0.5), "+0.300 [+0.004, +0.500]"),  # agrees: at two digits it would begin at 0
    ],
)
def test_an_estimate_has_the_digits_that_its_verdict_needs(ends, text):
    e = Estimate(*ends, 9)
    assert written(e, finding(e, 1, 0.1), 1, 0.1) == text


def test_the_smallest_effect_counts_in_what_a_chapter_says():
    assert said_of({"two": FOUR["two"]}, -1, 0.4, "slope", "toys")[0] == "absent (two)"


def test_an_unknown_claim():
    with pytest.raises(ValueError, match=r"^findings: names has 'C11', but C5 to C10 were expected"):
        findings("C11")


# Folders that hold less


def copy(folder, *names):
    for name in names:
        for ending in ("parquet", "json"):
            shutil.copy(own_results() / f"{name}.{ending}", folder)
    return folder


def cut(folder, name, keep):
    rows, manifest = load_run(name, folder)
    write(rows[keep(rows)].reset_index(drop=True), manifest, folder)


def test_a_folder_of_another_model_with_fewer_layers_and_runs():
    found = findings(("C5", "C6", "C8"), folder=own_results() / "gemma3-270m")
    there = found[found.verdict != "untested"]
    assert set(there.claim) == {"C5", "C6"}
    assert there.estimate.notna().all()
    assert (found[found.claim == "C8"].reading == "there is no run 'ablations'").all()


def test_one_set_and_questions_missing(tmp_path):
    copy(tmp_path, "shots", "ablations", "questions")
    asked = load_run("shots", tmp_path)[0].question.unique()
    cut(
        tmp_path,
        "shots",
        lambda rows: rows.question.isin(asked[:250]) & ~(rows.question.eq(asked[0]) & rows.shots.eq(7)),
    )
    assert len(all_sets(tmp_path)) == 250 * 11 - 1
    c8 = findings("C8", folder=tmp_path)
    assert (c8.n == 250).all()
    assert c8.estimate.notna().all()
    c6 = findings("C6", folder=tmp_path)
    assert (c6.n[c6.verdict != "untested"] <= 300).all()
    assert findings("C10", folder=tmp_path).verdict.tolist() == ["untested"]


def test_facts_are_those_of_these_questions(tmp_path):
    rows, manifest = load_run("shots")
    assert add_facts(rows, manifest, tmp_path).numbers.notna().all(), "the book's own, where the folder has none"
    with pytest.raises(FileNotFoundError, match=r"^add_facts: no questions.parquet is of the run's questions"):
        add_facts(rows, manifest | {"questions_sha256": "0"}, tmp_path)


def test_published_facts_are_those_of_the_text():
    from geolib.reasoning import available_questions

    questions, source = available_questions()
    if source != "gsm8k-zero":
        pytest.skip("GSM8K-Zero is not at hand")
    facts, _ = load_run("questions")
    pd.testing.assert_frame_equal(facts, question_facts(questions), check_dtype=False)
    assert np.mean(facts.place == -1) < 0.03, "the texts state their answers"
    assert not {"text", "answer"} & set(facts)


def test_a_table_and_its_manifest_are_written_together(tmp_path):
    manifest = write(pd.DataFrame({"question": [1]}), {"run": "x"}, tmp_path)
    assert load_run("x", tmp_path)[1] == manifest
    write_parquet(pd.DataFrame({"question": [2]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="describes another file"):
        load_run("x", tmp_path)


def test_a_run_that_is_there_and_incomplete_is_untested(tmp_path):
    """What is missing is said in the reading; the other claims are judged."""
    copy(tmp_path, "shots", "ablations", "many")
    cut(tmp_path, "ablations", lambda rows: rows.condition != "prose")
    cut(tmp_path, "many", lambda rows: rows.shots == 0)
    c8, c9 = findings("C8", folder=tmp_path), findings("C9", folder=tmp_path)
    assert "untested" not in set(c8.verdict)  # every reading before the missing one stands
    assert set(c9[c9.text.str.startswith("many")].reading) == {
        "the runs do not hold what this takes (no prompt has more than ten examples)"
    }
    c7 = findings("C7", folder=tmp_path)
    assert (c7[c7.text.str.startswith("a second model")].verdict == "untested").all(), "not the book's own"


def test_sets_of_another_model_are_not_joined(tmp_path):
    copy(tmp_path, "shots", "other-sets")
    rows, manifest = load_run("other-sets", tmp_path)
    write(rows, manifest | {"model_sha256": "0"}, tmp_path)
    with pytest.raises(ValueError, match=r"^all_sets: runs 'shots' and 'other-sets' differ in model_sha256, but one"):
        all_sets(tmp_path)


def test_a_run_beside_its_repetition(tmp_path):
    """Each difference is found where it was put, whatever the order of the rows."""
    rows, manifest = load_run("bare", own_results())
    rows = rows.iloc[:40].reset_index(drop=True)
    first = rows.assign(correct=rows.frozen, redundant=rows.frozen_redundant)
    write(first, manifest, tmp_path / "first")
    write(rows.iloc[::-1].reset_index(drop=True), manifest, tmp_path)
    pairs = asked_again("bare", tmp_path)
    assert pairs.question.tolist() == sorted(rows.question)
    assert pairs.same.all()
    assert not pairs[["moved", "gates"]].any().any()
    changed = first.copy()
    for name, row, by in (("id_relative_0.1", 3, 2), ("id_absolute_0.01", 3, -1), ("gates_changed", 5, 7)):
        changed.at[row, name] = changed.at[row, name] + by * (np.arange(30) == 29)
    changed.loc[8, "new_tokens"] += 1
    changed.loc[9, "correct"] = not changed.loc[9, "correct"]
    write(changed, manifest, tmp_path / "first")
    pairs = asked_again("bare", tmp_path).set_index("question")
    at = rows.question
    assert pairs.moved[pairs.moved > 0].to_dict() == {at[3]: 3}
    assert pairs.gates[pairs.gates > 0].to_dict() == {at[5]: 7}
    assert set(pairs.index[~pairs.same]) == {at[8], at[9]}
    for other in (changed.iloc[1:], pd.concat([changed, changed.iloc[:1]]), changed.assign(seed=1)):
        write(other.reset_index(drop=True), manifest, tmp_path / "first")
        with pytest.raises(
            ValueError, match=r"^asked_again: run 'bare' differs from that in .*first in prompts, model"
        ):
            asked_again("bare", tmp_path)
    write(changed, manifest | {"model_sha256": "0"}, tmp_path / "first")
    with pytest.raises(ValueError, match=r"^asked_again: "):
        asked_again("bare", tmp_path)


def test_facts_that_hold_a_question_twice(tmp_path):
    copy(tmp_path, "questions")
    facts, about = load_run("questions", tmp_path)
    write(pd.concat([facts, facts[:1]]), about, tmp_path)
    rows, manifest = load_run("shots")
    with pytest.raises(ValueError, match=r"^add_facts: questions.parquet in .* has a question twice"):
        add_facts(rows, manifest, tmp_path)
