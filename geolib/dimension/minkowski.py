"""Theorem 2.1 in code: the dimension of the set in which a row of multi-head attention lies, and whether it does.

For one token, a head mixes the points O_h^T v_hj of the tokens j in its support S_h with convex weights. So it lies in
their convex hull, and the sum over heads in the Minkowski sum of the hulls (arXiv 2407.02678, Theorem 2.1). Differences
within the heads span that set's directions: its dimension is the rank of all O_h^T (v_hj - v_hk), j and k in S_h.
"""

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch

from geolib.checks import finite_array, integer, masked, one_line
from geolib.dimension.heads import AttentionHeads
from geolib.dimension.points import distinct_rows
from geolib.dimension.rules import check_eps, check_rule, keep


@dataclass(frozen=True, eq=False)
class MinkowskiDimension:
    """Dimension of a Minkowski sum of heads, and its bounds, made by `minkowski_dimension`.

    Attributes
    ----------
    rank : int
        Dimension of the Minkowski sum: the rank of all differences within the heads.
    bound : int
        ``min(width, sum over heads of min(|S_h| - 1, rank O_h))``; with a sink ``|S_h|`` in place of ``|S_h| - 1``. The
        rank of O_h stands for that of O_h^T V_h^T, which is the same unless the value projection loses dimensions.
    paper_bound : int
        Sum over heads of ``|S_h|`` (arXiv 2407.02678, eq. 7).
    saturation : int
        From how many tokens on, all in every support, ``bound`` no longer grows.
    per_head : int array, shape=[heads]
        Dimension of each head's own hull; at most ``rank``, and their sum at least that.
    margin : tuple of float
        How clear the decisions on rank were: the smallest relative singular value that was counted, and the largest
        that was not. They lie on either side of ``rtol``.
    """

    rank: int
    bound: int
    paper_bound: int
    saturation: int
    per_head: np.ndarray
    margin: tuple[float, float]


def minkowski_dimension(values, out_proj, support, *, sink=False, rtol=None) -> MinkowskiDimension:
    """Dimension of the Minkowski sum in which one token's row of multi-head attention lies, and its bounds.

    Parameters
    ----------
    values : array-like, shape=[heads, tokens, head_dim]
        What the heads mix; heads that share values each hold them.
    out_proj : array-like, shape=[heads, head_dim, width]
        Output projection, split by head.
    support : array-like, shape=[heads, tokens], bool
        Which tokens each head attends to. A head that attends to none was cut away: it adds the point 0.
    sink : bool
        Whether weights may sum to less than 1: then 0 is one more vertex of every head's hull.
    rtol : float, optional
        Relative size below which a singular value counts as 0; by default 1e-10, or 2e-6 for `values` in float32
        or float16. Tokens whose values differ by at most four times as much of their norm are one point: 64 units in
        the last place of float32, as rounding in such a model leaves of equal tokens. Values of 16 bits count as they
        are: where equal points may differ by a step of such a type, give 2e-3, or 2e-2 for bfloat16.

    Returns
    -------
    MinkowskiDimension

    Raises
    ------
    TypeError, ValueError
        If shapes do not fit, numbers are not finite, `support` is not boolean or empty for all heads, or `rtol` is not
        between 0 and 1.

    Notes
    -----
    Rank is decided in float64 in three steps, each against its own scale, so that neither a head nor a projection of
    small numbers is lost beside a large one: the values of each head less the shortest of them, each on the scale of
    its own norm, relative to the largest singular value before that was taken off; their directions after the
    projection, relative to the projection's; and the heads' orthonormal bases put together. Cost: a QR factorisation of
    each head's values, and one SVD of at most heads * head_dim rows, however many tokens there are.

    Examples
    --------
    Two heads in three dimensions: one mixes three points of a plane, the other two points on a line.

    >>> values = [[[0, 0], [1, 0], [0, 1]], [[0, 0], [1, 0], [2, 0]]]
    >>> out_proj = [[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, 1, 0]]]
    >>> both = minkowski_dimension(values, out_proj, [[True, True, True], [False, True, True]])
    >>> both.rank, both.per_head.tolist(), both.bound, both.paper_bound, both.saturation
    (3, [2, 1], 3, 5, 3)
    """
    values, out_proj, support, rtol = _check(values, out_proj, support, rtol)
    width = out_proj.shape[2]
    # O_h = R_h^T Q_h^T with orthonormal columns in Q_h: all decisions but the last are on small matrices.
    frames, factors = np.linalg.qr(out_proj.swapaxes(1, 2))
    sizes = np.linalg.svd(factors, compute_uv=False)
    ratios, bases = [], []
    for value, attended, frame, factor, size in zip(values, support, frames, factors, sizes, strict=True):
        points = _distinct(value[attended], 4 * rtol)
        points = np.vstack([points, np.zeros((int(bool(sink)), value.shape[1]))])
        directions = _row_space(*_spread(points), rtol, ratios)
        bases.append(_row_space(directions @ factor.T, size[0], rtol, ratios) @ frame.T)
    ratios.append(np.linalg.svd(np.vstack(bases), compute_uv=False))  # rows of norm 1: the largest is 1 or a few
    rank = int((ratios[-1] > rtol).sum())
    n_attended, ranks = support.sum(axis=1), head_ranks(factors, rtol)
    by_tokens = np.arange(values.shape[2] + 2)[:, None] - (not sink)  # dimension of a hull of 0, 1, 2, ... tokens
    saturated = np.minimum(np.minimum(by_tokens, ranks).sum(axis=1), width)
    ratios = np.concatenate([*ratios, [0.0]])
    return MinkowskiDimension(
        rank=rank,
        bound=int(min(width, np.minimum(np.maximum(n_attended - (not sink), 0), ranks).sum())),
        paper_bound=int(n_attended.sum()),
        saturation=max(1, int(np.argmax(saturated == saturated[-1]))),
        per_head=np.array([len(basis) for basis in bases]),
        margin=(float(ratios[ratios > rtol].min(initial=1)), float(ratios[ratios <= rtol].max())),
    )


def head_ranks(out_proj, rtol=2e-6):
    """Rank of each head's output projection, or of what it is made of, shape=[heads, ...]."""
    sizes = np.linalg.svd(out_proj, compute_uv=False)
    return (sizes > rtol * sizes[:, :1]).sum(axis=1)


def _distinct(points, rtol):
    """One of each set of points that differ by rtol of their norm at most."""
    # The largest entry first, so that no square over- or underflows; a point beyond these is equal to no other.
    with np.errstate(all="ignore"):
        scaled = points / max(np.abs(points).max(initial=0), np.finfo(float).tiny)
    return points[distinct_rows(scaled, rtol * np.linalg.norm(scaled, axis=1))]


def _spread(points):
    """Differences from the shortest point, each on the scale of its own point's norm, and the size of what they are of.

    Rounding is relative to each point's own norm: so scaled, it is as far below 1 in all of them, and a long point
    hides no short ones. The rank is that of the differences.
    """
    if not len(points):
        return points, 0.0
    # The largest entries first: squares in a norm over- and underflow where the values themselves do not.
    largest = np.abs(points).max(axis=1)
    largest = np.where(largest > 0, largest, 1)[:, None]
    norms = np.linalg.norm(points / largest, axis=1)[:, None]
    scale = np.where(norms > 0, norms, 1)
    A = points / largest / scale
    with np.errstate(over="ignore"):
        shortest = points[(largest * norms).argmin()]
    return (points / largest - shortest / largest) / scale, math.sqrt(max(np.linalg.eigvalsh(A.T @ A)[-1], 0))


def _row_space(A, scale, rtol, ratios):
    """Orthonormal basis, as rows, of the rows of A: singular values above rtol * scale. Adds them to `ratios`."""
    if not A.size or not scale:
        return np.zeros((0, A.shape[1]))
    # Far more rows than columns: a QR factorisation first loses nothing, and leaves a square to decompose.
    A = np.linalg.qr(A, mode="r") if len(A) > A.shape[1] else A
    _, s, basis = np.linalg.svd(A, full_matrices=False)
    ratios.append(s / scale)
    return basis[s > rtol * scale]


def token_dimension(heads: AttentionHeads, token=-1, *, eps=0.0, rule="absolute") -> MinkowskiDimension:
    """Dimension of the Minkowski sum in which one row of a real layer's attention lies.

    Parameters
    ----------
    heads : AttentionHeads
        Of one layer and one prompt, as `attention_heads` returns them.
    token : int
        The row, from 0; negative counts from the last.
    eps : float
        Threshold of the supports, in [0, 1). 0 keeps every positive weight, as the theorem does.
    rule : str
        A name in :data:`~geolib.dimension.RULES`: keep weights above eps, or above eps times the row's largest weight.

    Returns
    -------
    MinkowskiDimension

    Raises
    ------
    TypeError, ValueError
        If `heads` are none, there is no such token, eps is outside [0, 1), the rule is unknown, or the row has no
        weight above eps in any head.

    Examples
    --------
    The last of six tokens, in 9 heads: 9 * 5 dimensions of the 576, where eq. 7 counts 9 * 6.

    >>> from geolib.dimension import attention_heads
    >>> from geolib.models import load
    >>> model, tokenizer = load()
    >>> ids = tokenizer("Natalia sold clips.", return_tensors="pt").input_ids
    >>> last = token_dimension(attention_heads(model, ids, layer=-1))
    >>> last.rank, last.bound, last.paper_bound, last.saturation
    (45, 45, 54, 65)
    """
    if not isinstance(heads, AttentionHeads):
        raise TypeError(f"token_dimension: heads is {one_line(heads)}, expected AttentionHeads")
    n_tokens = heads.weights.shape[1]
    token = integer("token_dimension: token", token, -n_tokens, n_tokens - 1)
    support = eps_support(heads.weights[:, token], eps, rule)
    return minkowski_dimension(heads.values, heads.out_proj, support, sink=heads.sinks)


@dataclass(frozen=True, eq=False)
class MinkowskiCheck:
    """Whether a layer's rows lie in their Minkowski sums, made by `minkowski_check`. Tokens are the prompt's.

    Attributes
    ----------
    residual : array-like, shape=[tokens]
        Distance from the model's own row to the one rebuilt from convex weights, relative to the former's norm.
    smallest_weight : float
        Not negative if the weights are convex.
    weight_sum : array-like, shape=[heads, tokens]
        1 up to rounding; less where a sink takes its part.
    edges : int array, shape=[heads, tokens]
        Size of each head's eps-support.
    cut_residual : array-like, shape=[tokens]
        How far the row moves when each head keeps its eps-support alone, relative to the row's norm.

    With a sequence of eps, the last two have a leading axis.
    """

    residual: np.ndarray
    smallest_weight: float
    weight_sum: np.ndarray
    edges: np.ndarray
    cut_residual: np.ndarray


def minkowski_check(heads: AttentionHeads, *, eps=0.1, rule="absolute") -> MinkowskiCheck:
    """Rebuild a layer's rows as Theorem 2.1 says, and see how far they move when the heads are cut to eps-supports.

    Parameters
    ----------
    heads : AttentionHeads
        Of one layer and one prompt, as `attention_heads` returns them.
    eps : float or sequence of float
        Threshold(s) in (0, 1).
    rule : str
        As for `token_dimension`.

    Returns
    -------
    MinkowskiCheck

    Raises
    ------
    TypeError, ValueError
        If `heads` are none, eps is outside (0, 1) or the rule is unknown.

    Notes
    -----
    The weights that are kept are scaled up to the sum that all of them had, so that a cut row is again a convex mean:
    a point of the Minkowski sum over eps-supports. A head that keeps none adds 0.

    Examples
    --------
    >>> from geolib.dimension import attention_heads
    >>> from geolib.models import load
    >>> model, tokenizer = load()
    >>> ids = tokenizer("Natalia sold clips.", return_tensors="pt").input_ids
    >>> check = minkowski_check(attention_heads(model, ids, layer=-1), eps=[0.1, 0.01])
    >>> bool(check.residual.max() < 1e-5), check.cut_residual.shape == (2, ids.shape[1])
    (True, True)
    """
    if not isinstance(heads, AttentionHeads):
        raise TypeError(f"minkowski_check: heads is {one_line(heads)}, expected AttentionHeads")
    thresholds = check_eps("minkowski_check", eps)
    supports = [eps_support(heads.weights, one, rule) for one in thresholds]
    weights = heads.weights.astype(np.float64)
    rows = heads.rows(weights)
    norm = np.maximum(np.linalg.norm(heads.output, axis=1), np.finfo(float).tiny)  # a row of zeros moves by 0
    total = weights.sum(axis=2)
    moved = []
    for support in supports:
        kept = np.where(support, weights, 0.0)
        left = kept.sum(axis=2)
        kept *= np.divide(total, left, out=np.zeros_like(total), where=left > 0)[..., None]
        moved.append(np.linalg.norm(heads.rows(kept) - rows, axis=1) / norm)
    edges = np.array([support.sum(axis=2) for support in supports])
    first = 0 if isinstance(eps, Real) else slice(None)
    return MinkowskiCheck(
        residual=np.linalg.norm(rows + heads.bias - heads.output, axis=1) / norm,
        smallest_weight=float(heads.weights.min()),
        weight_sum=total,
        edges=edges[first],
        cut_residual=np.array(moved)[first],
    )


def eps_support(weights, eps, rule="absolute") -> np.ndarray:
    """Which weights a rule keeps as edges.

    Parameters
    ----------
    weights : array-like, shape=[..., tokens]
    eps : float
        In [0, 1); 0 keeps all that are positive.
    rule : str
        A name in :data:`~geolib.dimension.RULES`: keep weights above eps, or above eps times their row's largest.

    Returns
    -------
    array-like, shape=[..., tokens], bool

    Raises
    ------
    TypeError, ValueError
        If weights are no numbers or not finite, eps is outside [0, 1) or the rule is unknown.

    Examples
    --------
    >>> eps_support([0.62, 0.3, 0.08], 0.1), eps_support([0.62, 0.3, 0.08], 0.1, "relative")
    (array([ True,  True, False]), array([ True,  True,  True]))
    """
    (eps,), (rule,) = check_eps("eps_support", [eps], zero=True), check_rule("eps_support", [rule])
    finite, own = finite_array("eps_support: weights", weights), np.asarray(weights).dtype
    # torch takes the threshold in the weights' own type: in float32, as they were made, a weight of exactly eps does
    # not exceed it.
    return keep(rule, torch.from_numpy(finite.astype(own if own.kind == "f" else float)), eps).numpy()


def _check(values, out_proj, support, rtol):
    """Return arrays in float64, the support and the tolerance."""
    given, values = values, finite_array("minkowski_dimension: values", values)
    single = np.asarray(given).dtype in (np.float32, np.float16)
    out_proj = finite_array("minkowski_dimension: out_proj", out_proj)
    if masked(support):
        raise TypeError(
            f"minkowski_dimension: support is {one_line(support)}, expected booleans without masked entries"
        )
    support = np.asarray(support)
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f"minkowski_dimension: values has shape {values.shape}, expected [heads, tokens, head_dim]")
    if out_proj.ndim != 3 or out_proj.shape[:2] != (len(values), values.shape[2]) or 0 in out_proj.shape:
        raise ValueError(
            f"minkowski_dimension: out_proj has shape {out_proj.shape}, but values has {values.shape}; expected "
            f"[{len(values)}, {values.shape[2]}, width]"
        )
    if support.dtype != bool:
        raise TypeError(f"minkowski_dimension: support has type {support.dtype}, expected booleans")
    if support.shape != values.shape[:2]:
        raise ValueError(
            f"minkowski_dimension: support has shape {support.shape}, but values has {values.shape}; expected "
            f"{values.shape[:2]}"
        )
    if not support.any():
        raise ValueError("minkowski_dimension: support is False for every token, expected at least one edge")
    rtol = (2e-6 if single else 1e-10) if rtol is None else rtol
    if isinstance(rtol, bool) or not isinstance(rtol, Real):
        raise TypeError(f"minkowski_dimension: rtol is {one_line(rtol)}, expected a number")
    if not 0 < rtol < 1:
        raise ValueError(f"minkowski_dimension: rtol is {rtol}, expected a number between 0 and 1")
    return values, out_proj, support, float(rtol)
