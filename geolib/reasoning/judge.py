r"""Judge a response by rules: which number it finally gives, and whether it calculates.

The questions of GSM8K-Zero state the number they ask for, so a response can do three things: read the number off the
text (*extraction*), reach it through a calculation that nobody needs (*reasoning*), or miss it. Chiang and Lee
(arXiv:2401.11467) counted how often models calculate, and how often they are right with and without; the rules here
are calibrated on the responses published with that paper, and need neither a model nor the question.

The answer of a response is the quantity

1. after its last marker: ``\boxed{``, ``####``, "the answer is", or bold print;
2. else in its first sentence, when that is a bare quantity ("48 clips.");
3. else in its conclusion, the last sentence that holds one. Several may stand there ("8 pages in 20 minutes"), and
   one of them must be the expected number. Without a conclusion there is no answer: when a later sentence declines
   ("it cannot be determined"), or the response breaks off in the middle of a later sentence.

Left out are numbers that say something else: dates, ordinals, the numbers of list items, steps and days, the
pronoun "one", the premise of a conclusion ("since each box holds 12, ...") and the terms of an equation that stands
alone or after a marker ("15 + 3 = 18" gives 18).

A calculation is an equals sign; an operator between two terms ("3 x 5", "40 minus 12"); the same in words ("multiply",
"half of 48", "equals 12"); or an unknown ("let x be").
"""

import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real

_ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SPELLED = {word: n for n, word in enumerate(["zero", *_ONES, *_TEENS])}
_SPELLED |= {word: 10 * n for n, word in enumerate(_TENS, start=2)}
_POWERS = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALES = {"dozen": 12, "hundred": 100} | _POWERS
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}


def _any(words: Iterable[str]) -> str:
    return "(?:" + "|".join(words) + ")"


# The patterns read tidied text: lower case, one space between words, little markup. They take linear time: a run of
# digits or letters is possessive and matched from its start only, and whatever else repeats is bounded.
_POWER, _SCALE, _PART = _any(_POWERS), _any(_SCALES), _any(_PARTS)
_DIGITS = (
    r"(?<!\w)(?!(?<=\d,)\d{3}(?!\d))"
    r"(?:(?:\d{1,3}(?!\d)(?:,\d{3}(?!\d))*+|\d++)(?:\.\d++)?+|\.\d++)(?!\d|(?:st|nd|rd|th)\b)"
)
_TO_99 = rf"(?:{_any(_TENS)}(?:[- ]{_any(_ONES)})?|{_any(_TEENS)}|{_any(_ONES)}|zero)\b"
_TO_999 = rf"(?:(?:an? |{_TO_99} )?hundred\b(?:(?: and)? {_TO_99})?|{_TO_99})"
_WORDS = rf"(?:{_TO_999}|(?:half )?an?(?= {_POWER}))(?: {_POWER}\b(?:,?(?: and)? {_TO_999})?){{0,3}}"
_QUANTITY = re.compile(
    r"(?P<sign>(?<![\w)%.])-|\b(?:minus|negative) )?[$£€]?"
    rf"(?:(?P<digits>{_DIGITS})(?:(?: (?P<top>\d++))?/(?P<bottom>\d++))?"
    rf"|\b(?P<words>{_WORDS}|(?:half )?an?(?= (?:{_PART}|dozen)\b))(?:[- ](?P<part>{_PART})s?\b)?)"
    rf"(?P<half> and a half\b)?(?: ?(?P<percent>%|percent\b)| (?P<scale>{_SCALE})\b)?"
)

# Two or more terms joined by operators. A term is a number with up to three words of unit, or a single letter.
_NUMBER = rf"-?[$£€]?(?:{_DIGITS})(?:/\d++)?%?(?: ?/?[a-z]++){{0,3}}?"
_TERM = rf"[(\[]{{0,3}}(?:{_NUMBER}|(?<![\w'])\d*+[b-hj-z]\b(?!'))[)\]]{{0,3}}"
_OPERATOR = r"(?: ?[+*×÷] ?| [-/x] | (?:times|plus|minus|multiplied by|divided by) )"
_EXPRESSION = re.compile(rf"{_TERM}(?:{_OPERATOR}{_TERM})+")
_CALCULATION = re.compile(
    rf"(?<!answer )=|[≈≤≥]| [+*×÷] |{_EXPRESSION.pattern}"
    r"|\b(?:multipl(?:y|ied|ying)|subtract(?:s|ed|ing)?|add up|adding|sum of|divid(?:e|ed|ing)\b[^.\n]{0,80} by)\b"
    rf"|(?:{_PART}s?|%|percent|\d/\d++) of [$£€]?\d"
    r"|\b(?:equals|is equal to|is equivalent to)\b[^.\n]{0,40}\d"
    r"|(?<![\w-])(?:x|\d++[xyzn])(?![\w-])"
)

_TIDY = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\\[dt]?frac ?\{([^{}]*)\} ?\{([^{}]*)\}", r" \1/\2"),
        (r"\\(?:times|cdot)\b", " × "),
        (r"\\div\b", " ÷ "),
        (r"\\(?:text|textbf|mathrm|mathbf)\b", ""),
        (r"\{,\}", ","),  # 1{,}200
        (r"\\(?!boxed)", ""),
        (r"[\u2010-\u2014\u2212]", "-"),
        (r"\u2019", "'"),
        (r"\u2044", "/"),
        (r"[^\S\n]+", " "),
        (r"<<[^<>\n]*>>", ""),  # the calculator marks of GSM8K: 15 + 3 = <<15+3=18>>18
        (r"(?m)^ ?(?:[-*+>•] )+", "• "),
        (r"(?:\A1|\n\d{1,2})[.)] (?=\S)", "\n• "),  # a numbered list; "48. She ..." at the start is none
        (r"\b(?:step|day) \d++[:.)]?", ""),
        (r"\b\d{1,4}([/-])\d{1,2}\1\d{2,4}\b", " "),  # dates
        (r"(?<=\d)([-x/])(?=[$£€]?[\d.]++ ?=)", r" \1 "),  # 20-5=15: only the equals sign tells it from a range
        (r"\b(?:no|any|every|each|some|this|that|which|the|an? [a-z]{1,20}) one\b", " "),
    ]
]
_BOLD = re.compile(r"\*\*([^*\n]{1,60})\*\*")
_MARKER = re.compile(
    r"\\boxed\b|####"
    r"|\banswer(?: to (?:the|this|that|your) [^\n]{1,200}?|(?: [a-z]++){0,3}?)(?: is| are| (?:should|would) be| ?[:=])"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_UNIT = re.compile(r"(?: ?[a-z]++){0,3}[.,!]?")
_PREMISE = re.compile(r"(?:• )?(?:(?:so|therefore|thus|hence),? )?(?:since|because|if|given that|when|as)\b.*?, ")
_DECLINES = re.compile(r"\b(?:cannot|can't|can not|unable|impossible|not possible|not enough|insufficient)\b")
_BREAKS_OFF = re.compile(r"(?!• (?:\S+ ?){1,3}\Z).*[a-z,;(]\s*\Z")  # a short item of a list needs no full stop


@dataclass(frozen=True)
class Verdict:
    """What a response does with a question whose text states the answer.

    Attributes
    ----------
    correct : bool
        The response finally gives the expected number.
    redundant : bool
        A calculation appears, anywhere in the response.
    kind : str
        "extraction" (correct without a calculation), "reasoning" (correct with one), "wrong", or "no-answer".
    """

    correct: bool
    redundant: bool
    kind: str


def judge(response: str, answer: float, *, strict: bool = False) -> Verdict:
    r"""Compare what a response finally says with the expected number, and look for calculations.

    >>> judge("Natalia sold clips to 48 friends in April.", 48)
    Verdict(correct=True, redundant=False, kind='extraction')
    >>> judge("In May she sold 48 / 2 = 24 clips.\nSo in April she sold to **forty-eight** friends.", 48).kind
    'reasoning'
    >>> judge("She sold 48 + 24 = 72 clips.", 48).kind, judge("She sold 48 + 24 = 72 clips.", 48, strict=True).kind
    ('reasoning', 'wrong')

    Parameters
    ----------
    response : str
        What the model wrote; any text, of any length.
    answer : float
        The expected number. Numbers are equal up to a relative error of 1e-9; 0 is equal to 0 only.
    strict : bool
        Whether the terms of a calculation are left out of the conclusion: of "she sold 48 + 24 = 72 clips", only 72 is
        then an answer. That is what a reader would say; but the published accuracies can only be met by counting the
        terms, so the default counts them.

    Returns
    -------
    Verdict
        With ``.correct``, ``.redundant`` and ``.kind``.

    Raises
    ------
    TypeError
        If response is not a string, or answer not a number.
    ValueError
        If answer is not finite.

    Notes
    -----
    On the 2,978 answers of each model published with arXiv:2401.11467, in percent: share with a calculation, then
    accuracy without and with one.

    ================  ================  ================  ================
    model             published         judge             judge, strict
    ================  ================  ================  ================
    ChatGPT           47.1, 96.6, 60.7  45.2, 95.8, 60.0  45.2, 95.8, 50.8
    Llama-2-70b-chat  80.3, 87.7, 46.3  78.9, 90.6, 48.1  78.9, 90.6, 41.7
    ================  ================  ================  ================
    """
    if not isinstance(response, str):
        raise TypeError(f"judge: response is {type(response).__name__}, but a str was expected")
    if isinstance(answer, bool) or not isinstance(answer, Real):
        raise TypeError(f"judge: answer is {answer!r}, but a finite number was expected")
    try:
        answer = float(answer)
    except OverflowError:
        raise ValueError("judge: answer is beyond all floats, but a finite number was expected") from None
    if not math.isfinite(answer):
        raise ValueError(f"judge: answer is {answer}, but a finite number was expected")

    text = _tidy(response)
    given = _given(text, strict)
    correct = any(math.isclose(value, answer, rel_tol=1e-9) for value in given)
    redundant = _CALCULATION.search(text) is not None
    if correct:
        return Verdict(True, redundant, "reasoning" if redundant else "extraction")
    return Verdict(False, redundant, "wrong" if given else "no-answer")


def _tidy(text: str) -> str:
    r"""Reduce a text to lower case, single spaces and plain signs, with bold quantities written as ``\boxed``."""
    text = re.sub("([¼-¾⅐-⅞])", r" \1", text)  # NFKC writes ½ as 1⁄2, and would read 1½ as 11⁄2
    text = unicodedata.normalize("NFKC", text).lower()
    for pattern, replacement in _TIDY:
        text = pattern.sub(replacement, text)
    return _BOLD.sub(lambda bold: f"\\boxed {bold[1]} " if _is_bare(bold[1]) else bold[1], text)


def _given(text: str, strict: bool) -> list[float]:
    """All values that the answer of a tidied response can be read as; empty when it gives none."""
    end = len(text)
    for marker in reversed(list(_MARKER.finditer(text))):
        rest = _SENTENCE_END.split(text[marker.end() : end].lstrip(), maxsplit=1)[0]
        if quantities := _quantities(_EXPRESSION.sub(" ", rest)):
            return quantities[0]
        end = marker.start()

    sentences = [sentence for sentence in _SENTENCE_END.split(text) if sentence.strip()]
    if sentences and _is_bare(sentences[0]) and (quantities := _quantities(sentences[0])):
        return quantities[0]
    for k, sentence in enumerate(reversed(sentences)):
        if quantities := _quantities(_conclusion(sentence, strict)):
            return [value for readings in quantities for value in readings]
        if _DECLINES.search(sentence) or (k == 0 and len(sentences) > 1 and _BREAKS_OFF.match(sentence)):
            return []
    return []


def _conclusion(sentence: str, strict: bool) -> str:
    """Drop the premise of a sentence, and the terms of its calculation where they do not count."""
    if (premise := _PREMISE.match(sentence)) and _QUANTITY.search(sentence, premise.end()):
        sentence = sentence[premise.end() :]
    results = _EXPRESSION.sub(" ", sentence)
    stands_alone = re.search("[a-z]{3}", results.partition("=")[0]) is None
    return results if strict or stands_alone else sentence


def _is_bare(text: str) -> bool:
    """Whether a text is one quantity with at most three words of unit."""
    text = text.strip()
    quantity = _QUANTITY.match(text)
    return quantity is not None and _UNIT.fullmatch(text, quantity.end()) is not None


def _quantities(text: str) -> list[list[float]]:
    return [readings for match in _QUANTITY.finditer(text) if (readings := _readings(match))]


def _readings(match: re.Match[str]) -> list[float]:
    """List what a quantity can mean: 50% is 50 or 0.5, 2 dozen is 2 (of dozens) or 24, 3 1/2 is 3.5 alone."""
    value = float(match["digits"].replace(",", "")) if match["digits"] else _value_in_words(match["words"])
    if match["part"]:
        value /= _PARTS[match["part"]]
    elif match["bottom"]:
        if float(match["bottom"]) == 0:
            return []
        whole, top = (value, float(match["top"])) if match["top"] else (0.0, value)
        value = whole + top / float(match["bottom"])
    if match["half"]:
        value += 0.5
    if match["sign"]:
        value = -value
    if match["percent"]:
        return [value, value / 100]
    return [value, value * _SCALES[match["scale"]]] if match["scale"] else [value]


def _value_in_words(words: str) -> float:
    total = group = 0
    for word in re.findall("[a-z]+", words):
        if word in _POWERS:
            total, group = total + (group or 1) * _POWERS[word], 0
        elif word == "hundred":
            group = (group or 1) * 100
        elif word == "half":
            group = 0.5
        elif word in ("a", "an"):
            group = group or 1
        elif word != "and":
            group += _SPELLED[word]
    return float(total + group)
