"""What the input of an MLP could be if attention spread its weights otherwise: the set of Theorem 2.1, made concrete.

A token's row of multi-head attention is a sum over heads of convex means (arXiv 2407.02678, Theorem 2.1). The residual
adds a point, and RMSNorm scales the sum by a positive number and each coordinate by a fixed one. So a linear function
of the MLP's input has the same sign before the scaling, where the set is a polytope: its smallest and largest value are
sums over heads of those at the vertices. Which hyperplanes through the origin cut the set is known exactly.
"""

import contextlib
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from geolib.checks import finite_array, integer, one_line
from geolib.dimension.architectures import UncountableError, find_blocks, refusing
from geolib.dimension.heads import AttentionHeads, attention_heads
from geolib.dimension.lm import layer_numbers, ours
from geolib.dimension.minkowski import eps_support, head_ranks


@dataclass(frozen=True, eq=False)
class MlpReach:
    """What one layer's MLP is given over one prompt, and what else its attention could make of it; by `mlp_reach`.

    Attributes
    ----------
    heads : AttentionHeads
        The attention, head by head.
    states : array-like, shape=[tokens, width]
        Residual stream plus attention: what the RMSNorm before the MLP is given.
    inputs : array-like, shape=[tokens, width]
        What it returns, and the MLP is given: ``gain * states``, each row times a positive number.
    gain : array-like, shape=[width]
        Of the RMSNorm, up to a positive factor.
    """

    heads: AttentionHeads
    states: np.ndarray
    inputs: np.ndarray
    gain: np.ndarray

    def extremes(self, directions, tokens=None, *, eps=0.1, rule="absolute"):
        """Smallest and largest value that linear functions take on the set that tokens could reach.

        In each head the weight above the threshold moves freely between the tokens that hold it; the rest stays. With
        eps = 0 that is the set of Theorem 2.1, and a larger eps gives a part of it. The token's own state is in it.

        Parameters
        ----------
        directions : array-like, shape=[n, width]
            Linear functions of the MLP's input, as the rows of its gate.
        tokens : sequence of int, optional
            Which tokens; by default all.
        eps, rule
            As in `geolib.dimension.eps_support`.

        Returns
        -------
        low, high : array-like, shape=[tokens, n]
            Of ``gain * state``: values of the MLP's input times a positive number. Hyperplane k through the origin
            cuts token i's set where ``low[i, k] < 0 < high[i, k]``.

        Raises
        ------
        TypeError, ValueError
            If shapes do not fit, numbers are not finite, a value is beyond float64, a token is not there, or eps or
            rule are wrong.

        Notes
        -----
        Taken in float32, as the model does, for directions brought to a size near 1: theirs may be any. A hull lies
        between its vertices, and a sum of hulls between sums of vertices, so nothing is sampled: time grows with the
        vertices, not with their combinations.
        """
        directions, exponent = self._directions("extremes: directions", directions)
        low, high = self._extremes(directions, self._tokens("extremes", tokens), eps, rule)
        return _scaled("extremes", low, exponent), _scaled("extremes", high, exponent)

    def _extremes(self, directions, tokens, eps, rule):
        low = self.states[tokens] @ directions.T
        high = low.copy()
        for h, (weights, support) in enumerate(self._supports(tokens, eps, rule)):
            used = support.any(axis=0)
            points = np.linalg.multi_dot([self.heads.values[h, used], self.heads.out_proj[h], directions.T])
            kept = np.where(support, weights, 0)[:, used]
            mass, mean = kept.sum(axis=1), kept @ points
            for row, vertices in enumerate(support[:, used]):
                if vertices.any():
                    low[row] += mass[row] * points[vertices].min(axis=0) - mean[row]
                    high[row] += mass[row] * points[vertices].max(axis=0) - mean[row]
        return low, high

    def table(self, normals, tokens=None, *, eps=0.1, rule="absolute") -> pd.DataFrame:
        """Dimension, size and cuts of the set that each token could reach.

        Parameters
        ----------
        normals : array-like, shape=[n, width]
            Of hyperplanes through the origin of the MLP's input space, as `geolib.dimension.gate_hyperplanes` returns
            them.
        tokens, eps, rule
            As for `extremes`.

        Returns
        -------
        pandas.DataFrame
            A row per token: ``token``, from 0; ``id``, the edges above the threshold, summed over heads (eq. 8 of arXiv
            2407.02678); ``dimension``, what the set has in general position:
            ``min(width, sum over heads of min(|S_h| - 1, rank O_h))``, S_h the edges of a head that has any, as in
            `minkowski_dimension` (whose rank is less where tokens repeat); ``width``, its mean width along the normals,
            of ``gain * state`` and relative to its norm; ``cut``, how many hyperplanes cut it.

        Raises
        ------
        TypeError, ValueError
            As `extremes`; and if there is no normal, or one is 0.
        """
        directions, exponent = self._directions("table: normals", normals)
        length = np.linalg.norm(np.ldexp(np.transpose(finite_array("normals", normals)), -exponent), axis=0)
        if not (len(length) and length.all()):
            what = f"normals[{np.argmin(length)}] is 0" if len(length) else "normals is empty"
            raise ValueError(f"MlpReach.table: {what}, expected normals of hyperplanes")
        tokens = self._tokens("table", tokens)
        low, high = self._extremes(directions, tokens, eps, rule)
        size = eps_support(self.heads.weights[:, tokens], eps, rule).sum(axis=2)  # shape=[heads, tokens]
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

    def sample(self, directions, token=-1, *, n, eps=0.1, rule="absolute", seed=0):
        """Values of linear functions at points drawn from the set that a token could reach.

        Parameters
        ----------
        directions, eps, rule
            As for `extremes`, whose values these are.
        token : int
            Negative counts from the last.
        n : int
            Number of points, at least 1.
        seed : int
            In each head the weights are uniform on their simplex.

        Returns
        -------
        array-like, shape=[n, n_directions]
        """
        directions, exponent = self._directions("sample: directions", directions)
        (token,) = self._tokens("sample", [token])
        n = integer("MlpReach.sample: n", n, 1)
        rng = np.random.default_rng(integer("MlpReach.sample: seed", seed, 0))
        drawn = np.repeat(self.states[[token]] @ directions.T, n, axis=0)
        for h, (weights, support) in enumerate(self._supports([token], eps, rule)):
            (vertices,) = support
            if vertices.any():
                points = np.linalg.multi_dot([self.heads.values[h, vertices], self.heads.out_proj[h], directions.T])
                now = weights[0, vertices]
                moved = now.sum() * rng.dirichlet(np.ones(len(now)), size=n) - now
                drawn += moved.astype(np.float32) @ points
        return _scaled("sample", drawn, exponent)

    def _supports(self, tokens, eps, rule):
        weights = self.heads.weights[:, tokens]
        return zip(weights, eps_support(weights, eps, rule), strict=True)

    def _directions(self, name, directions):
        """Directions before the norm's scaling, in float32, each divided by a power of 2; and its exponent."""
        directions, width = finite_array(f"MlpReach.{name}", directions), self.states.shape[1]
        if directions.ndim != 2 or directions.shape[1] != width:
            raise ValueError(f"MlpReach.{name} has shape {directions.shape}, but the MLP's input has dimension {width}")
        exponent = np.frexp(np.abs(directions).max(axis=1))[1]
        return (np.ldexp(directions, -exponent[:, None]) * self.gain).astype(np.float32), exponent

    def _tokens(self, method, tokens):
        """Tokens, from 0."""
        n = len(self.states)
        tokens = range(n) if tokens is None else tokens
        if not np.iterable(tokens):
            raise TypeError(f"MlpReach.{method}: tokens is {one_line(tokens)}, expected a sequence of integers")
        return [integer(f"MlpReach.{method}: token", one, -n, n - 1) % n for one in tokens]


def _scaled(method, values, exponent):
    """Values times the powers of 2 that their directions were divided by, in float64."""
    with np.errstate(over="ignore"):
        return finite_array(f"MlpReach.{method}: a value", np.ldexp(values.astype(np.float64), exponent)).copy()


def mlp_reach(model, input_ids, *, layer):
    """Take apart what a layer's MLP is given: residual stream, attention by head, RMSNorm; over one prompt.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model whose blocks are MLP(RMSNorm(x + attention(x))), as those of llama, mistral, qwen,
        gemma (the first) and phi3 are. It leaves the call as it entered it.
    input_ids : array-like, shape=[tokens] or [1, tokens], int
        One prompt, without padding.
    layer : int or sequence of int
        From 0; negative counts from the last. A sequence is one pass too.

    Returns
    -------
    MlpReach, or list of MlpReach
        A list when ``layer`` is a sequence, in its order.

    Raises
    ------
    TypeError, ValueError
        As `geolib.dimension.attention_heads`, and if no RMSNorm is given the sum of a block's input and its attention:
        after a LayerNorm, a second norm or beside a parallel MLP the set is another one.

    Examples
    --------
    How many of the 1,536 gates could the last token's attention switch, if it only reweighted its strong edges?

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
    # By layer: (module, what it is given, what it returns) of its block, whose output is not kept, and of its parts.
    seen = {number: [] for number in wanted}
    with refusing("mlp_reach", model, "blocks of the form MLP(RMSNorm(x + attention(x)))"):
        if not blocks:
            raise UncountableError("has no list of its layers")
        with contextlib.ExitStack() as hooks:
            for number in seen:
                _listen(blocks[number], seen[number], hooks)
            heads = attention_heads(model, input_ids, layer=wanted)
            with torch.no_grad():
                reaches = [_reach(one, seen[one.layer]) for one in heads]
    return reaches if np.ndim(layer) else reaches[0]


def _listen(block, seen, hooks):
    """Add (module, given, returned) of a block and its parts to ``seen``, where both are one tensor."""

    def enter(module, args, kwargs):
        seen.append((module, args[0] if args else kwargs["hidden_states"], None))

    def leave(module, args, result):
        if len(args) == 1 and isinstance(result, torch.Tensor) and args[0].shape == result.shape:
            seen.append((module, args[0], result))

    hooks.enter_context(block.register_forward_pre_hook(ours(enter), with_kwargs=True))
    for part in block.modules():
        if not [*part.children()]:
            hooks.enter_context(part.register_forward_hook(ours(leave)))


def _reach(heads, seen) -> MlpReach:
    """Find the norm that is given the block's input plus its attention, and make sure that it is an RMSNorm."""
    (_, entered, _), *parts = seen
    rounding = math.sqrt(torch.finfo(entered.dtype).eps)  # half of the digits: far above rounding, far below an error
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
