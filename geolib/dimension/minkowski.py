"""Theorem 2.1 in code: the dimension of the set in which a row of multi-head attention lies, and whether it does.

For one token, a head mixes the points O_h^T v_hj of the tokens j in its support S_h with convex weights. So its output
lies in their convex hull, and the sum over heads in the Minkowski sum of the hulls (arXiv 2407.02678, Theorem 2.1).
Differences within the heads span that set's directions: its dimension is the rank of all O_h^T (v_hj - v_hk), with
j and k in S_h. A bias of the values moves the set and keeps its dimension, unless there is a sink: the vertex 0 that it
adds to every hull does not move along.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from numpy.typing import ArrayLike

from geolib.checks import finite_array, flag, fraction, integer, masked, one_line
from geolib.dimension.heads import AttentionHeads
from geolib.dimension.points import distinct_rows
from geolib.dimension.rules import check_eps, check_rule, keep


@dataclass(frozen=True, eq=False)
class MinkowskiDimension:
    """The dimension of a Minkowski sum of heads, and its bounds; made by `minkowski_dimension`.

    Attributes
    ----------
    rank : int
        Dimension of the Minkowski sum: the rank of all differences within the heads.
    bound : int
        ``min(width, sum over heads of min(|S_h| - 1, rank O_h))``; with a sink ``|S_h|`` in place of ``|S_h| - 1``.
        The rank of O_h is taken for that of O_h^T V_h^T, which is equal unless the value projection loses dimensions.
        Almost all values and projections attain it: ``rank`` is less only where polynomials in their entries are zero.
        The rank of all O_h stacked may stand for the width, where it is less.
    paper_bound : int
        Sum over heads of ``|S_h|`` (arXiv 2407.02678, eq. 7).
    saturation : int
        Number of tokens, all in every support, from which on ``bound`` no longer grows.
    per_head : int array, shape=[heads]
        Dimension of each head's own hull: each is at most ``rank``, and their sum is at least ``rank``.
    margin : tuple of float
        How clear the decisions on rank were: the smallest relative singular value that was counted, and the largest
        that was not. They lie on the two sides of ``rtol``.
    """

    rank: int
    bound: int
    paper_bound: int
    saturation: int
    per_head: np.ndarray
    margin: tuple[float, float]


def minkowski_dimension(
    values: ArrayLike, out_proj: ArrayLike, support: ArrayLike, *, sink: bool = False, rtol: float | None = None
) -> MinkowskiDimension:
    """Compute the dimension of the Minkowski sum in which one token's row of multi-head attention lies; and bounds.

    Parameters
    ----------
    values : array-like, shape=[heads, tokens, head_dim]
        The points that the heads mix. Values that several heads share are repeated for each.
    out_proj : array-like, shape=[heads, head_dim, width]
        Output projection, split by head.
    support : array-like, shape=[heads, tokens], bool
        Which tokens each head attends to. A head that attends to none adds the point 0.
    sink : bool
        Whether weights may sum to less than 1: then 0 is one more vertex of every head's hull.
    rtol : float, optional
        Relative size below which a singular value counts as 0; by default 1e-10, or 2e-6 for `values` in float32 or
        float16. Tokens count as one point if their values differ by at most 4 * rtol of their norm: by default 64 units
        in the last place of float32, which is how far rounding in such a model moves equal tokens apart. Values of 16
        bits are taken as they are: if equal points may differ by a step of such a type, give 2e-3 for float16, or 2e-2
        for bfloat16.

    Returns
    -------
    MinkowskiDimension

    Raises
    ------
    TypeError, ValueError
        If shapes do not fit, numbers are not finite, `support` is not boolean or is empty for all heads, or `rtol` is
        not between 0 and 1.

    Notes
    -----
    Rank is decided in float64 in three steps, each on a scale of its own, so that neither a head nor a projection of
    small numbers is lost beside a large one. The first step takes each head's values minus the shortest of them, each
    divided by its own norm, and compares their singular values with the largest one of the values themselves, divided
    in the same way. The second step takes the directions found there after the projection, and compares with the
    projection's largest singular value. The third step takes the orthonormal bases of all heads together. The cost is
    a QR factorisation of each head's values, and one SVD of at most heads * head_dim rows, for any number of tokens.

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
    width, sink = out_proj.shape[2], flag("minkowski_dimension: sink", sink)
    # O_h = R_h^T Q_h^T with orthonormal columns in Q_h, so that all decisions but the last are on small matrices.
    frames, factors = np.linalg.qr(out_proj.swapaxes(1, 2))
    sizes = np.linalg.svd(factors, compute_uv=False)
    ratios, bases = [], []
    for value, attended, frame, factor, size in zip(values, support, frames, factors, sizes, strict=True):
        points = _distinct(value[attended], 4 * rtol)
        differences, scale = _spread(np.vstack([points, np.zeros((int(sink), value.shape[1]))]))
        directions = _row_space(differences, scale, rtol, ratios)
        bases.append(_row_space(directions @ factor.T, size[0], rtol, ratios) @ frame.T)
    ratios.append(np.linalg.svd(np.vstack(bases), compute_uv=False))  # rows have norm 1, so the largest is near 1
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


def head_ranks(out_proj: np.ndarray, rtol: float = 2e-6) -> np.ndarray:
    """Return the rank of each head's output projection, or of its factor R, shape=[heads, ..., ...]."""
    sizes = np.linalg.svd(out_proj, compute_uv=False)
    return (sizes > rtol * sizes[:, :1]).sum(axis=1)


def _distinct(points, rtol):
    """Keep one of each set of points that differ by at most rtol of their norm."""
    # Division by the largest entry keeps squares from over- and underflowing.
    with np.errstate(all="ignore"):
        scaled = points / max(np.abs(points).max(initial=0), np.finfo(float).tiny)
    return points[distinct_rows(scaled, rtol * np.linalg.norm(scaled, axis=1))]


def _spread(points):
    """Return differences from the shortest point, each divided by its point's norm, and the scale of their rounding.

    Rounding is relative to each point's own norm. After the division it is equally far below 1 in all points, so that
    a long point hides no short ones; and the rank of the differences is the same. The scale is the largest singular
    value of the points, divided in the same way.
    """
    if not len(points):
        return points, 0.0
    # Division by the largest entries first: squares in a norm over- and underflow even if the values do not.
    largest = np.abs(points).max(axis=1)
    largest = np.where(largest > 0, largest, 1)[:, None]
    norms = np.linalg.norm(points / largest, axis=1)[:, None]
    scale = np.where(norms > 0, norms, 1)
    A = points / largest / scale
    with np.errstate(over="ignore"):
        shortest = points[(largest * norms).argmin()]
    return (points / largest - shortest / largest) / scale, math.sqrt(max(np.linalg.eigvalsh(A.T @ A)[-1], 0))


def _row_space(A, scale, rtol, ratios):
    """Return an orthonormal basis of A's rows for singular values above rtol * scale; append these to `ratios`."""
    if not A.size or not scale:
        return np.zeros((0, A.shape[1]))
    # With more rows than columns, a QR factorisation loses nothing and leaves a smaller matrix to decompose.
    A = np.linalg.qr(A, mode="r") if len(A) > A.shape[1] else A
    _, s, basis = np.linalg.svd(A, full_matrices=False)
    ratios.append(s / scale)
    return basis[s > rtol * scale]


def token_dimension(
    heads: AttentionHeads, token: int = -1, *, eps: float = 0.0, rule: str = "absolute"
) -> MinkowskiDimension:
    """Compute the dimension of the Minkowski sum in which one row of a real layer's attention lies.

    Parameters
    ----------
    heads : AttentionHeads
        Attention of one layer over one prompt, as `attention_heads` returns it.
    token : int
        Number of the row, from 0; a negative number counts from the last.
    eps : float
        Threshold of the supports, in [0, 1). 0 keeps every positive weight, as in the theorem.
    rule : str
        A name in :data:`~geolib.dimension.RULES`: keep weights above eps, or above eps times the row's largest weight.

    Returns
    -------
    MinkowskiDimension

    Raises
    ------
    TypeError, ValueError
        If `heads` are not AttentionHeads, the token does not exist, eps is outside [0, 1), the rule is unknown, or the
        row has no weight above eps in any head.

    Examples
    --------
    The last of six tokens, in 9 heads: the set has 9 * 5 of 576 dimensions, where eq. 7 counts 9 * 6.

    >>> from geolib.dimension import attention_heads
    >>> from geolib.models import load
    >>> model, tokenizer = load()
    >>> ids = tokenizer("Natalia sold clips.", return_tensors="pt").input_ids
    >>> last = token_dimension(attention_heads(model, ids, layer=-1))
    >>> last.rank, last.bound, last.paper_bound, last.saturation
    (45, 45, 54, 65)
    """
    _check_heads("token_dimension", heads)
    n_tokens = heads.weights.shape[1]
    token = integer("token_dimension: token", token, -n_tokens, n_tokens - 1)
    support = supports("token_dimension", heads.weights[:, token], eps, rule)
    return minkowski_dimension(heads.values, heads.out_proj, support, sink=heads.sinks)


@dataclass(frozen=True, eq=False)
class MinkowskiCheck:
    """Whether a layer's rows lie in their Minkowski sums, for each token of the prompt; made by `minkowski_check`.

    Attributes
    ----------
    residual : array-like, shape=[tokens]
        Distance from the model's own row to the row rebuilt from convex weights, divided by the norm of the model's.
    smallest_weight : float
        Smallest of all weights; not negative if the weights are convex.
    weight_sum : array-like, shape=[heads, tokens]
        Sum of the weights: 1 up to rounding; less than 1 where a sink takes a part.
    edges : int array, shape=[heads, tokens]
        Size of each head's eps-support.
    cut_residual : array-like, shape=[tokens]
        How far the row moves when each head keeps its eps-support only, relative to the row's norm: with weights that
        are scaled up, or with ``rescale=False`` as they are.

    With a sequence of eps, ``edges`` and ``cut_residual`` have a leading axis.
    """

    residual: np.ndarray
    smallest_weight: float
    weight_sum: np.ndarray
    edges: np.ndarray
    cut_residual: np.ndarray


def minkowski_check(
    heads: AttentionHeads, *, eps: float | Sequence[float] = 0.1, rule: str = "absolute", rescale: bool = True
) -> MinkowskiCheck:
    """Rebuild a layer's rows as Theorem 2.1 says, and measure how far they move when heads keep eps-supports only.

    Parameters
    ----------
    heads : AttentionHeads
        Attention of one layer over one prompt, as `attention_heads` returns it.
    eps : float or sequence of float
        Threshold(s) in (0, 1).
    rule : str
        As for `token_dimension`.
    rescale : bool
        Whether a head's weights, once cut, are scaled up to the sum that they had.

    Returns
    -------
    MinkowskiCheck

    Raises
    ------
    TypeError, ValueError
        If `heads` are not AttentionHeads, eps is outside (0, 1), the rule is unknown or `rescale` is no boolean.

    Notes
    -----
    Scaled up, the cut row is again a sum of convex means: a point of the Minkowski sum over eps-supports. As they are,
    the weights sum to less than 1, and 0 is one more vertex of each hull, as with a sink. A head that keeps no weight
    adds 0.

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
    _check_heads("minkowski_check", heads)
    rescale, thresholds = flag("minkowski_check: rescale", rescale), check_eps("minkowski_check", eps)
    masks = [supports("minkowski_check", heads.weights, one, rule) for one in thresholds]
    weights = heads.weights.astype(np.float64)
    rows = heads.rows(weights)
    norm = np.maximum(np.linalg.norm(heads.output, axis=1), np.finfo(float).tiny)  # so that a row of zeros moves by 0
    total = weights.sum(axis=2)
    moved = []
    for support in masks:
        kept = np.where(support, weights, 0.0)
        left = kept.sum(axis=2)
        kept *= np.divide(total, left, out=np.ones_like(total), where=(left > 0) & rescale)[..., None]
        moved.append(np.linalg.norm(heads.rows(kept) - rows, axis=1) / norm)
    first = 0 if isinstance(eps, Real) else slice(None)
    return MinkowskiCheck(
        residual=np.linalg.norm(rows + heads.bias - heads.output, axis=1) / norm,
        smallest_weight=float(heads.weights.min()),
        weight_sum=total,
        edges=np.array([support.sum(axis=2) for support in masks])[first],
        cut_residual=np.array(moved)[first],
    )


def _check_heads(function, heads):
    if not isinstance(heads, AttentionHeads):
        raise TypeError(f"{function}: heads is {one_line(heads)}, but AttentionHeads were expected")


def eps_support(weights: ArrayLike, eps: float, rule: str = "absolute") -> np.ndarray:
    """Return the mask of the weights that a rule keeps as edges.

    Parameters
    ----------
    weights : array-like, shape=[..., tokens]
    eps : float
        Threshold in [0, 1); 0 keeps all positive weights.
    rule : str
        A name in :data:`~geolib.dimension.RULES`: keep weights above eps, or above eps times their row's largest.

    Returns
    -------
    array-like, shape=[..., tokens], bool

    Raises
    ------
    TypeError, ValueError
        If weights are not numbers, not finite or none, eps is outside [0, 1) or the rule is unknown.

    Examples
    --------
    >>> eps_support([0.62, 0.3, 0.08], 0.1), eps_support([0.62, 0.3, 0.08], 0.1, "relative")
    (array([ True,  True, False]), array([ True,  True,  True]))
    """
    return supports("eps_support", weights, eps, rule)


def supports(function: str, weights: ArrayLike, eps: float, rule: str) -> np.ndarray:
    """Return the mask of the weights that a rule keeps, as `eps_support`; `function` prefixes the messages."""
    (eps,), (rule,) = check_eps(function, [eps], zero=True), check_rule(function, [rule])
    finite, own = finite_array(f"{function}: weights", weights), np.asarray(weights).dtype
    if not finite.ndim or not finite.shape[-1]:
        raise ValueError(f"{function}: weights has shape {finite.shape}, but [..., tokens > 0] was expected")
    # The weights keep their own type, to which torch rounds the threshold: a weight of exactly eps in float32 does not
    # exceed it. torch has no type wider than float64, and only the machine's own order of bytes.
    narrow = own.kind == "f" and own.itemsize < 8
    return keep(rule, torch.from_numpy(finite.astype(own.newbyteorder("=") if narrow else float)), eps).numpy()


def _check(values, out_proj, support, rtol):
    """Return arrays in float64, the support and the tolerance."""
    given, values = values, finite_array("minkowski_dimension: values", values)
    out_proj = finite_array("minkowski_dimension: out_proj", out_proj)
    if masked(support) or np.asarray(support).dtype != bool:
        expected = "booleans without masked entries were expected"
        raise TypeError(f"minkowski_dimension: support is {one_line(support)}, but {expected}")
    support = np.asarray(support)
    fit = values.ndim == out_proj.ndim == 3 and out_proj.shape[:2] == (len(values), values.shape[2])
    if not fit or support.shape != values.shape[:2] or not values.size or not out_proj.size:
        raise ValueError(
            f"minkowski_dimension: values, out_proj and support have shapes {values.shape}, {out_proj.shape}, "
            f"{support.shape}, but [heads, tokens, head_dim], [heads, head_dim, width], [heads, tokens] were expected"
        )
    if not support.any():
        raise ValueError("minkowski_dimension: support is False for every token, but at least one edge was expected")
    if rtol is None:
        rtol = 2e-6 if np.asarray(given).dtype in (np.float32, np.float16) else 1e-10
    return values, out_proj, support, fraction("minkowski_dimension: rtol", rtol)
