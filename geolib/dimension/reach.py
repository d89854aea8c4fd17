"""What the input of an MLP could be if attention spread its weights in another way: the set of Theorem 2.1.

A token's row of multi-head attention is a sum over heads of convex means (arXiv 2407.02678, Theorem 2.1). The residual
adds a point, and RMSNorm scales the sum by a positive number and each coordinate by a fixed one. So a linear function
of the MLP's input has the same sign before the scaling, where the set is a polytope: its smallest and largest values
are sums over heads of those at the vertices. Therefore it is known exactly which hyperplanes through the origin cut
the set.
"""

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from geolib.checks import finite_array, integer, one_line
from geolib.dimension.architectures import UncountableError, find_blocks, refusing
from geolib.dimension.heads import AttentionHeads, layer_heads, rounding_of
from geolib.dimension.lm import hearing, layer_numbers, ours
from geolib.dimension.minkowski import head_ranks, supports
from geolib.dimension.rules import several
from geolib.typing import Model


@dataclass(frozen=True, eq=False)
class MlpReach:
    """The inputs of one layer's MLP over one prompt, and the set that they could reach; made by `mlp_reach`.

    Attributes
    ----------
    heads : AttentionHeads
        The attention, head by head.
    states : array-like, shape=[tokens, width]
        Residual stream plus attention: the input of the RMSNorm before the MLP.
    inputs : array-like, shape=[tokens, width]
        Output of the RMSNorm, and input of the MLP: ``gain * states``, each row times a positive number.
    gain : array-like, shape=[width]
        Gain of the RMSNorm, up to a positive factor.
    """

    heads: AttentionHeads
    states: np.ndarray
    inputs: np.ndarray
    gain: np.ndarray

    def extremes(
        self, directions: ArrayLike, tokens: Sequence[int] | None = None, *, eps: float = 0.1, rule: str = "absolute"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the smallest and largest values that linear functions take on the set that each token could reach.

        In each head the weight above the threshold moves freely between the tokens that hold it; the rest stays. With
        eps = 0 this is the set of Theorem 2.1, and a larger eps gives a part of it. It contains the token's own state.

        Parameters
        ----------
        directions : array-like, shape=[n, width]
            Linear functions of the MLP's input, such as the rows of its gate.
        tokens : sequence of int, optional
            Tokens, from 0; a negative number counts from the last. By default all of them.
        eps, rule
            As in `geolib.dimension.eps_support`.

        Returns
        -------
        low, high : array-like, shape=[tokens, n]
            Values at ``gain * state``, which is the MLP's input times a positive number. Hyperplane k through the
            origin cuts token i's set if ``low[i, k] < 0 < high[i, k]``.

        Raises
        ------
        TypeError, ValueError
            If shapes do not fit, numbers are not finite, a value is beyond float64, a token does not exist, or eps or
            rule are out of range.

        Notes
        -----
        Computed in float32, as in the model, with directions scaled to a size near 1, so that they may have any size.
        A hull lies between its vertices, and a sum of hulls between sums of vertices, so nothing is sampled, and time
        grows with the number of vertices, not with that of their combinations.
        """
        _, directions, exponent = self._directions("extremes: directions", directions)
        low, high = self._extremes("extremes", directions, self._tokens("extremes", tokens), eps, rule)
        return _scaled("extremes", low, exponent), _scaled("extremes", high, exponent)

    def _extremes(self, method, directions, tokens, eps, rule):
        low = self.states[tokens] @ directions.T
        high = low.copy()
        for h, (weights, support) in enumerate(self._supports(method, tokens, eps, rule)):
            used = support.any(axis=0)
            points = np.linalg.multi_dot([self.heads.values[h, used], self.heads.out_proj[h], directions.T])
            kept = np.where(support, weights, 0)[:, used]
            mass, mean = kept.sum(axis=1), kept @ points
            for row, vertices in enumerate(support[:, used]):
                if vertices.any():
                    low[row] += mass[row] * points[vertices].min(axis=0) - mean[row]
                    high[row] += mass[row] * points[vertices].max(axis=0) - mean[row]
        return low, high

    def table(
        self, normals: ArrayLike, tokens: Sequence[int] | None = None, *, eps: float = 0.1, rule: str = "absolute"
    ) -> pd.DataFrame:
        """Tabulate dimension, size and cuts of the set that each token could reach.

        Parameters
        ----------
        normals : array-like, shape=[n, width]
            Normals of hyperplanes through the origin of the MLP's input space, as `geolib.dimension.gate_hyperplanes`
            returns them.
        tokens, eps, rule
            As for `extremes`.

        Returns
        -------
        pandas.DataFrame
            A row per token: ``token``, from 0; ``id``, the number of edges above the threshold, summed over heads
            (eq. 8 of arXiv 2407.02678); ``dimension`` of the set in general position,
            ``min(width, sum over heads of min(|S_h| - 1, rank O_h))`` with S_h the edges of a head that has any, as in
            `minkowski_dimension` (whose rank is smaller where tokens repeat); ``width``, the mean width of the set
            along the normals, for ``gain * state`` and relative to its norm; ``cut``, how many hyperplanes cut the set.

        Raises
        ------
        TypeError, ValueError
            As `extremes`; and if there is no normal, or one is 0.
        """
        scaled, directions, _ = self._directions("table: normals", normals)
        length = np.linalg.norm(scaled, axis=1)
        if not (len(length) and length.all()):
            what = f"normals[{np.argmin(length)}] is 0" if len(length) else "normals is empty"
            raise ValueError(f"MlpReach.table: {what}, but normals of hyperplanes were expected")
        tokens = self._tokens("table", tokens)
        low, high = self._extremes("table", directions, tokens, eps, rule)
        size = supports("MlpReach.table", self.heads.weights[:, tokens], eps, rule).sum(axis=2)  # shape=[heads, tokens]
        ranks = head_ranks(self.heads.out_proj)[:, None]
        norm = np.linalg.norm(self.states[tokens] * self.gain, axis=1)
        return pd.DataFrame(
            {
                "token": tokens,
                "id": size.sum(axis=0),
                "dimension": np.minimum(np.clip(size - 1, 0, ranks).sum(axis=0), self.states.shape[1]),
                "width": ((high - low) / length).mean(axis=1) / norm,
                "cut": ((low < 0) & (high > 0)).sum(axis=1),
            }
        )

    def sample(
        self, directions: ArrayLike, token: int = -1, *, n: int, eps: float = 0.1, rule: str = "absolute", seed: int = 0
    ) -> np.ndarray:
        """Evaluate linear functions at points drawn from the set that a token could reach.

        In each head the weights are drawn uniformly from their simplex.

        Parameters
        ----------
        directions, eps, rule
            As for `extremes`, which gives bounds of the values.
        token : int
            Number of the token, from 0; a negative number counts from the last.
        n : int
            Number of points, at least 1.
        seed : int
            Seed of the weights.

        Returns
        -------
        array-like, shape=[n, n_directions]
        """
        _, directions, exponent = self._directions("sample: directions", directions)
        (token,) = self._tokens("sample", [token])
        n = integer("MlpReach.sample: n", n, 1)
        rng = np.random.default_rng(integer("MlpReach.sample: seed", seed, 0))
        drawn = np.repeat(self.states[[token]] @ directions.T, n, axis=0)
        for h, (weights, support) in enumerate(self._supports("sample", [token], eps, rule)):
            (vertices,) = support
            if vertices.any():
                points = np.linalg.multi_dot([self.heads.values[h, vertices], self.heads.out_proj[h], directions.T])
                now = weights[0, vertices]
                moved = now.sum() * rng.dirichlet(np.ones(len(now)), size=n) - now
                drawn += moved.astype(np.float32) @ points
        return _scaled("sample", drawn, exponent)

    def _supports(self, method, tokens, eps, rule):
        weights = self.heads.weights[:, tokens]
        return zip(weights, supports(f"MlpReach.{method}", weights, eps, rule), strict=True)

    def _directions(self, name, directions):
        """Return directions divided by powers of 2, the same before the norm's scaling in float32, and the exponents.

        So scaled their largest coordinate is near 1, and float32 neither over- nor underflows.
        """
        directions, width = finite_array(f"MlpReach.{name}", directions), self.states.shape[1]
        if directions.ndim != 2 or directions.shape[1] != width:
            raise ValueError(f"MlpReach.{name} has shape {directions.shape}, but [n, {width}] was expected")
        exponent = np.frexp(np.abs(directions).max(axis=1))[1]
        scaled = np.ldexp(directions, -exponent[:, None])
        return scaled, (scaled * self.gain).astype(np.float32), exponent

    def _tokens(self, method, tokens):
        """Return the numbers of tokens, from 0."""
        n = len(self.states)
        tokens = range(n) if tokens is None else tokens
        if not np.iterable(tokens):
            raise TypeError(f"MlpReach.{method}: tokens is {one_line(tokens)}, but a sequence of integers was expected")
        return [integer(f"MlpReach.{method}: token", one, -n, n - 1) % n for one in several(tokens)]


def _scaled(method, values, exponent):
    """Multiply values, in float64, by the powers of 2 by which their directions were divided."""
    with np.errstate(over="ignore"):
        return finite_array(f"MlpReach.{method}: a value", np.ldexp(values.astype(np.float64), exponent)).copy()


def mlp_reach(model: Model, input_ids: ArrayLike, *, layer: int | Sequence[int]) -> MlpReach | list[MlpReach]:
    """Take apart the input of a layer's MLP over one prompt: residual stream, attention by head, RMSNorm.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model whose blocks are MLP(RMSNorm(x + attention(x))), as those of llama, mistral, qwen,
        gemma (the first) and phi3 are. The model is not modified.
    input_ids : array-like, shape=[tokens] or [1, tokens], int
        One prompt, without padding.
    layer : int or sequence of int
        Number of the layer, from 0; a negative number counts from the last. A sequence takes one forward pass too.

    Returns
    -------
    MlpReach, or list of MlpReach
        A list when ``layer`` is a sequence, in its order.

    Raises
    ------
    TypeError, ValueError
        As `geolib.dimension.attention_heads`; and if the sum of a block's input and its attention is not the input of
        an RMSNorm. With a LayerNorm, a second norm or a parallel MLP the set is another one.

    Examples
    --------
    How many of the 1,536 gates could the last token's attention switch, if it only gave its strong edges other weights?

    >>> from geolib.dimension import gate_hyperplanes
    >>> from geolib.models import load
    >>> model, tokenizer = load()
    >>> ids = tokenizer("Natalia sold clips.", return_tensors="pt").input_ids
    >>> normals, offsets = gate_hyperplanes(model, layer=-1)
    >>> low, high = mlp_reach(model, ids, layer=-1).extremes(normals, [-1], eps=0.1)
    >>> bool(offsets.any()), low.shape, bool(0 < ((low < 0) & (high > 0)).sum() < 1536)
    (False, (1, 1536), True)
    """
    wanted, blocks = layer_numbers("mlp_reach", model, layer), find_blocks(model)
    entered, parts = {}, {number: [] for number in wanted}  # by layer: its input; module, input and output of its parts
    with refusing("mlp_reach", model, "blocks of the form MLP(RMSNorm(x + attention(x)))"):
        if not blocks:
            raise UncountableError("has no list of its layers")
        layers = {number: blocks[number] for number in wanted}
        with hearing(layers, entered.setdefault), contextlib.ExitStack() as hooks:
            for number, block in layers.items():
                hook = ours(functools.partial(_note, parts[number]))
                for part in block.modules():
                    hooks.enter_context(part.register_forward_hook(hook))
            heads = layer_heads(model, input_ids, wanted)
        with torch.no_grad():
            reaches = {number: _reach(heads[number], entered[number], parts[number]) for number in wanted}
    return [reaches[number] for number in wanted] if np.ndim(layer) else reaches[wanted[0]]


def _note(seen, module, args, result):
    """Add a module, its input and its output to `seen`, if it has no parts and both are one tensor of equal shape."""
    one = len(args) == 1 and isinstance(result, torch.Tensor) and not [*module.children()]
    if one and args[0].shape == result.shape:
        seen.append((module, args[0], result))


def _reach(heads, entered, parts):
    """Find the norm whose input is the block's input plus its attention, and check that it is an RMSNorm."""
    rounding = rounding_of(entered)
    total = entered[0].float().cpu().numpy() + heads.output
    for norm, given, returned in parts:
        states = given.reshape(-1, given.shape[-1]).float().cpu().numpy()
        if states.shape != total.shape or np.linalg.norm(states - total) > rounding * np.linalg.norm(total):
            continue
        inputs = returned.reshape(states.shape).float().cpu().numpy()
        gain = norm(torch.ones_like(given[..., :1, :])).flatten().float().cpu().numpy()
        scaled = gain * states
        factor = (inputs * scaled).sum(axis=1) / np.maximum((scaled**2).sum(axis=1), np.finfo(np.float32).tiny)
        deviation = np.linalg.norm(factor[:, None] * scaled - inputs)
        if (factor > 0).all() and deviation <= rounding * np.linalg.norm(inputs):
            return MlpReach(heads, states, inputs, gain)
    raise UncountableError(f"has no RMSNorm after the residual sum of layer {heads.layer}")
