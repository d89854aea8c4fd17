"""Regions of a language model's MLP: by the signs of its gate.

An MLP with a smooth activation is not piecewise affine, but what goes into the activation is an affine map of the
MLP's input, and its signs cut the input space along hyperplanes as ReLU neurons would. These regions stand in for
those of a piecewise affine MLP (arXiv 2312.01648).
"""

from dataclasses import dataclass

import numpy as np
import torch

from geolib.checks import above_zero, integer
from geolib.dimension.architectures import find_gate, layer_count, linear_map
from geolib.dimension.lm import check_ids, check_mask, layer_numbers, visit

_BLOCK = 1 << 22  # gate values computed at a time


@dataclass(frozen=True, eq=False)
class GateRegions:
    """Regions of one layer's MLP that prompts cross, made by `gate_regions`.

    Attributes
    ----------
    between_tokens : int array, shape=[batch, tokens - 1]
        Regions met by the segment between the MLP inputs of consecutive tokens, both ends' included: 1 if they lie
        in the same one. -1 where either token is padding.
    around_tokens : int array, shape=[batch, tokens, n_neighbours]
        The same between each token's MLP input and its neighbours; -1 where the token is padding.
    n_gates : int
        Number of hyperplanes: no count exceeds it by more than 1.
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


def gate_regions(model, input_ids, attention_mask=None, *, layer, radius=0.1, n_neighbours=8, seed=0):
    """Count the regions of a language model's MLP between consecutive tokens, and between tokens and neighbours.

    A region is a set of MLP inputs with one pattern of active gates, that is, of gates with a pre-activation > 0
    (arXiv 2312.01648). The gate is one affine map, so a segment crosses each hyperplane at most once: it meets as
    many regions as gates differ between its ends, plus 1.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model. It leaves the call as it entered it.
    input_ids : array-like, shape=[batch, tokens], int
        Token ids; shape=[tokens] is taken as a batch of one.
    attention_mask : array-like, shape=[batch, tokens], optional
        1 for tokens, 0 for padding, on either side.
    layer : int or sequence of int
        Whose MLP, from 0; negative counts from the last. A sequence is one pass too.
    radius : float
        Distance of the neighbours, relative to the norm of the token's own MLP input: neighbour k of input x is
        ``x + radius |x| u_k``. Positive.
    n_neighbours : int
        Number of neighbours, at least 1.
    seed : int
        For the directions u_k, uniform on the unit sphere. They are the same for all tokens, whatever the batch.

    Returns
    -------
    GateRegions, or list of GateRegions
        A list when ``layer`` is a sequence, in its order.

    Raises
    ------
    TypeError
        If `model` is no transformers model, or an argument has a wrong type.
    ValueError
        If the prompts are empty or too long, the mask does not fit, a number is out of range, or the layer's MLP is
        not one that is covered (named): a mixture of experts, or one whose gate is not known by name.

    Notes
    -----
    The gate is what goes into the activation: the gate projection of a gated MLP (the first half where it is fused
    with the up projection), the first projection of a plain one. Biases are included.

    The MLP's input is the model's own, in the model's type. Pre-activations are computed from it in float32, for
    tokens and neighbours alike; in bfloat16 the model itself may see another sign where a gate is almost 0.

    The forward pass stops at the last layer asked for. Beyond it, memory grows with neither `n_neighbours` nor layers,
    but for the counts.

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
    mask = torch.ones_like(ids)
    if attention_mask is not None:
        mask = check_mask("gate_regions", attention_mask, ids.shape).to(ids.device, torch.long)
    radius = float(above_zero("gate_regions: radius", radius))
    n_neighbours = integer("gate_regions: n_neighbours", n_neighbours, 1)
    seed = integer("gate_regions: seed", seed, 0)
    wanted = layer_numbers("gate_regions", model, layer)
    gates = {number: find_gate("gate_regions", model, number) for number in wanted}
    counted = {}

    def count(number, x):
        x = x.reshape(ids.numel(), -1).float()  # some models have flattened it already
        if not x[mask.flatten().to(x.device) == 1].isfinite().all():
            raise ValueError(f"gate_regions: model gives NaN or infinite values before the MLP of layer {number}")
        W, b = _affine_map(*gates[number])
        directions = np.random.default_rng(seed).standard_normal((n_neighbours, x.shape[1]))
        directions *= radius / np.linalg.norm(directions, axis=1, keepdims=True)
        # A neighbour's gates are the token's, plus a multiple of these.
        shifts = torch.as_tensor(directions, dtype=torch.float32, device=x.device) @ W.T
        between, around = _count(x, W, b, shifts)
        between = between.reshape(ids.shape)[:, :-1]  # less those from one prompt to the next
        around = around.reshape(*ids.shape, n_neighbours)
        real = mask.cpu().numpy() == 1
        counts = np.where(real[:, :-1] & real[:, 1:], between, -1), np.where(real[..., None], around, -1)
        counted[number] = GateRegions(*counts, len(W), number, radius)

    projections = {number: projection for number, (projection, _) in gates.items()}
    visit("gate_regions", projections, count, model, ids, mask)
    return [counted[number] for number in wanted] if np.ndim(layer) else counted[wanted[0]]


def gate_hyperplanes(model, *, layer):
    """Hyperplanes that cut the input space of one layer's MLP into regions: those on which a gate is 0.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model.
    layer : int
        Whose MLP, from 0; negative counts from the last.

    Returns
    -------
    normals : array-like, shape=[n_gates, width]
    offsets : array-like, shape=[n_gates]
        Gate k is active at the MLP's input x where normals[k] @ x + offsets[k] > 0. In float32. All offsets are 0 where
        the gate has no bias: then the hyperplanes go through the origin.

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


def gate_names(model) -> list[str]:
    """Name the modules whose outputs are the gates, layer by layer; parameters and errors as for `gate_regions`.

    Where gate and up projection are fused, the second half of the output is not the gate.
    """
    names = {module: name for name, module in model.named_modules()}
    layers = range(layer_count("gate_names", model))
    return [names[find_gate("gate_names", model, layer)[0]] for layer in layers]


def _count(x, W, b, shifts):
    """Regions between neighbouring rows of x, shape=[n]; and from each row over radius |x| directions, shape=[n, k]."""
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


def _affine_map(projection, half):
    """Weights and biases of the gate in float32, shape=[n_gates, width] and shape=[n_gates]."""
    W, b = (part.float() for part in linear_map(projection))
    return (W[: len(W) // 2], b[: len(b) // 2]) if half else (W, b)
