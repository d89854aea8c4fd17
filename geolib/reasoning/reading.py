r"""Judge a response as a careful reader would: the one number that it comes to, and whether it calculates.

GSM8K-Zero (Chiang and Lee, arXiv:2401.11467) asks for numbers that its texts state, and counts how often models
calculate all the same. The judge of the first plan (:mod:`geolib.reasoning.judge`) is frozen with its errors. This one
reads in three steps, and the expected number plays no part in any of them:

1. *Tidy.* Thinking is dropped; LaTeX, Markdown and the notations of numbers are reduced to one plain form.
2. *Find quantities.* Digits, words, fractions, powers and percentages; not ordinals, dates, hexadecimal numbers or
   labels ("step 3").
3. *Choose the conclusion.* The text after the last marker (``\boxed``, ``####``, ``<answer>``, "the answer is", bold
   print); else a first sentence that is a bare quantity; else the last sentence that holds a quantity. A sentence that
   declines ("it is not stated") ends the search without an answer; what is taken back ("not 24", "wait, no") is
   dropped. Of several numbers the result counts: the one after "=", "so", "which is" or "a total of", else the first.

With the question at hand, step 3 prefers the number whose clause and unit fit the words that are asked about, and a
first sentence that answers directly stands unless a later one fits as well. A calculation is an operator, an equals
sign, the same in words, or a number that was computed: one that the question does not contain or, if it is not given, a
new one told as a result ("which leaves 12").

No library reads all of this: those for number words know neither ordinals from fractions nor LaTeX, and those for LaTeX
need a parser of formulas and no running text.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from geolib.checks import one_line
from geolib.reasoning.judge import _ONES, _SPELLED, _TEENS, _TENS, Verdict
from geolib.reasoning.judge import judge as frozen_judge
from geolib.reasoning.questions import Question, check_finite

__all__ = ["Reading", "frozen_judge", "judge"]

_POWERS = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15}
_POWERS |= {"lakh": 10**5, "crore": 10**7}
_SCALES = {"hundred": 100, "dozen": 12, "k": 1000, "bn": 10**9} | _POWERS
_NTHS = ["third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"]
_NTHS += [f"{word}th" for word in [*_TEENS[3:], "hundred", "thousand"]] + [f"{word[:-1]}ieth" for word in _TENS]
_PARTS = {"half": 2, "halve": 2, "quarter": 4, "hundredth": 100, "thousandth": 1000, "twentieth": 20}
_PARTS |= {word: n for n, word in enumerate(_NTHS[:17], start=3)}
_TIMES = {"half": 0.5, "once": 1.0, "twice": 2.0, "thrice": 3.0}


def _any(words: Iterable[str]) -> str:
    return "(?:" + "|".join(words) + ")"


# All patterns take linear time: a run is possessive and matched from its start only, whatever else repeats is bounded.
_POWER, _PART, _NTH = _any(_POWERS), _any(_PARTS), _any(["first", "(?<=-)second", *_NTHS])
_TO_99 = rf"(?:{_any(_TENS)}(?:[- ]{_any(_ONES)}\b)?|{_any(_TEENS)}|{_any(_ONES)}|zero)\b"
_TO_999 = rf"(?:(?:an? |{_TO_99} )?hundred\b(?:(?: and)? {_TO_99})?|{_TO_99})"
_WORDS = rf"(?:{_TO_999}|(?:half )?an?(?= {_POWER}\b))(?: {_POWER}\b(?:,?(?: and)? {_TO_999})?){{0,4}}"
_DIGITS = (
    r"(?<![\w^])(?<!\d[.:])(?!0[xbo][\da-f])(?:\d++(?:\.\d++)?+|\.\d++)(?!\d|(?:st|nd|rd|th)\b)"
    r"(?:e[+-]?\d{1,3}\b|(?: ?[x×*] ?10)?\^-?\d{1,3}\b)?+"
)
_QUANTITY = re.compile(
    r"(?P<sign>(?<![\w)%.^])-|\b(?:minus|negative) )?"
    rf"(?:(?P<digits>{_DIGITS})"
    rf"(?:(?:(?: and |[ -])(?P<top>\d++))?/(?P<bottom>\d++)|[- ](?P<nths>{_any(_NTHS[:17])})s\b)?"
    rf"|\b(?P<words>{_WORDS}|(?:half )?an?(?=[- ](?:{_PART}|dozen)\b)"
    rf"|an?(?= [a-z]{{1,12}} and [a-z1-9]{{1,5}} {_PART}s?\b))"
    rf"(?:[- ](?:and )?(?P<nth>{_NTH})\b|[- ](?P<part>{_PART})s?\b)?"
    rf"|\b(?P<times>{_any(_TIMES)})\b)"
    # an hour "and a half", two "and three quarters"
    rf"(?:(?: [a-z]{{1,12}})? and (?:an?|(?P<parts>one|two|three|four|[1-9]))[- ](?P<rest>{_PART})s?\b"
    r"(?! of (?!an? )))?"
    rf"(?: ?(?P<percent>%|per[ -]?cent\b)| ?(?P<scale>{_any(_SCALES)})s?\b)?"
)

# Two or more terms joined by operators. A term is a number with up to three words of unit, or a single letter.
_TERM = rf"[(\[]{{0,3}}(?:-?{_DIGITS}(?:/\d++)?%?(?: ?/?[a-z]++){{0,3}}?|(?<![\w'.])\d*+[b-hj-z]\b(?!'))[)\]]{{0,3}}"
_OPERATOR = r"(?: ?[+*×÷] ?| [-/x] | (?:times|plus|minus|multiplied by|divided by) )"
_EXPRESSION = re.compile(rf"{_TERM}(?:{_OPERATOR}{_TERM})+")
_CALCULATION = re.compile(
    rf"(?<!answer )=(?!=*>)|[≈≤≥]| [+*×÷] |{_EXPRESSION.pattern}"
    r"|\b(?:multipl(?:y|ied|ying)|subtract(?:s|ed|ing)?|add up|sum of (?!\d)|(?:min|pl)us (?:the|h(?:is|er)|their))\b"
    r"|\bdivid(?:e|ed|ing)\b[^.\n]{0,80} by (?:\d|the (?:number|total|price|cost|amount|time|length))"
    r"|\b(?:we|need to|have to|can|must|should|by|and then) (?:add|subtract|divid|multipl)[a-z]*\b"
    r"|\b(?:product|sum|total|difference|average|ratio) (?:of|between) [^.\n\d]{0,30}\d[^.\n]{0,30} and [^.\n]{0,20}\d"
    r"|\badd(?:s|ed|ing|ition)?\b[^.\n\d]{0,20} \d[^.\n]{0,40} (?:and|to|with) [^.\n\d]{0,20}\d"
    r"|\btak(?:e|es|ing) [^.\n\d]{0,20}\d[^.\n]{0,20} from [^.\n\d]{0,20}\d"
    r"|\d (?:(?:out )?of (?:the )?|over |lots of )\d++ (?:is|are|=|equals|makes|gives)"
    r"|\d (?:(?:more|less|fewer) than|take away) \d"
    r"|\b(?:split|combine|combining|doubling|halving) \d|\d (?:split|doubled|halved|tripled)\b"
    rf"|(?:{_PART}s?|%|percent|\d/\d++) of \d|\b(?:twice|double|triple) \d"
    r"|\b(?:equals|is equal to|is equivalent to)\b[^.\n]{0,40}\d|\b(?:comes|amounts|adds? up) to\b[^.\n]{0,20}\d"
    r"|\b(?:let|call|suppose|say|assume)\b[^.\n]{0,60} [\"']?[xyn]\b"
    r"|(?<![\w-])(?:\d++(?:[yzn]|x(?! (?:optical |digital )?(?:zoom|magnif|faster|bigger|larger|speed|as |more |a )))"
    r"|(?<!plan )(?<!letter )x)(?![\w-])"
)
# New numbers that follow these words, or stand before those, are told as results.
_GIVES = r"which (?:(?:is|was)(?! (?:half of|twice|double|triple)\b)|means|leaves|makes|gives|equals)|so"
_GIVES += r"|therefore|thus|hence|makes?|making|leav(?:es|ing)|giving"
_TOLD = re.compile(
    rf"\b(?:{_GIVES}|meaning|totall?ing|(?:that|this|it) (?:means|leaves|makes|gives|is)|for a total of|in total"
    r"|altogether|half|twice|double|triple)\b[^.\n]*\Z"
)
_LEFT = re.compile(r"(?: [a-z]+){0,3} (?:in total|in all|altogether|left|remain(?:s|ing)?)\b")

_THINK = "(?:think(?:ing)?|thoughts?|reasoning|scratchpad|analysis)"
_OPEN, _CLOSE = rf"[<\[◁]{_THINK}[>\]▷]", rf"[<\[◁]/{_THINK}[>\]▷]"
_THOUGHT = re.compile(rf"(?is){_OPEN}.*?{_CLOSE}|\A.*(?:{_CLOSE}|<\|channel\|>final<\|message\|>)|{_OPEN}.*")
_Rule = tuple[str, str | Callable[[re.Match[str]], str]]
# Applied in this order, the first four before compatibility characters are replaced (NFKC), the others after.
_MONTH = r"(?:(?:jan|febr)uary|march|april|may|june|july|august|(?:septem|octo|novem|decem)ber)"
_RAW: list[_Rule] = [
    ("(?<![-−–])([¼-¾⅐-⅞])", r" \1"),  # NFKC writes ½ as 1⁄2, and would read 1½ as 11⁄2,
    ("(?<![⁰¹²³⁴-⁹⁻])(?=[⁰¹²³⁴-⁹⁻])", "^"),  # 10² as 102, and a narrow space as any other
    (r"(?<=\d)[\u2007\u2009\u202f\u00a0](?=\d{3}(?!\d))", "_"),
    # The X of "plan X" is a name; a small x, or one that is let, called or counted with, is an unknown.
    (r"\b(?!(?:let|be|is|of|than|has|as|by|it|times|and|have|for)\b)([A-Za-z]{1,20}\.?) X\b(?! ?[-+*/=])", r"\1"),
]
_SIGNS = str.maketrans("‐‑‒–—―−’⁄", "-------'/")
_PLAIN: list[_Rule] = [
    # LaTeX
    (r"\\\$", "£"),
    (r"\$\$|\$(?=\S)([^$\n]{1,200}?)(?<=\S)\$(?!\w)", r" \1 "),  # mathematics, not money
    (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox) ?\{([^{}]{0,200})\}", r"\1"),
    (r"(?<=\d) ?(?=\\[dtc]?frac)", " "),
    (r"\\[dtc]?frac ?(?:\{([^{}]{0,60})\}|(\d)) ?(?:\{([^{}]{0,60})\}|(\d))", r"\1\2/\3\4 "),
    (r"\\(?:times|cdot)\b|(?<=\d) ?[·∙⋅] ?(?=\d)", " × "),
    (r"\\div\b", " ÷ "),
    (r"(?<=\d)(?:\\[,;: ]|\{,\}|~)(?=\d{3}(?!\d))", "_"),
    (r"\\\\|\\[\[\]]", "\n"),
    (r"\\(?:left|right|q?quad)\b|\\[,;:!() ]", " "),
    # Signs
    (r"(?<=\d)\*\*(?=\d)", "^"),
    (r"\^[{(](-?\d{1,9})[})]", r"^\1"),
    (r"[^\S\n]+", " "),
    (r"<<[^<>\n]*>>", ""),  # the calculator marks of GSM8K: 15 + 3 = <<15+3=18>>18
    # Digits in groups: in English and India, in Switzerland, in programs, with spaces; on the continent; 2,5 is 2.5.
    (
        r"(?<![\w.,'])[1-9]\d{0,2}(?:(?:,\d{2,3}){0,6},\d{3}(?!,\d)|(?:'\d{3}){1,6}|(?:_\d{3}){1,6}|(?: \d{3}){1,6})"
        r"(?!(?!(?:st|nd|rd|th)\b)[\w'/-])",
        lambda number: re.sub(r"\D", "", number[0]),
    ),
    (
        r"(?<![\w.,])[1-9]\d{0,2}(?:(?:\.\d{3}){2,6}(?:,\d++)?|(?:\.\d{3}){1,6},\d{1,2}"
        r"|(?:(?<=€\d)|(?<=€\d\d)|(?<=€\d\d\d))\.\d{3}|\.\d{3}(?= ?(?:€|euro)))(?![\d,])",
        lambda number: number[0].replace(".", "").replace(",", "."),
    ),
    (r"(?<![\w.,])(\d++),(\d{1,2})(?![\d,]|\.\d)", r"\1.\2"),
    (r"([$£€¥₹]\d[\d.]*+) ?m\b", r"\1 million"),
    (
        r"(?:\b(?:us|ca|au|nz|hk|a|c))?[$£€¥₹](\d++(?:\.\d++)?+(?![/$])"
        r"(?: (?:hundred|thousand|(?:[mb]|tr|quadr)illion)\b|k\b|bn\b)?)",
        r"\1 dollars",
    ),
    (r"\b(mrs?|ms|dr|approx|vs|rs|e\.g|i\.e|a\.m|p\.m)\.(?! ?\n)", r"\1"),
    # Markup: § before an answer
    (r"```[a-z]{0,12}|`", ""),
    (r"(?m)^ ?#{4} ?(?=[^\w\n]{0,3}\d)", "§ "),
    (r"(?m)^[#* ]{1,8}(?:the )?(?:final )?answer[*: ]*\n+", "the answer is: "),
    (r"(?m)^ ?#{1,6} ", ""),
    (r"\\(?:boxed|fbox)\b(?: ?\{((?:[^{}\n]|\{[^{}\n]{0,60}\}){1,120})\})?", r"\n§ \1\n"),
    (r"<(?:final_?)?answer>([^<>]{0,200})", r"\n§ \1\n"),
    (r"</?[a-z][^<>\n]{0,40}>|[\\{}$£€¥₹]", ""),
    (r"[^\S\n|]+|\|", " "),
    (r"(?m)^ ?(?:> ?){1,3}", ""),
    (r"(?m)^ ?(?:[-*+•·] ){1,3}", "• "),
    # A numbered list; "48. She ..." at the start is none.
    (
        r"(?:\A[• ]{0,4}(?:\*\*)?\(?1|\n[• ]{0,4}(?:\*\*)?\(?\d{1,2})(?:[.)]|\*\*[.:)]|:(?=\*\*))(?:\*\*)? (?=\S)",
        "\n• ",
    ),
    # Words become digits, where they are no part of a fraction or an ordinal.
    (
        rf"(?<!\d )\b(?!an? |half |one(?! (?:hundred|{_POWER})\b))(?>{_WORDS})(?![- ](?:and )?(?:{_NTH}|{_PART}s?)\b)",
        lambda words: str(int(_in_words(words[0]))),
    ),
    # Numbers that say something else: labels, dates, sizes (unless 6x8 "is" something), the pronoun
    (r"\b(?:step|day|week|year|episode|option|case|neighbor) #?\d++[:.)]?", ""),
    (r"\b\d{1,4}([/-])\d{1,2}\1\d{2,4}\b|\b[a-z]{3,9} \d{1,2}, (?:19|20)\d\d\b", " "),
    # A day or a decade keeps its digits, for the numbers of a question, but is read as no quantity.
    (rf"\bon ({_MONTH} )?(\d{{1,2}})(?(1)\b|(?= (?:of )?{_MONTH}\b))", r"on \1d\2"),
    (r"\b((?:the|her|his|their|my) )?(?=(?(1)|(?:1[89]|20))\d0'?s\b)", r"\1d"),
    (r"(?<=\d)([-x/])(?=[\d.]{1,20} ?(?:=|is\b|equals\b|makes\b|gives\b))", r" \1 "),
    (
        r"\b(?:no|any|every|each|some|this|that|which|(?:an?|the) (?!answer\b|number\b)[a-z]{1,20}|the"
        r"|\d{1,3}(?:st|nd|rd|th)) one\b(?!-)",
        " ",
    ),
    # What is denied
    (r"~~[^~\n]{1,60}~~|\bneither \d[\d.]*+ nor \d[\d.]*+", " "),
    (
        r"(?:\b(?:not|rather than|instead of)|n't)(?: just| only| exactly| about)? \d[\d./]*+[a-z%]*+"
        r"(?: [a-z]++){0,6}?(?= ?(?:,| but| (?:she|he|it|they|there|we) |[.;¶-]|\n|\Z))",
        " ",
    ),
    (
        r"(?:\bdid(?: not|n't)|\bnever) [a-z]{2,12} \d[\d./]*+[a-z%]*+(?: [a-z]++){0,6}?"
        r"(?=(?:[,;] (?:but|she|he|it|they|there|we)| but)\b[^.\n]{0,60}\d)",
        " ",
    ),
    (
        r",? but i(?:'m| am) not (?:sure|certain)\b"
        r"|(?:\bno|\bnot|n't|\bwithout)(?: (?:need|have))?(?: to)? (?:add|subtract|multiply|divid)(?:e|ing)?\b",
        " ",
    ),
    (r"(?<![\w*])\*(?=[^\s*])([^*\n]{1,200})(?<=\S)\*(?![\w*])", r"\1"),
]
_BOLD = re.compile(r"(?:\*\*|__)([^*_\n]{1,60})(?:\*\*|__)")

_MARKER = re.compile(
    r"§|\b(?<!no )answer(?: to (?:the|this|that|your) [^\n]{1,200}?|(?: [a-z]++){0,3}?)"
    r"(?:(?: is| are| (?:should|would|must) be)(?: still| simply| therefore| thus)?(?: ?[:=])?| ?[:=])[\s•*]*"
)
_ASKS = "(?:do|does|did|is|are|was|were|will|would|can|could|has|have|had|must|should)"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_UNIT = re.compile(r"(?: ?[a-z]++){0,3} ?[.,!]?")
_PREMISE = re.compile(
    r"(?:• )?(?:(?:so|therefore|thus|hence),? )?(?:since|because|if|given|when|as|while|although|though|even though"
    r"|after|with|out of|of|in|for|at|on|by|from|to|during|based on|according to)\b[^,:;]*, "
)
_BEHIND = re.compile(r"[,;]? \b(?:since|because|given that|as (?:she|he|they|it|there|each|the)|after|out of)\b.*")
# 3 boxes of 12 pens each
_PRODUCT = re.compile(r"\d++ [a-z]++ (?:of|with|at) \d++(?: [a-z]++){0,2}?(?: each\b(?! of)|(?= ?[,;:(]| or ))")
_ASIDE = re.compile(r"(?:• )?(?:this is because|note|because|here(?:'s| is)|let me|(?:i )?hope)\b|\(.*\)\.?\Z")
_CONCLUDES = re.compile(r"(?:• )?(?:so|therefore|thus|hence|in conclusion|in total|overall)\b")
_RESULT = re.compile(
    rf"=|≈|\b(?:{_GIVES}|(?:is )?equal(?:s|ing| to)|equivalent to|gives?|(?:to|we|you) get|yields?|(?:comes|amounts) to"
    r"|results? in|that is|i\.e|namely|(?:simplif(?:ies|y)|reduces?) to|totals|totall?ing"
    r"|(?:a|the|in) (?:grand )?total(?: [a-z]++)? of"
    r"|(?:increase[sd]?|decrease[sd]?|rises?|rose|grows?|grew|drops?|dropped|falls?|fell) from [^.,\n]{1,40}? to)\b"
)
_APART = r"[,;]| (?:and|so|but|which|while|because) "
_CLAUSE = re.compile(_APART.replace("and", "and(?= [a-z])"))  # "14 and 16 is 30" is one
_IS = r"(?:(?<!there )(?<!that )(?<!who )(?:is|are|was|were)|costs?|equals?|equal to)"
_PLACED = re.compile("(?: [a-z]+)? (?:in|on|at|for|from|to|with|by) ")
_COMES_TO = re.compile(rf"(?:[=≈]|\b{_IS}(?: (?:[a-z]++ly|about|now|still|just|also|a total of))?) ?\Z")
_COMPARED = re.compile(r"(?: [a-z-]+)? (?:more|less|fewer|[a-z]+er)(?: [a-z]+){0,3} than\b| times (?:as|the|more)")
_IN_TOTAL = re.compile(r"(?: [a-z]+){0,3} (?:in total|in all|altogether)\b")
_KNOW = "[a-z ]{0,20}? ?(?:answer|determined?|tell|say|know|calculated?|f[io]u?nd|compute|conclude"
_KNOW += "|infer|provide|give|solve|be )"
_DECLINES = re.compile(
    rf"\b(?:can(?:no|'| no)t|could(?: not|n't)|(?:un|not )able to|(?:im|not )possible to|no way to){_KNOW}"
    r"|\b(?:(?:not|isn't|aren't) enough|insufficient|no way of|no idea|nobody knows|(?:left|leaves) open"
    r"|nothing (?:is|was) said|nowhere (?:is|does)|silent (?:on|about)|no answer|anyone's guess"
    r"|do(?: not|n't) have enough|unknown|unclear|undetermined|unspecified|unanswerable"
    r"|not (?:sure|certain|clear|how (?:many|much))|(?:is|are)(?: not|n't) in the (?:text|question|problem)"
    r"|(?:(?:do(?:es)?|did)(?: not|n't)|never)"
    r" (?:know|says?|tells?|states?|specify|mentions?|gives?|provides?|reveals?|discloses?|indicates?)"
    r"(?! (?:to whom|why|who)\b)"
    r"|(?:text|question|problem|passage|story) does(?: not|n't) include"
    r"|(?:it|text|question|problem|passage|story) does(?: not|n't) (?:contain|list|name)"
    r"|(?:numbers?|prices?|amounts?|information|details)\b[^.\n\d]{0,40} (?:is|are) missing"
    r"|(?:(?:is|are|was|were|ha(?:s|ve))(?: not|n't| never)(?: been)?(?: [a-z]{1,12}ly)?|\Anot)"
    r" (?:given|stated|said|specified|mentioned|provided|known|told|available)"
    r"|no (?:mention|information|indication)|(?:more|additional|further) (?:information|details|data))\b"
)
_RETRACTION = re.compile(
    r"(?:\A|[.!?\n-]) ?(?:(?:but|oh|hmm|ah|no)[,.]* )?"
    r"(?:wait|no(?=[,.])|hold on|oops|correction|scratch that|sorry|actually|let me correct|my mistake)\b"
    r"|, ?(?:(?:no|sorry|wait),|or rather\b|i mean\b|make that\b)"
)
_BREAKS_OFF = re.compile(r"(?!• (?:\S+ ?){1,3}\Z).*[a-z,;(]\s*\Z")  # a short item of a list needs no full stop


@dataclass(frozen=True)
class Reading(Verdict):
    """A verdict, with the number that it is about.

    Attributes
    ----------
    correct, redundant, kind
        As in :class:`~geolib.reasoning.judge.Verdict`.
    value : float or None
        The number taken as the answer; None if the response gives none. What can be read in two ways, such as "28 %",
        is 28 if that was expected, else 0.28.
    """

    value: float | None


def judge(
    response: str, answer: float, *, question: "str | Question | None" = None, truncated: bool = False
) -> Reading:
    r"""Read the number that a response comes to, compare it with the expected one, and look for calculations.

    >>> judge("So she sold 3 x 12 = 36 pens.", 36)
    Reading(correct=True, redundant=True, kind='reasoning', value=36.0)
    >>> judge("So she sold 3 x 12 = 36 pens.", 12).kind, judge("It is not stated which of the 12.", 12).kind
    ('wrong', 'no-answer')
    >>> text = "Ann has 5 pens and 7 cups. How many pens does Ann have?"
    >>> judge("Ann has 12 things, 7 cups and 5 pens.", 5, question=text)
    Reading(correct=True, redundant=True, kind='reasoning', value=5.0)

    Parameters
    ----------
    response : str
        What the model wrote; any text, of any length. Thinking between tags is not part of the answer, and does not
        count as calculation.
    answer : float
        The expected number. Numbers are equal up to a relative error of 1e-9; 0 is equal to 0 only.
    question : str or Question, optional
        What was asked. Without it, a number that was computed in silence cannot be told from one that was read, and of
        two numbers ("8 pages in 20 minutes") the first is taken.
    truncated : bool
        Whether the response was cut off. Such a response has no answer, even behind a marker: what would have come next
        might have taken it back.

    Returns
    -------
    Reading
        With ``.correct``, ``.redundant``, ``.kind`` and ``.value``.

    Raises
    ------
    TypeError
        If response is not a string, answer not a number, question neither a string nor a Question, or truncated not a
        bool.
    ValueError
        If answer is not finite.
    """
    if not isinstance(response, str):
        raise TypeError(f"judge: response is {type(response).__name__}, but a str was expected")
    check_finite("judge: answer", answer)
    question = getattr(question, "text", question)
    if not isinstance(question, str | None):
        raise TypeError(f"judge: question is {type(question).__name__}, but a str or a Question was expected")
    if not isinstance(truncated, bool | np.bool_):
        raise TypeError(f"judge: truncated is {one_line(truncated)}, but a bool was expected")

    text, known = _tidy(_THOUGHT.sub(" ", response)), None if question is None else _tidy(question)
    redundant = _CALCULATION.search(text) is not None or _computes(text, known)
    asked = None if known is None else _Asked.of(known)
    given = [] if truncated else _given(text, asked)
    equal = [value for value in given if math.isclose(value, answer, rel_tol=1e-9)]
    if equal:
        return Reading(True, redundant, "reasoning" if redundant else "extraction", equal[0])
    return Reading(False, redundant, "wrong" if given else "no-answer", given[-1] if given else None)


def _tidy(text: str) -> str:
    """Reduce a text to lower case and plain signs, with § before an answer and ¶ around a bold quantity."""
    for pattern, by in _RAW:
        text = re.sub(pattern, by, text)
    text = unicodedata.normalize("NFKC", text).lower().translate(_SIGNS)
    for pattern, by in _PLAIN:
        text = re.sub(pattern, by, text)
    return _BOLD.sub(lambda bold: f"¶{bold[1]}¶" if _is_bare(bold[1]) else bold[1], text)


def _given(text: str, asked: "_Asked | None") -> list[float]:
    """Read the number that a tidied response comes to, in all its readings; empty if there is none."""
    # After "wait, no" only what follows counts, if it answers at all.
    if (cues := list(_RETRACTION.finditer(text))) and (given := _concluded(text[cues[-1].end() :], asked)):
        return given
    return _concluded(text, asked)


def _concluded(text: str, asked: "_Asked | None") -> list[float]:
    end = len(text)
    for marker in reversed(list(_MARKER.finditer(text))):
        rest = _SENTENCE_END.split(text[marker.end() : end].lstrip(), maxsplit=1)[0]
        declines, number = _DECLINES.search(rest), _QUANTITY.search(rest)
        if declines and not (number and number.start() < declines.start()):
            return []
        if given := _result(rest)[0]:
            return given
        end = marker.start()

    before, mark, bold = text.rpartition("¶")[0].rpartition("¶")
    sentences = [sentence for sentence in _SENTENCE_END.split(text.replace("¶", "")) if sentence.strip()]
    if mark:
        later = _SENTENCE_END.split(text[len(before) :])[1:]
        if not any(_CONCLUDES.match(sentence) and _QUANTITY.search(sentence) for sentence in later):
            return _result(bold)[0]
    bare = [_is_bare(sentence.lstrip("• ")) for sentence in sentences]
    if sentences and bare[0] and (sentences[0][0] != "•" or sum(bare) == 1) and (given := _result(sentences[0])[0]):
        return given
    direct, well = _direct(sentences, asked)
    for k, sentence in enumerate(reversed(sentences)):
        if _DECLINES.search(sentence):
            if asked and well > 1.2 and 2 * len(_stems(sentence) & asked.words) < len(asked.words):
                return direct  # something else is not stated
            sentence = re.split(rf"\b(?:but|however|so|therefore)\b|\A{_PREMISE.pattern}", sentence)[-1]
            return [] if _DECLINES.search(sentence) else _result(sentence, asked)[0]
        if _ASIDE.match(sentence) and k + 1 < len(sentences):
            continue
        given, fit = _result(sentence, asked)
        if given:  # "therefore" makes up for some of the fit
            return direct if fit < well - 0.4 * bool(_CONCLUDES.match(sentence)) else given
        if k == 0 and len(sentences) > 1 and _BREAKS_OFF.match(sentence):
            return []
    return []


def _direct(sentences: list[str], asked: "_Asked | None") -> tuple[list[float], float]:
    """Read what a first sentence answers before it is explained, and how well it fits the question."""
    if asked and len(sentences) > 1 and not _PREMISE.match(sentences[0]) and not _CALCULATION.search(sentences[0]):
        given, fit = _result(sentences[0], asked)
        if given and fit >= 0.6:
            return given, fit
    return [], -math.inf


def _result(text: str, asked: "_Asked | None" = None) -> tuple[list[float], float]:
    """Read the number that a sentence comes to, and how well it fits what is asked."""
    text = text[:2000]  # no sentence is longer; a run of digits may be
    premise = _PREMISE.match(text)
    if premise and asked is None and _QUANTITY.search(text, premise.end()):
        text = text[premise.end() :]
    # A term of a calculation is no result, nor is what stands in parentheses or behind "since" if there is another.
    for pattern in [_BEHIND] if asked else [_PRODUCT, re.compile(r"\([^()]*\)"), _BEHIND]:
        shorter = pattern.sub(" ", text)
        text = shorter if _quantities(shorter) else text
    text = _EXPRESSION.sub(" | ", text)
    found: list[tuple[re.Match[str], list[float]]] = []
    clause = end = 0
    for match, readings in _quantities(text)[-20:]:
        between = text[max(end, match.start() - 200) : match.start()]
        if _CLAUSE.search(between):
            clause = len(found)
        elif _COMES_TO.search(between):  # nor is what stands before "="
            del found[clause:]
        found.append((match, readings))
        end = match.end()
    if not found:
        return [], 0.0

    after = [text[match.end() : match.end() + 60] for match, _ in found]
    one = [match["words"] == "one" for match, _ in found]
    result, bonus = [k for k, what in enumerate(after) if not one[k] and not _COMPARED.match(what)], 0.1
    for cue in reversed(list(_RESULT.finditer(text))):
        if late := [k for k in result if found[k][0].start() >= cue.end()]:
            result, bonus = late, 0.7 if "total" in cue[0] else 0.4
            break
    default = next((k for k in result if _IN_TOTAL.match(after[k])), result[0] if result else 0)
    if asked is None:
        return found[default][1], 0.0
    fits, scores, before, behind = [], [], "", ""
    for k, (match, readings) in enumerate(found):
        # What is left out is that of the number before: she sold 48 in April and 24 in May; Tom has 12 pens and Ann 9
        clause = re.split(_APART, text[max(0, match.start() - 200) : match.start()])[-1]
        rest = re.split(_APART, text[match.end() : match.end() + 200])[0]
        short = bonus == 0.1
        before = before if short and not clause.strip() and _PLACED.match(rest) else clause
        if short and re.match(" (?:in|on|at|for|from|to|with|by|of) ", rest):
            unit, rest = behind, " ".join([rest, *behind.split()[:1]])
        elif short and not re.search("[a-z%]", rest):
            unit = rest = behind
        else:
            unit, behind = after[k], rest
        words = _stems(before + " " + rest)
        fits.append(len(words & asked.words) / max(1, len(asked.words)) + 0.5 * asked.unit(match, unit))
        aside = (premise and match.end() < premise.end()) or before.rfind("(") > before.rfind(")")
        named = asked.values.intersection(readings)  # "in 20 minutes" of a question says which 8 pages
        scores.append(fits[k] + bonus * (k == default) - 0.6 * bool(named) - 0.3 * bool(aside))
    best = scores.index(max(scores))
    return found[best][1], fits[best]


@dataclass(frozen=True)
class _Asked:
    """What a question asks for: its words, the unit ("how many pages"), and the numbers that it names."""

    words: set[str]
    units: set[str]
    values: set[float]

    @classmethod
    def of(cls, question: str) -> "_Asked":
        asked = re.split(r"(?<=[.!?])\s+", question.strip())[-1][-2000:]
        many = re.search(rf"how many((?: (?!{_ASKS}\b)[a-z'-]+){{1,4}})", asked)
        money = re.search(r"how much\b.{0,200}\b(?:money|cost|pay|paid|spen[dt]|earn|charge|price|dollar)", asked)
        units = _stems(many[1] if many else "dollars cents" if money else "")
        return cls(_stems(asked), {"%"} if "percent" in asked else units, _values(asked))

    def unit(self, number: re.Match[str], after: str) -> float:
        """Up to 1 if a number, with what comes after it, is of the unit; -1 if it is of another."""
        words = [number["scale"] or "", *re.findall("[a-z]+", re.split(r"[.,;=()|\n\d]| and ", after)[0])[:4]]
        same = self.units & ({"%"} if number["percent"] else _stems(" ".join(words)))
        if not self.units or same:
            return (1 + len(same) / len(self.units)) / 2 if same else 0
        return -1 if number["percent"] or _stems(" ".join(words[:2])) else 0


def _stem(word: str) -> str:
    word = _PAST.get(word, word)
    return word.rstrip("s").rstrip("e").replace("y", "i")[:5].rstrip("i")  # boxes, box; puppies, puppy


def _stems(text: str) -> set[str]:
    return {_stem(word) for word in re.findall("[a-z]{2,}", text)} - _SMALL_STEMS


_PAST = {"sold": "sell", "bought": "buy", "drove": "drive", "paid": "pay", "won": "win", "spent": "spend"}
_PAST |= {"made": "make", "got": "get", "gave": "give", "took": "take", "ate": "eat", "ran": "run"}
_PAST |= {"wrote": "write", "caught": "catch"}
_SMALL = """the a an of in on at to for from by and or per each every more less total how many much what is are was were
do does did has have had will would can could must if he she it they his her its their this that with than as after when
there other then"""
_SMALL_STEMS = {_stem(word) for word in _SMALL.split()}


def _is_bare(text: str) -> bool:
    """Whether a text is one quantity with at most three words of unit."""
    text = text.strip()
    quantity = _QUANTITY.match(text)
    return quantity is not None and _UNIT.fullmatch(text, quantity.end()) is not None


def _computes(text: str, question: str | None) -> bool:
    """Whether a number was computed: one that is not in the question or, without it, a new one told as a result."""
    if question is not None:
        known = _values(question) | {float(digits) for digits in re.findall(r"\d+(?:\.\d+)?", question)} | {0.0, 1.0}
        return any(not known.intersection(readings) for _, readings in _quantities(text))
    stated, end = {0.0, 1.0}, 0
    for match, readings in _quantities(text):
        if len(stated) > 2 and not stated.intersection(readings):
            before, after = text[max(end, match.start() - 80) : match.start()], text[match.end() : match.end() + 60]
            if _TOLD.search(before) or (len(stated) > 3 and _LEFT.match(after)):
                return True
        stated.update(readings)
        end = match.end()
    return False


def _quantities(text: str) -> list[tuple[re.Match[str], list[float]]]:
    """Quantities with their readings; "once" or "half" count only where nothing else does."""
    found = [(match, readings) for match in _QUANTITY.finditer(text) if (readings := _readings(match))]
    return [one for one in found if not one[0]["times"]] or found


def _values(text: str) -> set[float]:
    return {value for match in _QUANTITY.finditer(text) for value in _readings(match)}


def _readings(match: re.Match[str]) -> list[float]:
    """List what a quantity can mean: 50% is 50 or 0.5, 2 dozen is 2 (of dozens) or 24, 3 1/2 is 3.5 alone."""
    words, part = match["words"], match["nth"] or match["part"] or match["nths"]
    try:
        value = _TIMES[match["times"]] if match["times"] else _in_digits(match["digits"] or "0")
        value = _in_words(words) if words else value
        if match["top"]:
            value += float(match["top"]) / float(match["bottom"])
        elif match["bottom"]:
            value /= float(match["bottom"])
    except (ZeroDivisionError, OverflowError):
        return []
    if match["nth"]:  # "twenty-fifth" is an ordinal, and so are "the one hundredth" and "a fifth page"
        page = words == "a" and re.compile(" (?!of )[a-z]").match(match.string, match.end())
        if value != 1 or part not in _PARTS or page or match.string.endswith("the ", 0, match.start()):
            return []
    value /= _PARTS[part] if part else 1
    if match["rest"]:
        value += (_in_words(match["parts"]) if match["parts"] in _ONES else float(match["parts"] or 1)) / _PARTS[
            match["rest"]
        ]
    value = -value if match["sign"] else value
    scale = 0.01 if match["percent"] else _SCALES.get(match["scale"], 1)
    return [one for one in dict.fromkeys((value, value * scale)) if math.isfinite(one)]


def _in_digits(digits: str) -> float:
    """Value of digits, which may have a power: 1.5e6, 10^3, 2 x 10^-3."""
    if digits.isdecimal():  # the most frequent case by far
        return float(digits)
    base, _, power = digits.partition("^")
    factor, _, ten = re.sub("[x×*]", " ", base).partition(" ")
    exponent = float(power or 1)
    return float(factor) * 10.0**exponent if ten else float(factor) ** exponent


def _in_words(words: str) -> float:
    total = group = 0.0
    for word in re.split("[- ,]+", words):
        if word in _POWERS:
            total, group = total + (group or 1) * _POWERS[word], 0.0
        elif word == "hundred":
            group = (group or 1) * 100
        elif word == "half":
            group = 0.5
        elif word in ("a", "an"):
            group = group or 1.0
        elif word != "and":
            group += _SPELLED[word]
    return total + group
