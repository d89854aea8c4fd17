"""The judge: a table of hand-made responses, any text at all, and the published figures."""

import json
import math
import os
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geolib.reasoning.judge import Verdict, judge

EXTRACTION, REASONING, WRONG, NONE = "extraction", "reasoning", "wrong", "no-answer"

# response, expected number, kind
TABLE = [
    # plain, with a unit, marked up
    ("48", 48, EXTRACTION),
    ("48.", 48, EXTRACTION),
    ("Natalia sold clips to 48 friends in April.", 48, EXTRACTION),
    ("Natalia sold clips to 47 friends in April.", 48, WRONG),
    ("It weighs 48kg.", 48, EXTRACTION),
    ("He writes a 3-page letter.", 3, EXTRACTION),
    ("She sold **48** clips.", 48, EXTRACTION),
    ("**Answer:** 48 clips", 48, EXTRACTION),
    ("`48`", 48, EXTRACTION),
    # kinds of number
    ("It costs $1,200.", 1200, EXTRACTION),
    ("It costs $1,200.50 in all.", 1200.5, EXTRACTION),
    ("It costs $18.00.", 18, EXTRACTION),
    ("The price is £20", 20, EXTRACTION),
    ("It is .25 miles long.", 0.25, EXTRACTION),
    ("They ate 1/2 of the pie.", 0.5, EXTRACTION),
    ("She needs 1 1/2 cups.", 1.5, EXTRACTION),
    ("She needs 1½ cups.", 1.5, EXTRACTION),
    ("Three-quarters of a mile.", 0.75, EXTRACTION),
    ("It rose by 40%.", 40, EXTRACTION),
    ("It rose by 40%.", 0.4, EXTRACTION),
    ("It rose by forty percent.", 40, EXTRACTION),
    ("It was -5 degrees.", -5, EXTRACTION),
    ("It was −5 degrees.", -5, EXTRACTION),
    ("It was minus five degrees.", -5, EXTRACTION),
    ("It was -5 degrees.", 5, WRONG),
    ("4800000 people, or 4.8 million.", 4.8e6, EXTRACTION),
    ("There are ４８ clips.", 48, EXTRACTION),
    # in words
    ("Twelve.", 12, EXTRACTION),
    ("She sold forty-eight clips.", 48, EXTRACTION),
    ("One hundred and twenty-five pages.", 125, EXTRACTION),
    ("Two thousand five hundred seats.", 2500, EXTRACTION),
    ("It takes two and a half hours.", 2.5, EXTRACTION),
    ("She bought a dozen eggs.", 12, EXTRACTION),
    ("She bought two dozen eggs.", 2, EXTRACTION),
    ("Half a dozen eggs.", 6, EXTRACTION),
    # numbers that are no answers
    ("", 1, NONE),
    ("No number at all.", 1, NONE),
    ("No one knows.", 1, NONE),
    ("It was the 40th president, in the 3rd year.", 40, NONE),
    ("She came on 12/05/2023.", 12, NONE),
    ("She came on 2023-05-12.", 5, NONE),
    ("1. Read the question\n2. Look it up", 2, NONE),
    ("The hall has three lamps:\n1. a red one\n2. a green one\n3. a blue one", 3, EXTRACTION),
    ("Step 1: read. Step 2: it says 48.", 48, EXTRACTION),
    ("Step 1: read. Step 2: it says 48.", 2, WRONG),
    ("On day 3 she sold 48 clips.", 3, WRONG),
    ("The molecule H2O.", 2, NONE),
    # where the answer stands
    ("The answer is 48.", 48, EXTRACTION),
    ("The answer is 48, not 24.", 24, WRONG),
    ("The final answer is: 48", 48, EXTRACTION),
    ('The answer to the question "How many of the 12 boxes are red?" is 5.', 12, WRONG),
    ("The answer is not a number. It says 48.", 48, EXTRACTION),
    ("The answer is 24. No, the answer is 48.", 48, EXTRACTION),
    ("#### 48", 48, EXTRACTION),
    (r"So we get $\boxed{48}$.", 48, EXTRACTION),
    (r"\[\boxed{\text{48 clips}}\]", 48, EXTRACTION),
    (r"$\boxed{1{,}200}$", 1200, EXTRACTION),
    (r"$\boxed{\frac{1}{2}}$", 0.5, EXTRACTION),
    (r"It is \$20, that is 50\% of it.", 50, EXTRACTION),
    ("48 clips. In May she sold 24.", 48, EXTRACTION),
    ("48\n\nLet me explain: in May she sold 24.", 48, EXTRACTION),
    ("**48** clips in April. In May she sold 24.", 48, EXTRACTION),
    ("In May she sold 24. In April it was 48.", 48, EXTRACTION),
    ("In May she sold 24. In April it was 48.", 24, WRONG),
    ("He sold 125.5 kg of tomatoes to Mrs. Maxwell.", 125.5, EXTRACTION),
    ("The price is $42. This is stated in the problem.", 42, EXTRACTION),
    ("Joy can read 8 pages in 20 minutes.", 8, EXTRACTION),
    ("The ratio is 2:5.", 2, EXTRACTION),
    ("Since each box holds 12 eggs, she has 36 eggs.", 12, WRONG),
    ("She sold 48 in April. How many in May cannot be determined.", 24, NONE),
    ("The text names 48 friends. Let us first look at", 48, NONE),
    # calculations
    ("48 / 2 = 24, so 48 + 24 = 72", 72, REASONING),
    ("48 / 2 = 24\nShe sold 48 clips in April.", 48, REASONING),
    ("She sold 48/2 = <<48/2=24>>24 clips in May.\n#### 48", 48, REASONING),
    ("48 + 24 = 72", 48, WRONG),
    ("So 20-5=15.", 15, REASONING),
    ("So 20-5=15.", 20, WRONG),
    ("The answer is 48 + 24 = 72.", 48, WRONG),
    ("We take 5 shirts * $7/shirt. It costs $35.", 35, REASONING),
    ("If we multiply 4 by 15, there are 60 of them.", 60, REASONING),
    ("4 multiplied by 15, which is 60.", 60, REASONING),
    ("Half of 48 is 24.", 24, REASONING),
    ("Let the number be x. It is 48.", 48, REASONING),
    ("40% of 120 equals 48 members.", 48, REASONING),
    (r"$8 \times 6$ seats, that is 48 seats.", 48, REASONING),
    # and what is none
    ("Answer = 48", 48, EXTRACTION),
    ("He waits 10-20 minutes.", 20, EXTRACTION),
    ("* She sold 48 clips\n* in April", 48, EXTRACTION),
    ("- 48 clips - in April", 48, EXTRACTION),
    ("He runs 48 feet/second.", 48, EXTRACTION),
    ("The x-ray costs $48.", 48, EXTRACTION),
]


@pytest.mark.parametrize(("response", "answer", "kind"), TABLE)
def test_table(response, answer, kind):
    verdict = judge(response, answer)
    assert verdict.kind == kind
    assert verdict.correct == (kind in (EXTRACTION, REASONING))
    if verdict.correct:
        assert verdict.redundant == (kind == REASONING)


@pytest.mark.parametrize(
    ("response", "answer", "lenient", "strict"),
    [
        ("She sold 48 + 24 = 72 clips.", 48, REASONING, WRONG),
        ("She sold 48 + 24 = 72 clips.", 72, REASONING, REASONING),
        ("So 5 boxes x 12 pens per box = 60 pens in all.", 12, REASONING, WRONG),
        ("She sold 48 clips.", 48, EXTRACTION, EXTRACTION),
    ],
)
def test_strict_leaves_out_the_terms_of_a_calculation(response, answer, lenient, strict):
    assert judge(response, answer).kind == lenient
    assert judge(response, answer, strict=True).kind == strict


def test_redundant_does_not_depend_on_being_right():
    assert judge("48 + 24 = 72", 1) == Verdict(correct=False, redundant=True, kind=WRONG)
    assert judge("Let the total be x.", 1) == Verdict(correct=False, redundant=True, kind=NONE)


def test_numbers_are_equal_up_to_rounding():
    assert judge("0.30000000000000004", 0.3).correct
    assert not judge("0.3000001", 0.3).correct
    assert judge("0", 0).correct
    assert not judge("0.0000000001", 0).correct


@pytest.mark.parametrize("answer", [48, 48.0, Fraction(48), np.float32(48), np.int64(48)])
def test_answers_are_real_numbers(answer):
    assert judge("48", answer).correct


@given(st.text(max_size=300), st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_is_judged(response, answer):
    check(judge(response, answer))


FRAGMENTS = [
    *"0123456789 .,-/+*=x%$\n()[]{}\\:!?½'",
    *["48", "1,200", "one", "hundred", "half", "a", "dozen", "and", "third", "th", "**", "\\boxed{", "\\frac{1}{2}"],
    *["the answer is", "####", "since", "cannot", "<<", ">>", "minus", " of ", "1. ", "step 3", "percent", "million"],
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join), st.sampled_from([0, 0.5, 48, 1200, -1e300]))
def test_any_arrangement_of_what_the_rules_look_for_is_judged(response, answer):
    check(judge(response, answer))
    check(judge(response, answer, strict=True))


def check(verdict):
    assert verdict.correct == (verdict.kind in (EXTRACTION, REASONING))
    assert verdict.kind in (EXTRACTION, REASONING, WRONG, NONE)


@given(st.integers(0, 10**7))
def test_digits_and_separators_are_read_back(number):
    assert judge(f"It is {number}.", number).correct
    assert judge(f"It is {number:,} in all.", number).correct
    assert judge(f"It is ${number:,}.50", number + 0.5).correct
    assert not judge(f"It is {number}.", number + 1).correct


@pytest.mark.parametrize(
    "unit",
    [
        *["1", "1,", "1,234,", "1 ", "1 - ", "1 + ", "1/1 ", "1 a a ", "(", "a. ", "\n", " ", "**", "**1**", "<<"],
        *["\\boxed{", "\\frac{", "answer ", "answer is ", "answer to the ", "one hundred ", "a thousand "],
        *["minus ", "since, ", "divide ", "half of ", "x ", "- ", "1. \n", "a/"],
    ],
)
def test_long_texts_take_linear_time(unit):
    """A quadratic pattern would take minutes; the slowest of these takes a tenth of a second."""
    response = (unit * 100_000)[:100_000] + "th ="
    start = time.perf_counter()
    judge(response, 1)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("response", "answer", "error", "message"),
    [
        (None, 48, TypeError, "judge: response is NoneType, but a str was expected"),
        (b"48", 48, TypeError, "judge: response is bytes, but a str was expected"),
        ("48", "48", TypeError, "judge: answer is '48', but a finite number was expected"),
        ("48", None, TypeError, "judge: answer is None, but a finite number was expected"),
        ("48", True, TypeError, "judge: answer is True, but a finite number was expected"),
        ("48", math.nan, ValueError, "judge: answer is nan, but a finite number was expected"),
        ("48", -math.inf, ValueError, "judge: answer is -inf, but a finite number was expected"),
        ("48", 10**400, ValueError, "judge: answer is beyond all floats, but a finite number was expected"),
    ],
)
def test_errors(response, answer, error, message):
    with pytest.raises(error) as raised:
        judge(response, answer)
    assert str(raised.value) == message


def test_verdicts_are_frozen():
    with pytest.raises(AttributeError):
        judge("48", 48).correct = False


# Chiang and Lee 2024: in percent, share of responses with a calculation; accuracy without one; accuracy with one.
PUBLISHED = {"gpt-3.5-turbo-0613": (47.1, 96.6, 60.7), "Llama-2-70b-chat-hf": (80.3, 87.7, 46.3)}


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_figures(model):
    data = os.environ.get("GEOLIB_DATA") or Path(__file__).parents[3] / "shared" / "data"
    file = Path(data) / "published_answers" / f"{model}.jsonl"
    if not file.exists():
        pytest.skip(f"no published answers: {file} does not exist")
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    verdicts = [judge(record["response"], record["answer"]) for record in records]
    with_calculation = [verdict.correct for verdict in verdicts if verdict.redundant]
    without = [verdict.correct for verdict in verdicts if not verdict.redundant]
    redundancy, accuracy_without, accuracy_with = PUBLISHED[model]
    assert 100 * len(with_calculation) / len(verdicts) == pytest.approx(redundancy, abs=2)
    assert 100 * np.mean(without) == pytest.approx(accuracy_without, abs=3)
    assert 100 * np.mean(with_calculation) == pytest.approx(accuracy_with, abs=3)
