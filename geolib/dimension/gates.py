"""Regions of a language model's MLP, given by the signs of its gate, and how much of its output these signs explain.

The input of the activation is an affine map of the MLP's input, and its signs cut the input space along hyperplanes
(arXiv 2312.01648). That is a statement about the gates. The MLP is affine on each region only if it has no up
projection and its activation is ReLU. With ReLU and an up projection (ReGLU, arXiv 2002.05202) it is quadratic on each
region, and with SiLU or GELU (SwiGLU, GEGLU) smooth across all borders. `mlp_parts` measures how far it is from either.

Between two tokens much of what such counts say is the angle of the two inputs: in SmolLM2-135M most of it from layer 13
on, less before. `isotropic_gates` and `isotropic_gates_around` give the number that gates of random directions would
give, which is what a count should be compared with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike

from geolib.checks import above_zero, finite_array, integer, one_line
from geolib.dimension.architectures import (
    check_model,
    find_gate,
    find_mlp,
    layer_count,
    linear_map,
    not_finite,
    unfit,
)
from geolib.dimension.lm import check_ids, check_mask, layer_numbers, visit
from geolib.typing import Model

_BLOCK = 1 << 22  # number of gate values computed at a time
_MOST = 10**15  # gates: float64 holds their number, and the halves of it


@dataclass(frozen=True, eq=False)
class GateRegions:
    """Regions of constant gate signs, of one layer's MLP, that prompts cross, made by `gate_regions`.

    Attributes
    ----------
    between_tokens : int array, shape=[batch, tokens - 1]
        1 plus the number of gates that differ between the MLP inputs of consecutive tokens: the number of regions met
        by the segment between them, where no two gates change at one point. -1 where either token is padding.
    around_tokens : int array, shape=[batch, tokens, n_neighbours]
        The same for the segments between each token's MLP input and its neighbours; -1 where the token is padding.
    n_gates : int
        Number of hyperplanes. No count exceeds it by more than 1.
    layer : int
        The layer, from 0.
    radius : float
        Distance of the neighbours, relative to the norm of the token's MLP input.
    """

    between_tokens: np.ndarray
    around_tokens: np.ndarray
    n_gates: int
    layer: int
    radius: float


def gate_regions(
    model: Model,
    input_ids: ArrayLike,
    attention_mask: ArrayLike | None = None,
    *,
    layer: int | Sequence[int],
    radius: float = 0.1,
    n_neighbours: int = 8,
    seed: int = 0,
) -> GateRegions | list[GateRegions]:
    """Count the regions of a language model's MLP between consecutive tokens, and between tokens and neighbours.

    A region is a set of MLP inputs with one pattern of active gates, that is, of gates with a pre-activation > 0
    (arXiv 2312.01648). The gate is one affine map, so a segment crosses each hyperplane at most once. It meets 1 region
    more than gates differ between its ends, as long as no two gates change at the same point. Where several do, it
    meets fewer: without biases all hyperplanes go through the origin, and from x to -x all gates differ, but only 2
    regions are met, apart from the origin itself. The number returned is that of the gates that differ, plus 1.

    On a region a plain MLP with ReLU is affine; a gated MLP is not, and one with SiLU or GELU does not change its form
    at the borders (`mlp_parts`).

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model. It is not modified.
    input_ids : array-like, shape=[batch, tokens], int
        Token ids; shape=[tokens] is taken as a batch of one.
    attention_mask : array-like, shape=[batch, tokens], optional
        1 for tokens, 0 for padding, on either side.
    layer : int or sequence of int
        Layer of the MLP, from 0; a negative number counts from the last. A sequence takes one forward pass too.
    radius : float
        Distance of the neighbours, relative to the norm of the token's own MLP input: neighbour k of input x is
        ``x + radius |x| u_k``. Positive.
    n_neighbours : int
        Number of neighbours, at least 1.
    seed : int
        Seed of the directions u_k, which are uniform on the unit sphere. They are the same for all tokens and batches.

    Returns
    -------
    GateRegions, or list of GateRegions
        A list when ``layer`` is a sequence, in its order.

    Raises
    ------
    TypeError
        If `model` is not a transformers model, or an argument has a wrong type.
    ValueError
        If the prompts are empty or too long, the mask does not fit, a number is out of range, or the layer's MLP is
        unsupported (the error gives the reason): a mixture of experts, or an MLP whose gate is not known by name.

    Notes
    -----
    The gate is the input of the activation: the output of a gated MLP's gate projection (its first half, where the
    gate is fused with the up projection), or of a plain MLP's first projection. Biases are included.

    The MLP's input is the model's own, in the model's type. Pre-activations are computed from it in float32, for
    both tokens and neighbours; a model in bfloat16 may itself see the other sign where a gate is almost 0.

    The forward pass stops at the last layer asked for. Apart from the pass and the counts, memory does not grow with
    `n_neighbours` or the number of layers.

    Examples
    --------
    >>> from geolib.models import load
    >>> model, tokenizer = load()
    >>> ids = tokenizer("Natalia sold clips to 48 of her friends.", return_tensors="pt").input_ids
    >>> regions = gate_regions(model, ids, layer=-1)
    >>> regions.n_gates, regions.around_tokens.shape == (*ids.shape, 8)
    (1536, True)
    """
    ids = check_ids("gate_regions", model, input_ids)
    mask = torch.ones_like(ids) if attention_mask is None else check_mask("gate_regions", attention_mask, ids.shape)
    mask = mask.to(ids.device, torch.long)
    radius = float(above_zero("gate_regions: radius", radius))
    n_neighbours = integer("gate_regions: n_neighbours", n_neighbours, 1)
    seed = integer("gate_regions: seed", seed, 0)
    wanted = layer_numbers("gate_regions", model, layer)
    gates = {number: find_gate("gate_regions", model, number) for number in wanted}
    counted = {}

    def count(number, x):
        x = x.reshape(ids.numel(), -1).float()  # some models have flattened it already
        if not x[mask.flatten().to(x.device) == 1].isfinite().all():
            raise not_finite("gate_regions", f"NaN or infinite values before the MLP of layer {number}")
        W, b = _affine_map(*gates[number])
        directions = np.random.default_rng(seed).standard_normal((n_neighbours, x.shape[1]))
        directions *= radius / np.linalg.norm(directions, axis=1, keepdims=True)
        # The gates of a neighbour are those of its token plus a multiple of these shifts.
        shifts = torch.as_tensor(directions, dtype=torch.float32, device=x.device) @ W.T
        if not (x[mask.flatten().to(x.device) == 1].norm(dim=1).max() * shifts.abs().max()).isfinite():
            raise ValueError(f"gate_regions: radius is {radius:g}, but neighbours that float32 holds were expected")
        between, around = _count(x, W, b, shifts)
        between = between.reshape(ids.shape)[:, :-1]  # without those from one prompt to the next
        around = around.reshape(*ids.shape, n_neighbours)
        real = mask.cpu().numpy() == 1
        counts = np.where(real[:, :-1] & real[:, 1:], between, -1), np.where(real[..., None], around, -1)
        counted[number] = GateRegions(*counts, len(W), number, radius)

    projections = {number: projection for number, (projection, _) in gates.items()}
    visit("gate_regions", projections, count, model, ids, mask)
    return [counted[number] for number in wanted] if np.ndim(layer) else counted[wanted[0]]


def gate_hyperplanes(model: Model, *, layer: int) -> tuple[np.ndarray, ...]:
    """Return the hyperplanes that cut the input space of one layer's MLP by the signs of its gates: a gate is 0 there.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model.
    layer : int
        Layer of the MLP, from 0; a negative number counts from the last.

    Returns
    -------
    normals : array-like, shape=[n_gates, width]
    offsets : array-like, shape=[n_gates]
        Gate k is active at the MLP's input x where normals[k] @ x + offsets[k] > 0. Both arrays are in float32. If the
        gate has no bias, all offsets are 0 and the hyperplanes go through the origin.

    Raises
    ------
    TypeError, ValueError
        As `gate_regions`.

    Examples
    --------
    >>> from geolib.models import load
    >>> model, _ = load()
    >>> normals, offsets = gate_hyperplanes(model, layer=-1)
    >>> normals.shape, bool(offsets.any())
    ((1536, 576), False)
    """
    (number,) = layer_numbers("gate_hyperplanes", model, [layer])
    with torch.no_grad():
        return tuple(part.cpu().numpy() for part in _affine_map(*find_gate("gate_hyperplanes", model, number)))


def isotropic_gates(start: ArrayLike, end: ArrayLike, n_gates: int) -> np.ndarray:
    """Return how many gates are expected to differ between two inputs if the gates' normals were random directions.

    A hyperplane through the origin with a uniformly random normal separates two points with probability angle / pi.
    This is the null model of counts between tokens: it knows the angle and nothing of the gates.

    Parameters
    ----------
    start, end : array-like, shape=[..., width]
        Inputs of an MLP whose gate has no bias. Leading axes are broadcast.
    n_gates : int
        From 1 to 10^15.

    Returns
    -------
    array-like, shape=[...]
        n_gates * angle / pi, from 0 to n_gates. For independent normals the number itself is binomial, of this mean.

    Raises
    ------
    TypeError, ValueError
        If shapes do not fit, numbers are not finite, `n_gates` is no such integer, or a vector is 0.

    Notes
    -----
    The angle is ``2 atan2(|u - v|, |u + v|)`` of the unit vectors u and v, which is accurate for small angles too
    (Kahan 2006, "How futile are mindless assessments of roundoff"). A SmolLM2 layer has 1,536 gates, without bias.

    Examples
    --------
    A right angle separates the two sides of half of all hyperplanes, and x and -x of all:

    >>> isotropic_gates([1.0, 0.0], [[0.0, 2.0], [-3.0, 0.0]], 1536)
    array([ 768., 1536.])
    """
    n_gates = integer("isotropic_gates: n_gates", n_gates, 1, _MOST)
    u, v = (_unit(f"isotropic_gates: {name}", given) for name, given in (("start", start), ("end", end)))
    if u.shape[-1] != v.shape[-1]:
        raise ValueError(f"isotropic_gates: end has width {v.shape[-1]}, but {u.shape[-1]}, as start, was expected")
    try:
        np.broadcast_shapes(u.shape, v.shape)
    except ValueError:
        expected = f"one that broadcasts with {u.shape}, as start, was expected"
        raise ValueError(f"isotropic_gates: end has shape {v.shape}, but {expected}") from None
    return n_gates * 2 / np.pi * np.arctan2(np.linalg.norm(u - v, axis=-1), np.linalg.norm(u + v, axis=-1))


def isotropic_gates_around(radius: float, *, n_gates: int, width: int) -> float:
    """Return how many random gates are expected to differ between an input and a neighbour in a random direction.

    Parameters
    ----------
    radius : float
        Distance of the neighbour relative to the norm of the input, as for `gate_regions`. Positive.
    n_gates : int
        From 1 to 10^15.
    width : int
        Dimension of the inputs, at least 2.

    Returns
    -------
    float
        The mean of `isotropic_gates` between x and ``x + radius |x| u`` over all directions u. In many dimensions u is
        almost orthogonal to x, and the mean tends to n_gates * arctan(radius) / pi.

    Raises
    ------
    TypeError, ValueError
        If an argument is no such number.

    Notes
    -----
    If phi is the angle between u and x, the neighbour lies at the angle atan2(radius sin phi, 1 + radius cos phi), and
    phi has a density proportional to sin(phi)^(width - 2). The mean is taken by the midpoint rule. Above a width of 1e7
    the density is too narrow for that. There the angle is expanded around phi = pi / 2, where it is a = arctan(radius)
    and its second derivative is -sin(4 a) / 4. The variance of phi is 1 / width, up to terms of 1 / width^2, so that
    the mean angle is a - sin(4 a) / (8 width).

    Examples
    --------
    >>> import math
    >>> round(isotropic_gates_around(0.1, n_gates=1536, width=576), 2), round(1536 * math.atan(0.1) / math.pi, 2)
    (48.69, 48.73)
    """
    radius = float(above_zero("isotropic_gates_around: radius", radius))
    n_gates = integer("isotropic_gates_around: n_gates", n_gates, 1, _MOST)
    width = integer("isotropic_gates_around: width", width, 2)
    if width > 10**7:
        limit = np.arctan(radius)
        return float(n_gates * (limit - np.sin(4 * limit) / 8 * (1 / width)) / np.pi)
    phi = (np.arange(1 << 14) + 0.5) * np.pi / (1 << 14)
    angle = np.arctan2(radius * np.sin(phi), 1 + radius * np.cos(phi))
    return float(n_gates * np.average(angle, weights=np.sin(phi) ** (width - 2)) / np.pi)


def gate_names(model: Model) -> list[str]:
    """Name the modules whose outputs are the gates, layer by layer; the argument and errors are as in `gate_regions`.

    If gate and up projection are fused, only the first half of the output is the gate.
    """
    check_model("gate_names", model)
    names = {module: name for name, module in model.named_modules()}
    return [names[find_gate("gate_names", model, layer)[0]] for layer in range(layer_count("gate_names", model))]


@dataclass(frozen=True, eq=False)
class MlpParts:
    """One layer's MLP over one prompt, neuron by neuron, made by `mlp_parts`.

    Its output is ``(activation(gates) * factors) @ readout.T + offset`` (the gated forms of arXiv 2002.05202).

    Attributes
    ----------
    gates : array-like, shape=[tokens, n_gates]
        What enters the activation. Like the factors it is an affine map of the MLP's input: half-way between two
        inputs lies the mean of theirs.
    factors : array-like, shape=[tokens, n_gates]
        What the activation's values are multiplied by: the up projection, or 1 in a plain MLP, which has none.
    readout : array-like, shape=[width, n_gates]
    offset : array-like, shape=[width]
        The bias of the readout, or zeros.
    activation : callable
        The model's own, from array to array.
    layer : int
        The layer, from 0.
    """

    gates: np.ndarray
    factors: np.ndarray
    readout: np.ndarray
    offset: np.ndarray
    activation: Callable[[np.ndarray], np.ndarray]
    layer: int

    def output(self, activation: Callable | None = None) -> np.ndarray:
        """Return the MLP's output, shape=[tokens, width], with another activation (array to array) if it is given.

        Raises
        ------
        TypeError, ValueError
            If the activation is no such function: it must give a finite real number for each gate.
        """
        return self._own if activation is None else self._with("MlpParts.output: activation", activation)

    def _with(self, name, activation):
        """Output with this activation, which is checked; `name` prefixes the messages."""
        if not callable(activation):
            raise TypeError(f"{name} is {one_line(activation)}, but a function of arrays was expected")
        try:
            given = activation(self.gates.copy())  # it may change what it gets
        except Exception as error:  # a function of somebody's own may raise anything
            found = f"raises {type(error).__name__} ({one_line(str(error))})"
            raise TypeError(f"{name} {found}, but a function from NumPy array to array was expected") from error
        finite, values = finite_array(f"{name}'s value", given), np.asarray(given)
        if values.shape != self.gates.shape:
            found = f"has shape {values.shape}, but {self.gates.shape}, as the gates, was expected"
            raise ValueError(f"{name}'s value {found}")
        with np.errstate(over="ignore", invalid="ignore"):
            output = ((values if values.dtype.kind == "f" else finite) * self.factors) @ self.readout.T + self.offset
        finite_array(f"{name}'s output", output)
        return output

    @cached_property
    def _own(self):
        return self._with("MlpParts: activation", self.activation)

    def _norms(self, method):
        """Norms of the model's own output, shape=[tokens, 1], by which others are divided."""
        norms = np.linalg.norm(self._own.astype(np.float64), axis=1, keepdims=True)
        if not norms.all():
            found = f"output of token {np.argmin(norms)} is 0"
            raise ValueError(f"MlpParts.{method}: {found}, but a norm above 0 was expected")
        return norms

    def error(self, activation: Callable) -> np.ndarray:
        """Return how far another activation moves each token's output, relative to its norm, shape=[tokens].

        Raises
        ------
        TypeError, ValueError
            As `output`; or the model's own output is 0 for a token.
        """
        moved = self._with("MlpParts.error: activation", activation) - self._own
        with np.errstate(over="ignore"):
            error = np.linalg.norm(moved.astype(np.float64), axis=1) / self._norms("error")[:, 0]
        finite_array("MlpParts.error: error", error)
        return error

    def fit(self, *functions: Callable) -> np.ndarray:
        """Return the coefficients with which a sum of functions is the best activation, shape=[n_functions].

        Best is the least sum, over tokens, of the squared relative error of the output: linear least squares.

        Raises
        ------
        TypeError, ValueError
            As `error`; or there is no function.
        """
        if not functions:
            raise ValueError("MlpParts.fit: functions is empty, but at least one was expected")
        scale, outputs = self._norms("fit"), [self._own]
        outputs += [self._with(f"MlpParts.fit: functions[{k}]", one) for k, one in enumerate(functions)]
        own, *columns = (((output - self.offset) / scale).ravel() for output in outputs)
        return np.linalg.lstsq(np.stack(columns, axis=1), own, rcond=None)[0]


def mlp_parts(
    model: Model, input_ids: ArrayLike, *, layer: int | Sequence[int], skip: int = 0
) -> MlpParts | list[MlpParts]:
    """Take the MLP of a layer apart, at the inputs that a prompt gives it, to compute it with another activation.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model. It is not modified.
    input_ids : array-like, shape=[tokens] or [1, tokens], int
        Token ids of one prompt.
    layer : int or sequence of int
        Layer, from 0; a negative number counts from the last. A sequence takes one forward pass too.
    skip : int
        How many of the first tokens are left out of the result; the first is often a sink, unlike all others.

    Returns
    -------
    MlpParts, or list of MlpParts
        A list when ``layer`` is a sequence, in its order. All is in float32, and on the CPU.

    Raises
    ------
    TypeError, ValueError
        As `gate_regions`, for all linear maps of the MLP; or what the model computes between gate and readout is not
        the activation times the factors.

    Examples
    --------
    With ReLU in place of SiLU the output of a gated MLP changes by much of its norm:

    >>> from geolib.models import load
    >>> model, tokenizer = load()
    >>> ids = tokenizer("Natalia sold clips to 48 of her friends.", return_tensors="pt").input_ids
    >>> parts = mlp_parts(model, ids, layer=9, skip=1)
    >>> bool(np.median(parts.error(lambda z: np.maximum(z, 0))) > 0.5)
    True
    """
    ids = check_ids("mlp_parts", model, input_ids, one=True)
    skip = integer("mlp_parts: skip", skip, 0, ids.shape[1] - 1)
    wanted = layer_numbers("mlp_parts", model, layer)
    mlps = {number: find_mlp("mlp_parts", model, number, whole=True) for number in wanted}
    given = {}

    def note(place, x):
        given[place] = x.reshape(ids.numel(), -1)[skip:]

    ends = {(number, end): getattr(mlp, names[end]) for number, (mlp, names) in mlps.items() for end in (0, -1)}
    visit("mlp_parts", ends, note, model, ids, torch.ones_like(ids))
    with torch.no_grad():
        made = {k: _parts(model, k, *mlps[k], given[k, 0], given[k, -1]) for k in mlps}
    return [made[number] for number in wanted] if np.ndim(layer) else made[wanted[0]]


def _parts(model, number, mlp, names, x, hidden):
    """Make the MlpParts of a layer from the input of its gate, and check them against the input of its readout."""
    maps = [[part.float() for part in linear_map(getattr(mlp, name))] for name in names]
    values = [torch.addmm(b, x.float(), W.T) for W, b in maps[:-1]]
    values = values[0].chunk(2, dim=1) if names[0] == "gate_up_proj" else values
    gates, factors = values if len(values) == 2 else (values[0], torch.ones_like(values[0]))
    acts = [getattr(mlp, name) for name in ("act_fn", "activation_fn", "act") if hasattr(mlp, name)]
    off = [(act(gates) * factors - hidden).norm() for act in acts]
    if not hidden.isfinite().all():
        raise not_finite("mlp_parts", f"NaN or infinite values in the MLP of layer {number}")
    if not acts or off[0] > max(1e-5, 4 * torch.finfo(x.dtype).eps) * hidden.norm():
        reason = f", whose layer {number} does not read out its activation times one linear map"
        raise unfit("mlp_parts", model, reason, "an MLP of a known form")
    arrays = (part.cpu().numpy() for part in (gates, factors, *maps[-1]))
    return MlpParts(*arrays, lambda z: acts[0](torch.tensor(z) + 0.0).numpy(), number)


def _count(x, W, b, shifts):
    """Count regions from each row of x to the next, shape=[n], and to its k neighbours, shape=[n, k]."""
    norm = x.norm(dim=1, keepdim=True)
    between, around = [], []
    rows = max(1, _BLOCK // len(W))
    for start in range(0, len(x), rows):
        z = torch.addmm(b, x[start : start + rows + 1], W.T)  # one row more: the first of the next block
        on = z > 0
        between.append((on[1:] != on[:-1]).sum(dim=1))
        z, on, distance = z[:rows], on[:rows], norm[start : start + rows]
        around.append(torch.stack([((z + distance * shift > 0) != on).sum(dim=1) for shift in shifts], dim=1))
    between.append(between[-1].new_zeros(1))  # the last row has no successor
    return tuple(1 + torch.cat(counts).cpu().numpy() for counts in (between, around))


def _unit(name, vectors):
    """Return vectors, shape=[..., width], divided by their norms."""
    vectors = finite_array(name, vectors)
    if not vectors.ndim or not (largest := np.abs(vectors).max(axis=-1, keepdims=True, initial=0)).all():
        found = "holds a vector of zeros" if vectors.ndim else f"is {one_line(vectors.item())}"
        raise ValueError(f"{name} {found}, but vectors with a direction were expected")
    vectors = vectors / largest  # so that no square over- or underflows
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _affine_map(projection, half):
    """Return weights, shape=[n_gates, width], and biases, shape=[n_gates], of the gate in float32."""
    W, b = (part.float() for part in linear_map(projection))
    return (W[: len(W) // 2], b[: len(b) // 2]) if half else (W, b)
