"""The rules by which entries of an attention map count as edges: one table, which everything that counts reads.

ID_eps is a number of edges (arXiv 2407.02678, eq. 8), and so depends on what an edge is. A rule is one entry of
`RULES`: a name and a `Rule`, or any function of weights and eps that returns a mask. An entry that is added is counted
by `attention_dimension`, `eps_support`, `Sweep` and the shell from then on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np

from geolib.checks import one_line


@dataclass(frozen=True)
class Rule:
    """Which weights of a row are edges.

    Attributes
    ----------
    keep : callable
        Takes weights, a tensor of shape=[..., keys] that are 0 where a key is hidden, and a float eps; returns a mask
        of the same shape. No larger eps keeps more.
    says : str
        What it keeps, for help texts.
    score : callable, optional
        For a rule that keeps what exceeds a threshold in each row. Takes scores, shape=[..., keys], and the logarithm
        of the softmax's denominator, shape=[..., 1]; returns, shape=[..., 1], the score that plus log(eps) is the
        threshold. Counting all tokens then needs no softmax.
    """

    keep: Callable
    says: str
    score: Callable | None = None

    def __call__(self, weights, eps):
        """Mask of the weights that are kept."""
        return self.keep(weights, eps)


RULES = {
    # Eq. 8 as it is printed. A weight of exactly the threshold does not exceed it, here and below.
    "absolute": Rule(lambda weights, eps: weights > eps, "entries above eps", lambda scores, normaliser: normaliser),
    # The released code of arXiv 2312.01648.
    "relative": Rule(
        lambda weights, eps: weights > eps * weights.amax(-1, keepdim=True),
        "entries above eps times the row's largest",
        lambda scores, normaliser: scores.amax(-1, keepdim=True),
    ),
}
SHIPPED = dict(RULES)


def keep(rule, weights, eps):
    """Mask of the weights, a tensor, that are edges by the rule of a name; an added one may give something else."""
    kept = RULES[rule](weights, eps)
    if str(getattr(kept, "dtype", None)) != "torch.bool" or kept.shape != weights.shape:
        found = f"{type(kept).__name__} of {getattr(kept, 'dtype', None)}, shape {tuple(getattr(kept, 'shape', ()))}"
        raise ValueError(f"RULES: {rule!r} gives {found}, but torch.bool, shape {tuple(weights.shape)} was expected")
    return kept


def check_rule(function, rule) -> tuple[str, ...]:
    """Names of rules, given one or a sequence of different ones; `function` opens the error."""
    rules = (rule,) if isinstance(rule, str) or not np.iterable(rule) else tuple(rule)
    known = rules and all(isinstance(one, str) and one in RULES for one in rules)
    if not known or len(set(rules)) < len(rules):
        shown = rule[0] if isinstance(rule, list) and len(rule) == 1 else rule
        expected = f"{' or '.join(map(repr, RULES))}{', each once' if known else ''}"
        raise ValueError(f"{function}: rule is {one_line(shown)}, expected {expected}")
    return rules


def check_eps(function, eps, *, zero=False, distinct=False) -> tuple[float, ...]:
    """Thresholds as floats, given one or a sequence of them; `function` opens the error.

    Parameters
    ----------
    function : str
    eps : float or sequence of float
        In (0, 1).
    zero : bool
        Whether 0 is allowed too.
    distinct : bool
        Whether they must differ in six digits, as the names of columns do.

    Raises
    ------
    TypeError, ValueError
        None at all, something that is no number, or a number that is out of range or there twice.
    """
    many = np.iterable(eps) and hasattr(eps, "__len__") and not isinstance(eps, str | bytes)
    values = tuple(eps) if many else (eps,)
    expected = f"expected a number {'from 0 on, less than 1' if zero else 'between 0 and 1'}"
    if not values:
        raise ValueError(f"{function}: eps is empty, expected at least one threshold")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{function}: eps is {one_line(value)}, {expected}")
        if not (0 < value < 1 or (zero and value == 0)):
            raise ValueError(f"{function}: eps is {value}, {expected}")
    values = tuple(float(value) for value in values)
    if distinct and len({f"{value:g}" for value in values}) < len(values):
        raise ValueError(f"{function}: eps is {one_line(values)}, expected thresholds that differ in six digits")
    return values


def column(rule, eps, what="id") -> str:
    """Name of the column that holds what a rule counts.

    >>> column("absolute", 0.1)
    'id_absolute_0.1'
    """
    return f"{what}_{rule}_{eps:g}"
