"""Questions like those of GSM8K-Zero, made here: word problems whose answer their text already states.

GSM8K-Zero (Chiang and Lee 2024, arXiv:2401.11467) was made by asking of a GSM8K story for a number that stands in it.
The stories below are our own. Each states a few numbers and hints at something to calculate ("twice as many", "the
rest"), and its questions ask for one of the numbers, so that extraction is enough and calculation is redundant.
"""

import re
from numbers import Integral

import numpy as np

from geolib.reasoning.questions import Question

_WORDS = {
    "name": "Amara Bram Chiyo Dario Elif Femi Greta Hana Imran Jonna Kofi Leila Mateo Nadia Oskar Paloma Quentin "
    "Rosa Soren Tomoko Ulla Viktor Wanda Ximena Yusuf Zofia",
    "friend": "Agata Bilal Carmen Dmitri Esi Fatima Goran Helmi Ibrahim Julia Kenji Lotte Miro Noor Olga Pedro",
    "fruit": "apples pears plums quinces cherries apricots",
    "tree": "apple pear plum walnut chestnut hazel",
    "bird": "gulls terns puffins herons cormorants oystercatchers",
    "fish": "herring mackerel sardines sprats cod haddock",
    "bread": "rye spelt barley wheat oat",
    "bun": "cinnamon cardamom poppy-seed raisin almond",
    "voice": "sopranos altos tenors basses",
    "sport": "road mountain racing touring folding",
    "stone": "granite basalt sandstone slate marble",
    "flower": "tulips dahlias irises peonies lilies",
    "colour": "red blue green yellow orange purple",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "month": "March April May June July August September October",
    "town": "Aldersey Brackwater Corvia Dunmere Eastholm Farrow Glenoak Harvik",
}
_WORDS = {kind: words.split() for kind, words in _WORDS.items()}

_OPENINGS = [
    "",
    "",
    "It was an ordinary week. ",
    "The rain had just stopped. ",
    "Nobody was in a hurry that day. ",
    "Here is what the notebook says. ",
    "This happened in {town}. ",
]
_ASKING = ["{}", "{}", "So, {}", "Now, {}", "Tell me, {}", "The question is: {}"]

# Stories, each followed by questions that ask for one of its numbers, given by position: 0 is the first. "[4-30]" is a
# whole number from 4 to 30, "[2.5-5.5]" a number with one decimal. No range holds 0, 1 or 2, so every noun is in the
# plural, and "half", "twice" or "a third" cannot be mistaken for the answer.
_STORIES = """\
{name} keeps [4-30] beehives near {town}. In {month} they gave [40-95] jars of honey, and {friend} bought a third of
the jars for $[5-12] each.
    0: How many beehives does {name} keep? 2: How many dollars did {friend} pay for each jar?
The ferry to {town} carries [60-180] passengers and [12-40] cars. On {day} it made [3-9] crossings, twice as many as
on the day before.
    0: How many passengers does the ferry carry? 2: How many crossings did the ferry make on {day}?
In {name}'s orchard there are [15-60] {tree} trees in [3-12] rows. Each tree gives about [20-45] kilograms, and half
of the harvest is pressed.
    0: How many {tree} trees are there in the orchard? 2: How many kilograms does each tree give?
{name} borrowed [3-9] novels from the library and has [10-28] days to read them. The longest novel has [310-720]
pages, twice as many as the shortest.
    1: How many days does {name} have to read the novels? 2: How many pages does the longest novel have?
A bakery sells [30-90] loaves of {bread} bread before noon and [100-220] {bun} buns in the whole day. A loaf costs
$[3-8], and the price of a bun is half of that.
    0: How many loaves of {bread} bread does the bakery sell before noon? 2: What does a loaf cost in dollars?
{name} leads a choir of [24-60] singers, of whom [6-14] are {voice}. They rehearse for [70-150] minutes every {day},
and a quarter of that time goes into warming up.
    0: How many singers are in the choir? 1: How many of the singers are {voice}?
The telescope on the hill took [80-240] pictures last night, each exposed for [15-75] seconds. {name} deleted [5-14]
of them because of clouds.
    0: How many pictures did the telescope take last night? 2: How many pictures did {name} delete?
{name} repairs {sport} bikes. Fixing a wheel takes [15-28] minutes and costs $[30-55]; on {day} the shop fixed [3-9]
wheels and sold a saddle at half price.
    0: How many minutes does it take to fix a wheel? 2: How many wheels did the shop fix on {day}?
A chemist pours [120-450] millilitres of water into a flask and adds [5-30] grams of salt. After [40-90] minutes a
third of the water has evaporated.
    0: How many millilitres of water does the chemist pour? 1: How many grams of salt does the chemist add?
At low tide {name} counted [35-120] {bird} on the sandbank and {friend} counted [12-30] more on the pier. By [4-9]
o'clock half of them had left.
    0: How many {bird} did {name} count on the sandbank? 1: How many {bird} did {friend} count on the pier?
The boat of {name} landed [250-900] kilograms of {fish} in {month}. The market pays $[3-9] a kilogram, and the
harbour keeps [10-25] percent of the money.
    0: How many kilograms of {fish} did the boat land? 2: What percentage of the money does the harbour keep?
A museum shows [45-130] paintings in [5-14] rooms. Tickets are $[16-30], and children pay half.
    0: How many paintings does the museum show? 1: In how many rooms are the paintings shown?
The lighthouse of {town} is [21-48] metres high and flashes every [5-15] seconds. {name} climbs its [90-190] steps
twice a day.
    0: How many metres high is the lighthouse? 2: How many steps does the lighthouse have?
{name} shaped [18-40] bowls and [7-15] vases out of [50-95] kilograms of clay. Every third bowl cracked in the kiln.
    0: How many bowls did {name} shape? 2: How many kilograms of clay did {name} use?
In the greenhouse {name} planted [24-90] {colour} {flower} in [3-8] beds and waters them with [100-240] litres a
week, twice as much as in winter.
    0: How many {flower} did {name} plant? 2: How many litres of water do the {flower} get in a week?
The chess club of {town} has [14-38] members. On {day} they played [40-90] games, and {name} won [3-12] of them,
half of those with the white pieces.
    0: How many members does the chess club have? 2: How many games did {name} win?
A printer can print [22-48] pages a minute. {name} wants [150-400] copies of a leaflet of [3-12] pages by {day}.
    0: How many pages can the printer print in a minute? 1: How many copies of the leaflet does {name} want?
The theatre has [12-26] rows of [28-40] seats. For the premiere [260-330] tickets were sold, a fifth of them to
students.
    0: How many rows does the theatre have? 2: How many tickets were sold for the premiere?
On {day} the weather station of {town} measured [5-19] millimetres of rain and gusts of [40-95] kilometres an hour.
The day before there was rain for [100-300] minutes, and twice as much of it.
    0: How many millimetres of rain did the station measure on {day}? 1: How fast were the gusts on {day}?
An aquarium holds [1200-4800] litres. {name} feeds its [35-90] fish [110-260] grams of flakes a day, half in the
morning and the rest at night.
    0: How many litres does the aquarium hold? 1: How many fish live in the aquarium?
Tram line [3-12] has [18-34] stops and takes [40-75] minutes from end to end. {name} rides half of the way.
    1: How many stops does the tram line have? 2: How many minutes does the tram take from end to end?
From the ridge above {town}, {name} walked [7.5-18.5] kilometres on {day} and climbed [450-980] metres. The next
hike, with {friend}, was [3-6] kilometres shorter.
    0: How many kilometres did {name} walk on {day}? 1: How many metres did {name} climb on {day}?
A clockmaker sold [5-14] wall clocks at $[85-160] each and [16-40] watches. Every watch cost twice as much as a wall
clock.
    0: How many wall clocks did the clockmaker sell? 1: What was the price of each wall clock in dollars?
The ski lift has [30-70] cabins for [4-8] people each, and a ride lasts [9-18] minutes. In the afternoon a third of
the cabins stay empty.
    0: How many cabins does the ski lift have? 2: How many minutes does a ride last?
{name} reads the news on the radio [5-9] times a day, [12-20] minutes each time. In {month}, [2500-6800] people
listened, twice as many as a year ago.
    0: How many times a day does {name} read the news? 2: How many people listened in {month}?
{name} swam [20-44] lengths of a pool that is [25-50] metres long. {friend} swam [3-12] lengths fewer, and then half
as many again.
    0: How many lengths did {name} swim? 2: How many lengths fewer than {name} did {friend} swim?
A sawmill cuts [40-110] planks an hour from [6-18] logs. Each plank is [2.5-5.5] metres long, and a tenth of the
wood is lost as dust.
    0: How many planks does the sawmill cut in an hour? 2: How many metres long is each plank?
In the tea house a pot serves [3-6] guests and costs $[7-15]. {name} filled [25-60] pots on {day}, half of them with
mint.
    1: How many dollars does a pot cost? 2: How many pots did {name} fill on {day}?
A puppet play has [4-11] acts. {name} moves [12-20] puppets, made out of [30-65] pieces of wood, and {friend} paints
a quarter of them.
    0: How many acts does the puppet play have? 1: How many puppets does {name} move?
Divers planted [150-480] corals on [8-20] frames. After [25-60] weeks a third of the corals had doubled in size.
    0: How many corals did the divers plant? 1: On how many frames did the divers plant the corals?
The night train to {town} has [9-16] coaches and [180-340] beds. It is [20-55] minutes late, half as late as on
{day}.
    0: How many coaches does the night train have? 2: By how many minutes is the night train late?
At the canal lock, [15-38] barges passed on {day}, and each paid $[40-75]. The lock keeper has worked there for
[3-14] years, twice as long as {name}.
    0: How many barges passed on {day}? 2: For how many years has the lock keeper worked there?
{name} and {friend} sew a quilt out of [80-240] squares. They have [12-30] evenings, and it takes [35-60] squares to
finish the {colour} border.
    0: How many squares does the whole quilt take? 2: How many squares does the {colour} border take?
The ice rink rents skates for $[5-9] a pair. On {day} [110-260] visitors came, [20-70] of them with skates of their
own, and half of the others brought gloves.
    0: How many dollars does a pair of skates cost to rent? 1: How many visitors came on {day}?
A seed bank stores [1500-7500] kinds of seeds at [15-30] degrees below zero. {name} tests [40-120] kinds a month,
and nine tenths of them sprout.
    0: How many kinds of seeds does the seed bank store? 2: How many kinds does {name} test in a month?
For the kite festival {name} built [6-15] kites with tails of [2.5-5.5] metres and used [45-90] metres of string for
each of them.
    0: How many kites did {name} build? 2: How many metres of string did {name} use for each kite?
The robot club spent $[140-390] on motors and $[60-120] on wheels. Its [5-18] members share the cost, and {name}
pays twice the share of {friend}.
    0: How many dollars did the robot club spend on motors? 2: How many members does the robot club have?
{name} binds [7-16] books a day. Each has [180-420] sheets and needs [25-60] centimetres of thread, and a leather
cover takes twice as long as a linen one.
    0: How many books does {name} bind in a day? 1: How many sheets does each book have?
From [1100-3900] litres of sea water the salt works near {town} win [30-95] kilograms of salt in [5-20] days. Half
of the salt goes to {friend}.
    0: How many litres of sea water are used? 2: How many days does it take to win the salt?
A mason laid [130-420] blocks of {stone} in [6-18] days for a wall [22-60] metres long. The gate took a quarter of
the time.
    0: How many blocks of {stone} did the mason lay? 2: How many metres long is the wall?
{name} picked [45-120] {fruit} and gave [5-20] of them to each of [3-4] neighbours. The rest went into jam.
    0: How many {fruit} did {name} pick? 1: How many {fruit} did {name} give to each neighbour?
The archive scanned [300-900] maps in {month}, [40-95] of them drawn by hand. A scan takes [4-12] minutes, and a
torn map twice as long.
    0: How many maps did the archive scan in {month}? 1: How many of the scanned maps were drawn by hand?
{name}'s band plays [9-15] songs in [50-85] minutes. They sold [120-280] tickets in {town}, a third more than last
time.
    0: How many songs does the band play? 2: How many tickets did the band sell in {town}?
A flock of [30-85] sheep grazes on [5-18] hectares. {name} shears [20-29] sheep a day and {friend} half as many.
    0: How many sheep are in the flock? 2: How many sheep does {name} shear in a day?
"""
_TEMPLATES = [
    (story.replace("\n", " "), re.findall(r"(\d): ([^?]+\?)", questions))
    for story, questions in re.findall(r"((?:\S.*\n)+)((?: +.*\n)+)", _STORIES)
]
_RANGE = re.compile(r"\[([\d.]+)-([\d.]+)\]")


def generate_questions(n: int, *, seed: int = 0) -> list[Question]:
    """Make word problems that look like arithmetic and ask for a number that they state.

    >>> question = generate_questions(3)[0]
    >>> f"{question.answer:g}" in question.text
    True

    Parameters
    ----------
    n : int
        How many, all with different texts. A larger n starts with the questions of a smaller one.
    seed : int
        Of the draws. The same seed gives the same questions.

    Returns
    -------
    list of Question
        Indices 0 to n - 1. The answer stands in the text once; the other numbers there differ from it.

    Raises
    ------
    TypeError, ValueError
        If n is not a positive integer, or seed not a non-negative one.
    """
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(f"generate_questions: {name} is {value!r}, but an integer was expected")
        if value < least:
            raise ValueError(f"generate_questions: {name} is {value}, but at least {least} was expected")
    rng = np.random.default_rng(seed)
    answers: dict[str, float] = {}  # by text; a text drawn again changes nothing
    while len(answers) < n:
        text, answer = _draw(rng)
        answers.setdefault(text, answer)
    return [Question(text, answer, index) for index, (text, answer) in enumerate(answers.items())]


def _draw(rng: np.random.Generator) -> tuple[str, float]:
    story, questions = _pick(rng, _TEMPLATES)
    position, question = _pick(rng, questions)
    asking = _pick(rng, _ASKING)
    if asking != "{}":
        question = question[0].lower() + question[1:]
    text = _pick(rng, _OPENINGS) + story + asking.format(question)
    text = text.format(**{kind: _pick(rng, words) for kind, words in _WORDS.items()})

    ranges = _RANGE.findall(story)
    numbers: list[float] = []
    while len(set(numbers)) < len(ranges):
        numbers = [_number(rng, low, high) for low, high in ranges]
    shown = (f"{number:,}" for number in numbers)
    return _RANGE.sub(lambda _: next(shown), text), float(numbers[int(position)])


def _number(rng: np.random.Generator, low: str, high: str) -> int | float:
    if "." in low:
        return int(rng.integers(round(10 * float(low)), round(10 * float(high)) + 1)) / 10
    return int(rng.integers(int(low), int(high) + 1))


def _pick(rng: np.random.Generator, options: list):
    return options[rng.integers(len(options))]
