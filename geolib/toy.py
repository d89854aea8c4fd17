"""Networks small enough to train while you wait: MLPs on a curve (figure 2), one-block LLMs on sin(t) (figures 4, 5).

All runs are trained side by side: seeds and settings are the batch. Every run draws from a generator of its own and is
independent of the others, which change its result by rounding at most. All arithmetic is float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import nn

from geolib.checks import above_zero, choice, finite_array, integer, integers, one_line
from geolib.dimension.rules import RULES, check_eps, keep


@dataclass(frozen=True, eq=False)
class FittedMlps:
    """MLPs y(x) = sum_k readout_k relu(weight_k x + bias_k) + offset trained on one curve, as `fit_mlps` returns them.

    Attributes
    ----------
    seeds : tuple of int
        Seed of each run.
    steps : tuple of int
        Steps of the optimiser after which parameters were recorded.
    losses : array, shape=[snapshots, seeds]
        Mean squared error over the points.
    weight, bias, readout : array, shape=[snapshots, seeds, width]
    offset : array, shape=[snapshots, seeds]
    """

    seeds: tuple
    steps: tuple
    losses: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    readout: np.ndarray
    offset: np.ndarray

    def network(self, i: int, snapshot: int = -1) -> nn.Sequential:
        """Copy one run at one snapshot, for `geolib.partition.ReluNetwork.from_torch`.

        Parameters
        ----------
        i : int
            Position of the run in `seeds`.
        snapshot : int
            Position in `steps`.

        Returns
        -------
        torch.nn.Sequential
            Linear, ReLU, Linear, in float64.
        """
        at = snapshot, i
        return _mlp(self.weight[at][:, None], self.bias[at], self.readout[at], self.offset[at])


def fit_mlps(
    x: ArrayLike,
    y: ArrayLike,
    *,
    width: int,
    seeds: Sequence[int],
    n_steps: int = 5000,
    learning_rate: float = 0.01,
    snapshots: Sequence[int] | None = None,
    init: str = "spread",
) -> FittedMlps:
    """Train one-hidden-layer ReLU MLPs on a curve, one run for each seed, side by side.

    The optimiser is Adam on the mean squared error over all points; its learning rate falls to 0 along a cosine.

    Parameters
    ----------
    x, y : array-like, shape=[points]
        The curve, in any order.
    width : int
        Hidden neurons.
    seeds : sequence of int
        Seed of each run.
    n_steps : int
        Number of steps of the optimiser.
    learning_rate : float
        Learning rate at the first step.
    snapshots : sequence of int, optional
        Steps after which to record, increasing, within 0 to n_steps; by default (0, n_steps).
    init : {"spread", "torch"}
        ``"spread"``: breakpoints uniform over the range of x, weights standard normal, readout normal of variance
        1 / width. No part of the curve is favoured, so that any unevenness at the end comes from training. ``"torch"``:
        the distributions of `torch.nn.Linear`, which put half of the breakpoints into [-1, 1] for any range of x.

    Returns
    -------
    FittedMlps

    Raises
    ------
    TypeError
        If a count is not an integer, or the learning rate is not a number.
    ValueError
        If a shape, a number or a choice is not as described above.

    Examples
    --------
    >>> x = np.linspace(-3, 3, 50)
    >>> fit = fit_mlps(x, np.abs(x), width=8, seeds=[0, 1, 2], n_steps=200)
    >>> fit.losses.shape, fit.network(2)
    ((2, 3), Sequential(
      (0): Linear(in_features=1, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=1, bias=True)
    ))
    """
    x, y = _curve(x, y)
    width, n_steps = integer("fit_mlps: width", width, 1), integer("fit_mlps: n_steps", n_steps, 0)
    seeds = integers("fit_mlps: seeds", seeds, 0)
    learning_rate = float(above_zero("fit_mlps: learning_rate", learning_rate))
    steps = integers("fit_mlps: snapshots", sorted({0, n_steps}) if snapshots is None else snapshots, 0)
    if list(steps) != sorted({*steps}) or steps[-1] > n_steps:
        expected = f"increasing steps within 0 to {one_line(n_steps)}"
        raise ValueError(f"fit_mlps: snapshots is {one_line(steps)}, but {expected} were expected")
    choice("fit_mlps: init", init, "spread", "torch")

    draws = [_draw_mlp(torch.Generator().manual_seed(seed), width, x, init) for seed in seeds]
    parameters = [torch.stack(run).requires_grad_() for run in zip(*draws, strict=True)]

    def losses(step):
        return (_mlps_on_line(x, *parameters) - y).square().mean(dim=1)

    recorded = [
        [value.detach().numpy().copy() for value in (loss, *parameters)]
        for step, loss in _descend(losses, parameters, n_steps, learning_rate)
        if step in steps
    ]
    loss, weight, bias, readout, offset = map(np.stack, zip(*recorded, strict=True))
    return FittedMlps(seeds, steps, loss, weight, bias, readout, offset[..., 0])


class CurveRegions(NamedTuple):
    """Regions that a curve, given by points on it, meets. A region to which the curve returns counts again.

    Attributes
    ----------
    patterns : int
        Number of stretches of neighbouring points with one pattern, which is what the points alone show. A point in a
        hyperplane counts with the segments beside it.
    regions : int
        Number of regions along the polygon through the points: 1 more than the sum of ``crossed``.
    crossed : int array, shape=[points - 1]
        Number of neurons that switch between neighbouring points. On each segment
        `geolib.partition.line_partition` finds one region more.
    """

    patterns: int
    regions: int
    crossed: np.ndarray


def regions_along(points: ArrayLike, weight: ArrayLike, bias: ArrayLike) -> CurveRegions:
    """Count the regions of one hidden layer along a curve.

    A segment crosses each neuron's hyperplane once or not at all, so its crossings are the neurons that switch between
    its ends. Neurons that share a hyperplane count separately. A curve does not cross a hyperplane if one of its points
    lies in it and the curve turns back there. A neuron is 0 and inactive on a segment that lies within its hyperplane.

    Parameters
    ----------
    points : array-like, shape=[points, dim]
        Points in the order of the curve.
    weight : array-like, shape=[width, dim]
    bias : array-like, shape=[width]

    Returns
    -------
    CurveRegions

    Raises
    ------
    ValueError
        If shapes do not fit, or a number is NaN or infinite.

    Examples
    --------
    Two neurons that switch at 0 and at 1; the second segment crosses both:

    >>> regions_along([[-1], [-0.5], [2], [3]], [[1], [1]], [0, -1])
    CurveRegions(patterns=2, regions=3, crossed=array([0, 2, 0]))
    """
    points = finite_array("regions_along: points", points)
    weight, bias = finite_array("regions_along: weight", weight), finite_array("regions_along: bias", bias)
    if points.ndim != 2 or weight.shape != (*bias.shape, *points.shape[1:]) or not points.size:
        found, expected = f"{points.shape}, {weight.shape} and {bias.shape}", "[points, dim], [width, dim] and [width]"
        raise ValueError(f"regions_along: points, weight and bias have shapes {found}, but {expected} were expected")
    values = points @ weight.T + bias
    active = values > 0
    # A segment that begins or ends at 0 has the sign of its other end.
    begins, ends = (active[:-1] | (values[:-1] == 0) & active[1:]), (active[1:] | (values[1:] == 0) & active[:-1])
    turns = ends[:-1] != begins[1:]  # switches in a point; they count with the segment where the neuron is active
    crossed = begins != ends
    crossed[:-1] |= turns & ends[:-1]
    crossed[1:] |= turns & begins[1:]
    crossed = crossed.sum(axis=1)
    return CurveRegions(int((crossed > 0).sum()) + 1, int(crossed.sum()) + 1, crossed)


@dataclass(frozen=True, eq=False)
class ToyGrid:
    """One-block LLMs trained on sin(t), as `train_grid` returns them.

    Attributes
    ----------
    heads, context, seed : int array, shape=[runs]
        Settings of each run.
    t : array, shape=[bins]
        Times.
    fit : array, shape=[runs, bins]
        Each run's approximation of sin(t).
    inputs : array, shape=[runs, bins, d_model]
        The MLP's inputs: a curve in R^d_model.
    weight, bias, readout, offset : array, shape=[runs, width, d_model], [runs, width], [runs, width], [runs]
        The MLP: fit = readout . relu(weight inputs + bias) + offset.
    edges : dict of str to int array, shape=[runs, bins]
        Soft intrinsic dimension (eq. 8) at the last token, for each of :data:`geolib.dimension.RULES`: the number of
        attention weights that the rule keeps, summed over heads.
    eps : float
        Threshold of the rules.
    """

    heads: np.ndarray
    context: np.ndarray
    seed: np.ndarray
    t: np.ndarray
    fit: np.ndarray
    inputs: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    readout: np.ndarray
    offset: np.ndarray
    edges: dict[str, np.ndarray]
    eps: float

    def network(self, i: int) -> nn.Sequential:
        """Copy the MLP of run i: Linear, ReLU, Linear in float64, for `ReluNetwork.from_torch`."""
        return _mlp(self.weight[i], self.bias[i], self.readout[i], self.offset[i])

    def regions(self, i: int) -> CurveRegions:
        """Count the regions of run i's MLP along the curve of its inputs, as `CurveRegions`."""
        return regions_along(self.inputs[i], self.weight[i], self.bias[i])

    def table(self) -> pd.DataFrame:
        """Summarise the runs, one per row.

        Returns
        -------
        pandas.DataFrame
            ``heads``, ``context``, ``seed``, ``rmse`` (over all bins), ``patterns`` and ``regions`` (of
            `CurveRegions`), ``id_absolute``, ``id_relative`` and so on (means over bins).
        """
        counts = [self.regions(i) for i in range(len(self.seed))]
        table = pd.DataFrame({"heads": self.heads, "context": self.context, "seed": self.seed})
        table["rmse"] = np.sqrt(np.mean((self.fit - np.sin(self.t)) ** 2, axis=1))
        for name in ("patterns", "regions"):
            table[name] = [getattr(count, name) for count in counts]
        return table.assign(**{f"id_{rule}": edges.mean(axis=1) for rule, edges in self.edges.items()})


def embed(t: ArrayLike, context: int, d_model: int, *, span: int | None = None) -> torch.Tensor:
    """Give each time a context of sinusoids.

    Token j = 1..context of time t is the positional encoding (Vaswani et al. 2017) of t j / span: sines, then cosines,
    of w_k t j / span. The frequencies w_k = 10^(-2k / d_model) / 2 are at most half of that of sin(t).

    Parameters
    ----------
    t : array-like, shape=[bins]
    context, d_model : int
        Number of tokens, and of their coordinates, which must be even.
    span : int, optional
        By default the context. The tokens are then the history of t, sampled more finely in a longer context, and the
        last token is t itself. With a fixed span the sampling is fixed, and a longer context oscillates faster.

    Returns
    -------
    torch.Tensor, shape=[bins, context, d_model]

    Raises
    ------
    TypeError
        If t does not hold numbers, or a count is not an integer.
    ValueError
        If t has another shape or is not finite, a count is below 1, or d_model is odd.
    """
    t = finite_array("embed: t", t)
    if t.ndim != 1:
        raise ValueError(f"embed: t has shape {t.shape}, but [bins] was expected")
    context, d_model = integer("embed: context", context, 1), integer("embed: d_model", d_model, 1)
    span = context if span is None else integer("embed: span", span, 1)
    if d_model % 2:
        raise ValueError(f"embed: d_model is {one_line(d_model)}, but an even number was expected")
    frequency = 10 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model) / 2
    position = torch.arange(1, context + 1, dtype=torch.float64) / span
    angle = torch.tensor(t)[:, None, None] * position[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def train_grid(
    *,
    heads: Sequence[int],
    contexts: Sequence[int],
    seeds: Sequence[int],
    span: int | None = None,
    d_model: int = 16,
    width: int = 64,
    head_size: str = "split",
    n_steps: int = 500,
    learning_rate: float = 0.01,
    bins: int = 1000,
    stride: int = 20,
    eps: float = 0.1,
) -> ToyGrid:
    """Train one-block LLMs on sin(t), t from -2 pi to 2 pi, for every combination of heads, context and seed.

    The block is MLP(LayerNorm(MHA(X) + X)) at the last token (eqs. 2-5 of arXiv 2407.02678), with X from `embed`,
    scores divided by the root of the head size, LayerNorm without parameters, and an MLP with one hidden layer and one
    output. The outer residual of eq. 5 is left out: it is linear in X and would not change the regions.

    The optimiser is Adam on the mean squared error; its learning rate falls to 0 along a cosine. Step s takes every
    stride-th bin, from bin s modulo stride on, so that batches are not random. A seed gives the same initial numbers
    for every context and, with split heads, for every number of heads.

    Parameters
    ----------
    heads, contexts, seeds : sequence of int
        The grid of figures 4 and 5: each combination is a run.
    span : int, optional
        As for `embed`; by default each run's context.
    d_model : int
        Number of coordinates of a token, which must be even.
    width : int
        Number of hidden neurons of the MLP.
    head_size : {"split", "full"}
        ``"split"``: the heads share d_model, as evenly as integers allow, so that all runs have the same number of
        parameters. ``"full"``: each head has d_model, as eqs. 2-5 allow, and the number of parameters grows with heads.
    n_steps : int
        Number of steps of the optimiser; with 0, the runs keep their initial numbers.
    learning_rate : float
        Learning rate at the first step.
    bins : int
        Number of times.
    stride : int
        Number of batches into which the bins are divided.
    eps : float
        Threshold of the soft intrinsic dimension, in (0, 1).

    Returns
    -------
    ToyGrid
        Runs in the order of contexts, then heads, then seeds.

    Raises
    ------
    TypeError
        If a count is not an integer, or another argument is not a number.
    ValueError
        If a number or a choice is not as described above.
    """
    heads, contexts = integers("train_grid: heads", heads, 1), integers("train_grid: contexts", contexts, 1)
    seeds = integers("train_grid: seeds", seeds, 0)
    d_model, width = integer("train_grid: d_model", d_model, 1), integer("train_grid: width", width, 1)
    bins, stride = integer("train_grid: bins", bins, 1), integer("train_grid: stride", stride, 1)
    n_steps = integer("train_grid: n_steps", n_steps, 0)
    learning_rate = float(above_zero("train_grid: learning_rate", learning_rate))
    (eps,) = check_eps("train_grid", [eps])
    choice("train_grid: head_size", head_size, "split", "full")
    if head_size == "split" and max(heads) > d_model:
        raise ValueError(
            f"train_grid: heads is {one_line(heads)}, but at most d_model = {one_line(d_model)} heads were expected"
        )
    if stride > bins:
        raise ValueError(
            f"train_grid: stride is {one_line(stride)}, but at most {one_line(bins)}, the number of bins, was expected"
        )

    t = np.linspace(-2 * np.pi, 2 * np.pi, bins)
    target = torch.from_numpy(np.sin(t))
    groups = []
    for context in contexts:
        settings = [(n_heads, context, seed) for n_heads in heads for seed in seeds]
        batches = [embed(t[start::stride], context, d_model, span=span) for start in range(stride)]
        blocks = _Blocks(settings, d_model, width, head_size)

        def losses(step, blocks=blocks, batches=batches):
            start = step % stride
            return (blocks(batches[start])[0] - target[start::stride]).square().mean(dim=1)

        for _ in _descend(losses, blocks.parameters, n_steps, learning_rate):
            pass
        columns = dict(zip(("heads", "context", "seed"), np.transpose(settings), strict=True))
        groups.append(columns | blocks.measure(batches, eps))
    arrays = {name: np.concatenate([group[name] for group in groups]) for name in groups[0]}
    edges = {rule: arrays.pop(f"edges {rule}") for rule in RULES}
    return ToyGrid(t=t, edges=edges, eps=eps, **arrays)


class _Blocks:
    """Blocks side by side: the heads of all runs are on one axis, padded with zero columns to the largest head size.

    Padding stays 0 in training: the gradient of a column of Q has the same column of K as a factor, and vice versa;
    likewise for V and O.
    """

    def __init__(self, settings, d_model, width, head_size):
        draws = [
            _draw_block(torch.Generator().manual_seed(seed), n_heads, d_model, width, head_size)
            for n_heads, _, seed in settings
        ]
        heads = [head for *_, run in draws for head in run]
        sizes = [head.shape[-1] for head in heads]
        self.run = torch.arange(len(settings)).repeat_interleave(torch.tensor([n_heads for n_heads, *_ in settings]))
        self.scale = torch.tensor(sizes).double()[:, None, None] ** -0.5
        # Q, K, V and the transpose of O, shape=[4, all heads, d_model, head size].
        self.qkvo = torch.stack([nn.functional.pad(head, (0, max(sizes) - head.shape[-1])) for head in heads], dim=1)
        self.mlp = [torch.stack(part) for part in list(zip(*draws, strict=True))[:4]]
        self.parameters = [part.requires_grad_() for part in (self.qkvo, *self.mlp)]

    def __call__(self, tokens):
        """Run the blocks on tokens, shape=[bins, context, d_model].

        Returns outputs, shape=[runs, bins], MLP inputs, shape=[runs, bins, d_model], and the last token's attention,
        shape=[bins, all heads, context].
        """
        q, k, v, o = self.qkvo
        last = tokens[:, -1]
        # Each head has one query and one output, so keys and values are not computed, and all heads share the tokens.
        probe = last @ (q @ k.mT * self.scale)
        attention = torch.softmax(probe.transpose(0, 1) @ tokens.mT, dim=-1)
        mean = (attention @ tokens).transpose(0, 1)
        mha = last.new_zeros(len(self.mlp[0]), *last.shape).index_add(0, self.run, mean @ (v @ o.mT))
        inputs = nn.functional.layer_norm(mha + last, last.shape[-1:])
        weight, bias, readout, offset = self.mlp
        hidden = torch.relu(inputs @ weight.mT + bias[:, None])
        return (hidden @ readout[..., None])[..., 0] + offset, inputs, attention

    @torch.no_grad()
    def measure(self, batches, eps):
        """Evaluate at all bins; return the arrays of `ToyGrid` from `fit` to `offset`, and the edges by each rule."""
        n_bins, n_runs = sum(map(len, batches)), len(self.mlp[0])
        fit, curve = torch.empty(n_runs, n_bins).double(), torch.empty(n_runs, n_bins, self.qkvo.shape[2]).double()
        edges = torch.zeros(len(RULES), n_runs, n_bins, dtype=torch.int64)
        for start, tokens in enumerate(batches):
            at = np.s_[:, start :: len(batches)]
            fit[at], curve[at], attention = self(tokens)
            for counts, rule in zip(edges, RULES, strict=True):
                counts[at] = counts[at].index_add(0, self.run, keep(rule, attention, eps).sum(dim=-1).T)
        names = ["fit", "inputs", "weight", "bias", "readout", "offset", *(f"edges {rule}" for rule in RULES)]
        parts = (fit, curve, *self.mlp[:3], self.mlp[3][:, 0], *edges)
        return {name: part.numpy() for name, part in zip(names, parts, strict=True)}


def _draw_block(generator, n_heads, d_model, width, head_size):
    """Draw weight, bias, readout and offset of the MLP, and per head Q, K, V, O^T, shape=[4, d_model, head size]."""

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    mlp = normal(width, d_model) / d_model**0.5, normal(width), normal(width) / width**0.5
    if head_size == "split":
        heads = (normal(4, d_model, d_model) / d_model**0.5).tensor_split(n_heads, dim=-1)
    else:
        heads = [normal(4, d_model, d_model) / d_model**0.5 for _ in range(n_heads)]
    return *mlp, torch.zeros(1, dtype=torch.float64), heads


def _draw_mlp(generator, width, x, init):
    """Draw weight, bias, readout, shape=[width], and offset, shape=[1]."""

    def uniform(n, low, high):
        return low + (high - low) * torch.rand(n, generator=generator, dtype=x.dtype)

    if init == "torch":
        bound = width**-0.5
        return uniform(width, -1, 1), uniform(width, -1, 1), uniform(width, -bound, bound), uniform(1, -bound, bound)
    weight, readout = torch.randn(2, width, generator=generator, dtype=x.dtype)
    return weight, -weight * uniform(width, x[0], x[-1]), readout / width**0.5, torch.zeros(1, dtype=x.dtype)


def _mlps_on_line(x, weight, bias, readout, offset):
    """Evaluate at sorted points, shape=[runs, points], in points + width operations for each run, not points * width.

    A neuron is active on one side of its breakpoint. If its weight is positive, it adds the line readout * (weight x +
    bias) from the breakpoint on; otherwise it adds the line from the start and removes it at the breakpoint. With a
    weight of 0 the breakpoint is -inf or inf, and the neuron is always active or never.
    """
    lines = torch.stack([readout * weight, readout * bias])
    sign = torch.where(weight < 0, -1.0, 1.0)
    first = torch.searchsorted(x, (-bias / weight).detach()).expand_as(lines)
    changes = lines.new_zeros(*lines.shape[:2], len(x) + 1).scatter_add(-1, first, lines * sign)
    at_start = (lines * (weight < 0)).sum(dim=-1, keepdim=True)
    slope, intercept = (at_start + changes.cumsum(-1))[..., :-1]
    return slope * x + intercept + offset


def _descend(losses, parameters, n_steps, learning_rate):
    """Minimise with Adam; yield the step and its losses, shape=[runs], before each step and after the last.

    Minimising the sum of the losses trains each run by itself: a loss depends on its own run's parameters only, and
    Adam treats each number separately.
    """
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(n_steps, 1))
    for step in range(n_steps + 1):
        loss = losses(step)
        yield step, loss
        if step < n_steps:
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            schedule.step()


def _mlp(weight, bias, readout, offset):
    """Make a torch network of arrays; `skip_init` does not draw from torch's global generator."""
    layers = []
    for W, b in ((weight, bias), (readout[None], offset[None])):
        layer = nn.utils.skip_init(nn.Linear, *W.shape[::-1], dtype=torch.float64)
        layer.load_state_dict({"weight": torch.from_numpy(W.copy()), "bias": torch.from_numpy(b.copy())})
        layers.append(layer)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def _curve(x, y):
    """Return both as tensors, sorted by x."""
    x, y = finite_array("fit_mlps: x", x), finite_array("fit_mlps: y", y)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"fit_mlps: x has shape {x.shape} and y {y.shape}, but [points] was expected for both")
    if len(np.unique(x)) < 2:
        raise ValueError(f"fit_mlps: x has {len(np.unique(x))} distinct points, but at least 2 were expected")
    order = np.argsort(x)
    return torch.from_numpy(x[order]), torch.from_numpy(y[order])
