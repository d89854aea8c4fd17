"""Names of the book's runs, and whether there are questions enough for one: known before torch is imported."""

from collections.abc import Sequence

from geolib.reasoning.protocol import Split
from geolib.reasoning.questions import Question

# The runs of Part III, and how many examples there have to be in the pool, where it is not as many as the most shown.
NAMES = ("bare", "shots", "ablations", "repeats", "right", "chain", "many", "other-sets", "intervention", "choosing")
# Round two: fresh questions, whose order and prompts the plans fix.
ROUND_TWO = ("sharper", "margins", "arms", "second", "dose", "within", "rounding", "length")
# Runs whose counts and entropies of each head are published; those of all runs would take more than 40 MB.
WITH_HEADS = ("bare", "shots", "sharper")
SHOTS = tuple(range(1, 11))
_LEAST = {"bare": 0, "repeats": 0, "chain": 0, "many": 16, "other-sets": 2 * max(SHOTS), "length": 32}


def check_run(name: str, questions: Sequence[Question], parted: Split) -> None:
    """Refuse an unknown run, or one that needs more questions than there are.

    Parameters
    ----------
    name : str
        One of :data:`NAMES` or :data:`ROUND_TWO`.
    questions : sequence of Question
    parted : Split
        The split of ``questions``.

    Raises
    ------
    ValueError
        ``name`` is unknown, or the pool of examples is too small.
    """
    if name not in (known := NAMES + ROUND_TWO):
        raise ValueError(f"run: name is {name!r}, but one of {', '.join(known)} was expected")
    if len(parted.pool) < (least := _LEAST.get(name, max(SHOTS))):
        shown = f"{name!r} shows a fifth of them as examples (--questions)"
        raise ValueError(f"run: questions has {len(questions)}, but {5 * least} were expected: {shown}")
