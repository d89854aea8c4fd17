"""The rules by which entries of an attention map count as edges: one table, which everything that counts reads.

ID_eps is a number of edges (arXiv 2407.02678, eq. 8), so it depends on what an edge is. A rule is one entry of
`RULES`: a name and a `Rule`, or any function of weights and eps that returns a mask. An entry that is added is counted
by `attention_dimension`, `eps_support`, `Sweep` and the shell from then on.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from geolib.checks import fraction, one_line


@dataclass(frozen=True)
class Rule:
    """Which weights of a row are edges.

    Attributes
    ----------
    keep : callable
        Takes a tensor of weights, shape=[..., keys], which are 0 where a key is hidden, and a float eps; returns a mask
        of the same shape. A larger eps must not keep more.
    says : str
        What the rule keeps, for help texts.
    score : callable, optional
        For a rule that keeps the weights above a threshold in each row. Takes scores, shape=[..., keys], and the
        logarithm of the softmax's denominator, shape=[..., 1]; returns a score for each row, shape=[..., 1]. The
        threshold of the scores is that score plus log(eps), so that counting all tokens needs no softmax.
    """

    keep: Callable
    says: str
    score: Callable | None = None

    def __call__(self, weights: Any, eps: float) -> Any:
        """Return the mask of the weights that are kept."""
        return self.keep(weights, eps)


RULES = {
    # Eq. 8 as it is printed. For both rules, a weight equal to the threshold does not exceed it.
    "absolute": Rule(lambda weights, eps: weights > eps, "entries above eps", lambda scores, normaliser: normaliser),
    # The released code of arXiv 2312.01648.
    "relative": Rule(
        lambda weights, eps: weights > eps * weights.amax(-1, keepdim=True),
        "entries above eps times the row's largest",
        lambda scores, normaliser: scores.amax(-1, keepdim=True),
    ),
}
SHIPPED = dict(RULES)


def keep(rule: str, weights: Any, eps: float) -> Any:
    """Return the mask of the weights, a tensor, that are edges by a rule, after checking what the rule returns."""
    kept = RULES[rule](weights, eps)
    if str(getattr(kept, "dtype", None)) != "torch.bool" or kept.shape != weights.shape:
        found = f"{type(kept).__name__} of {getattr(kept, 'dtype', None)}, shape {tuple(getattr(kept, 'shape', ()))}"
        raise ValueError(f"RULES: {rule!r} gives {found}, but torch.bool, shape {tuple(weights.shape)} was expected")
    return kept


def several(value: Any) -> tuple:
    """Return the items of a sequence as a tuple, or one value as a tuple of one. A set has no order: it is one value.

    >>> several([3, 4]), several("absolute"), several({3})
    ((3, 4), ('absolute',), ({3},))
    """
    many = np.iterable(value) and hasattr(value, "__len__") and not isinstance(value, str | bytes | Set | Mapping)
    return tuple(value) if many else (value,)


def check_rule(function: str, rule: Any) -> tuple[str, ...]:
    """Return the names of rules, of which one or a sequence of different ones is given."""
    rules = several(rule)
    known = rules and all(isinstance(one, str) and one in RULES for one in rules)
    if not known or len(set(rules)) < len(rules):
        shown = rule[0] if isinstance(rule, list) and len(rule) == 1 else rule
        expected = f"{' or '.join(map(repr, RULES))}{', each once,' if known else ''}"
        raise ValueError(f"{function}: rule is {one_line(shown)}, but {expected} was expected")
    return rules


def check_eps(function: str, eps: Any, *, zero: bool = False, distinct: bool = False) -> tuple[float, ...]:
    """Return thresholds as floats, of which one or a sequence is given.

    Parameters
    ----------
    function : str
    eps : float or sequence of float
        In (0, 1).
    zero : bool
        Whether 0 is allowed too.
    distinct : bool
        Whether they must differ in six digits, which are the digits in the names of columns.

    Raises
    ------
    TypeError, ValueError
        If there is no threshold, or one is not a number, out of range or, with `distinct`, given twice.
    """
    eps = tuple(fraction(f"{function}: eps", value, zero=zero) for value in several(eps))
    if not eps:
        raise ValueError(f"{function}: eps is empty, but at least one threshold was expected")
    if distinct and len({f"{value:g}" for value in eps}) < len(eps):
        raise ValueError(f"{function}: eps is {one_line(eps)}, but thresholds that differ in six digits were expected")
    return eps


def column(rule: str, eps: float, what: str = "id") -> str:
    """Return the name of the column that holds what a rule counts.

    >>> column("absolute", 0.1)
    'id_absolute_0.1'
    """
    return f"{what}_{rule}_{eps:g}"
