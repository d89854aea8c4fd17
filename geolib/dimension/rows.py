"""One layer's attention map, which is never stored whole: its rows are computed, or only counted, in blocks."""

import copy
import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from geolib.dimension.rules import RULES, keep

# Number of query rows in a block of attention weights, of all heads; no more weights exist at a time.
_BLOCK = 64
# Number of scores in a block of one key-value head: few enough for the processor's cache, enough for several threads.
_MOST, _LEAST = 2**21, 2**18
# Scores this close to a threshold, relative to its size, are decided by the softmax: a few units in the last place.
_SLACK = 2.0**-20


class AttentionMap:
    """An attention map, given by the arguments of the model's attention function.

    Parameters
    ----------
    query : torch.Tensor, shape=[batch, heads, queries, head_dim]
    key : torch.Tensor, shape=[batch, key-value heads, keys, head_dim]
    mask : torch.Tensor, shape=[batch or 1, heads or 1, queries, keys], optional
        True where a key may be attended to; or numbers that are added to the scores. Without a mask each query sees the
        keys up to its own position, and the last query has the position of the last key.
    scaling : float, optional
        Factor of the scores; by default 1 / sqrt(head_dim).
    softcap : float, optional
        Scores s become softcap * tanh(s / softcap), before the mask.
    sinks : torch.Tensor, shape=[heads], optional
        A score for each head that enters only the denominator of the softmax.

    Notes
    -----
    Scores and weights are float32 for every type of model, as inside a fused kernel.
    """

    def __init__(self, query, key, mask=None, *, scaling=None, softcap=None, sinks=None):
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        self.query, self.key = query.float() * scaling, key.float()
        self.mask, self.softcap = mask, softcap
        self.sinks = None if sinks is None else sinks.float().view(1, -1, 1, 1)

    def blocks(self, size=None):
        """Cut the query rows into slices of at most `size` rows."""
        n_queries, size = self.query.shape[2], size or _BLOCK
        return [slice(start, min(start + size, n_queries)) for start in range(0, n_queries, size)]

    def groups(self, n):
        """Split into maps of `n` key-value heads each, which become the batch, with their query heads."""
        kv_heads = self.key.shape[1]
        query, key = self.query.unflatten(1, (kv_heads, -1)).flatten(0, 1), self.key.flatten(0, 1)[:, None]
        for start in range(0, len(query), n):
            group = copy.copy(self)
            group.query, group.key = query[start : start + n], key[start : start + n]
            if self.mask is not None and len(self.mask) > 1:
                first, last = start // kv_heads, (start + len(group.query) - 1) // kv_heads
                group.mask = self.mask[first : last + 1]
                if last > first:
                    group.mask = self.mask[torch.arange(start, start + len(group.query)) // kv_heads]
            yield group

    def scores(self, rows, room=None):
        """Compute the scores of some rows, -inf where a key is hidden, and how many keys each row sees.

        Parameters
        ----------
        rows : slice, or torch.Tensor, shape=[batch]
            Query rows of the whole batch, or one row for each of its elements.
        room : torch.Tensor, shape=[at least as many as scores], optional
            Memory for the scores: to allocate it for every block would take as long as the products.

        Returns
        -------
        scores : torch.Tensor, shape=[batch, heads, rows, keys]
            Trailing keys that no row sees may be left out.
        seen : torch.Tensor, shape=[batch, rows]
        """
        query, key = _take(self.query, rows), self.key
        batch, heads, n_rows, size = query.shape
        past = key.shape[2] - self.query.shape[2]
        if self.mask is None:
            position = torch.arange(self.query.shape[2], device=query.device)[rows].view(-1, n_rows) + past
            key = key[:, :, : int(position.max()) + 1]
        # Query heads that share a key-value head become further rows of it, so that keys are never repeated.
        folded, keys = query.reshape(batch * key.shape[1], -1, size), key.flatten(0, 1).transpose(1, 2)
        room = room if room is None else room[: batch * heads * n_rows * key.shape[2]].view(*folded.shape[:2], -1)
        scores = torch.bmm(folded, keys, out=room).view(batch, heads, n_rows, -1)
        if self.softcap is not None:
            scores = self.softcap * (scores / self.softcap).tanh()
        if self.mask is None:
            seen = (position + 1).expand(batch, n_rows)
            if isinstance(rows, slice):  # all keys before the block are visible: only its own triangle needs a mask
                later = torch.full((n_rows, n_rows), -torch.inf, device=query.device).triu(1)
                scores[..., rows.start + past :] += later
            else:
                hidden = torch.arange(key.shape[2], device=query.device) > position[..., None]
                scores.masked_fill_(hidden[:, None], -torch.inf)
            return scores, seen
        mask = self.mask if isinstance(rows, slice) else self.mask.expand(batch, *self.mask.shape[1:])
        mask = _take(mask, rows)[..., : key.shape[2]]
        if mask.is_floating_point():
            scores, mask = scores + mask, mask > torch.finfo(mask.dtype).min / 2
        scores = scores.masked_fill_(~mask, -torch.inf)
        return scores, mask.any(1).sum(-1).expand(batch, n_rows)

    def weights(self, rows):
        """Compute the attention weights of some rows; arguments and shapes as for :meth:`scores`."""
        scores, seen = self.scores(rows)
        if self.sinks is None:
            return scores.softmax(-1), seen
        sinks = self.sinks.expand(*scores.shape[:2], scores.shape[2], 1)
        return torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1], seen

    def count(self, normaliser, eps, rules, first=None):
        """Count the weights above each threshold without a softmax, from the rows' logsumexp.

        A weight exceeds eps if its score exceeds the logsumexp plus log(eps), which is a comparison without an
        exponential. A row with a score so close to a threshold that rounding might decide is counted by its weights, so
        that the result equals that of :func:`count_weights`, including ties. The rules must have a score, the map must
        have no sinks, and all heads must share the mask.

        Parameters
        ----------
        normaliser : torch.Tensor, shape=[batch, heads, queries]
            Logarithm of the softmax's denominator in each row.
        eps, rules : sequence of float, sequence of str
        first : torch.Tensor, shape=[batch], optional
            As for :func:`row_statistics`, which are then measured too, while a block is in the processor's cache.

        Returns
        -------
        dict of torch.Tensor
            ``counts``, shape=[rules, eps, batch, heads, queries]; ``seen``, shape=[batch, queries]; and the statistics.
        """
        batch, heads, n_queries, _ = self.query.shape
        per_row = heads // self.key.shape[1] * self.key.shape[2]
        n_rows = min(n_queries, max(16, min(256, _MOST // per_row)))
        n_groups = max(1, _LEAST // (n_rows * per_row))
        room = self.query.new_empty(3, n_groups * n_rows * per_row)
        kv_heads, blocks = self.key.shape[1], self.blocks(n_rows)
        normaliser = normaliser.reshape(-1, heads // kv_heads, n_queries).split(n_groups)
        firsts = [None] * len(normaliser) if first is None else first.repeat_interleave(kv_heads).split(n_groups)
        parts = [
            joined([group._count(rows, normal, eps, rules, one, room) for rows in blocks])
            for group, normal, one in zip(self.groups(n_groups), normaliser, firsts, strict=True)
        ]
        seen = torch.cat([part.pop("seen") for part in parts]).view(batch, -1, n_queries)[:, 0]
        whole = joined(parts, axis=-3)
        return {name: rows.reshape(*rows.shape[:-3], batch, heads, n_queries) for name, rows in whole.items()} | {
            "seen": seen
        }

    def _count(self, rows, normaliser, eps, rules, first, room):
        """Count some rows of a group; arguments, shapes and result as for :meth:`count`, of one key-value head each."""
        scores, seen = self.scores(rows, room[0])
        above, weights = (part[: scores.numel()].view(scores.shape) for part in room[1:])
        normaliser = normaliser[:, :, rows, None]
        if first is not None:
            torch.sub(scores, normaliser, out=weights).exp_()
        sure, unsure, masses = [], [], []
        for rule in rules:
            base = RULES[rule].score(scores, normaliser)
            slack = _SLACK * (1 + base.abs())
            for value in eps:
                threshold = base + math.log(value)
                # Ones and zeros as floats are faster to sum than booleans.
                unsure.append(torch.gt(scores, threshold - slack, out=above).sum(-1))
                sure.append(torch.gt(scores, threshold + slack, out=above).sum(-1))
                if first is not None:
                    masses.append(above.mul_(weights).sum(-1))
        measured = {"counts": torch.stack(sure)} | ({} if first is None else {"mass_above": torch.stack(masses)})
        undecided = (measured["counts"] != torch.stack(unsure)).any(0)  # shape=[batch, heads, rows]
        if undecided.any():
            exact = scores[undecided].softmax(-1)
            for name, counted in measured.items():
                again = count_weights(exact, eps, rules, mass=name == "mass_above")
                counted[:, undecided] = again.flatten(0, 1).to(counted)
        measured = {name: counted.unflatten(0, (len(rules), len(eps))) for name, counted in measured.items()}
        measured |= {"counts": measured["counts"].long(), "seen": seen}
        if first is None:
            return measured
        # H = -sum_j p_j log p_j. A hidden key has log p = -inf; at -200, p is 0 in float32 as well, and 0 * -200 is 0.
        entropy = -scores.sub_(normaliser).clamp_(min=-200).mul_(weights).sum(-1)
        sink_share = _weight_of(first, weights)
        return measured | {"sink_share": sink_share, "entropy": entropy, "renyi2": _renyi2(weights.square_())}

    def attend(self, value):
        """Compute attention, shape=[batch, queries, heads, value_dim], for which there is no fused kernel.

        Parameters
        ----------
        value : torch.Tensor, shape=[batch, key-value heads, keys, value_dim]
        """
        outputs = []
        for rows in self.blocks():
            weights, seen = self.weights(rows)
            weights.masked_fill_((seen == 0)[:, None, :, None], 0)  # a row of padding attends to nothing
            folded = weights.reshape(len(weights), value.shape[1], -1, weights.shape[-1])
            output = folded @ value[:, :, : weights.shape[-1]].float()
            outputs.append(output.view(*weights.shape[:3], -1))
        return torch.cat(outputs, dim=2).transpose(1, 2).to(value.dtype).contiguous()


def count_weights(weights, eps, rules, *, mass=False):
    """Count the weights, shape=[..., keys], that each rule keeps, or with `mass` add them; shape=[rules, eps, ...]."""

    def count(rule, value):
        kept = keep(rule, weights, value)
        return (weights * kept if mass else kept).sum(-1)

    return torch.stack([torch.stack([count(rule, value) for value in eps]) for rule in rules])


def row_statistics(weights, first, eps, rules):
    """Measure the first token's weight, the entropies in nats, and the mass above each threshold, in each row.

    ``first``, shape=[batch], is the index of the first token that is not padding. If it is none of the keys, because a
    cache has dropped it or it has not been read yet, its weight is 0. The entropies, Shannon's and Rényi's of order 2,
    are those of the weights divided by their sum, which is 1 unless the model has sinks of its own. Without rules there
    is no mass.
    """
    shares = weights / weights.sum(-1, keepdim=True)
    return {
        "sink_share": _weight_of(first, weights),
        "entropy": torch.special.entr(shares).sum(-1),
        "renyi2": _renyi2(shares.square()),
    } | ({"mass_above": count_weights(weights, eps, rules, mass=True)} if rules else {})


def _weight_of(first, weights):
    """Return the weight on one key for each element of the batch, and 0 where there is no such key."""
    first = first.to(weights.device).view(-1, 1, 1)
    where = first.clamp(0, weights.shape[-1] - 1)
    return weights.gather(-1, where[..., None].expand(*weights.shape[:3], 1))[..., 0] * (first == where)


def _renyi2(squares):
    """Return Rényi's entropy of order 2, -log sum_j p_j^2, from the squares; rounding may not make it negative."""
    return -squares.sum(-1).clamp(max=1).log()


def joined(parts, axis=-1):
    """Join measurements of several rows, or of several heads: dictionaries with the same names."""
    return {name: torch.cat([part[name] for part in parts], dim=axis) for name in parts[0]}


def _take(tensor, rows):
    """Take rows of axis 2: a slice of them, or one for each element of the batch."""
    if isinstance(rows, slice):
        return tensor[:, :, rows]
    return tensor[torch.arange(len(rows), device=rows.device), :, rows][:, :, None]


class LogSumExp(TorchDispatchMode):
    """While active, record the logsumexp that torch's fused attention kernels compute beside their output."""

    heard = None

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if "attention" in function.name() and isinstance(result, tuple):
            self.heard = result[1]
        return result

    def of(self, query):
        """Return the logsumexp of every row, shape=[batch, heads, queries]; None if another kernel has run."""
        if self.heard is None or self.heard.ndim != 3 or self.heard.shape[:2] != query.shape[:2]:
            return None
        return self.heard[:, :, : query.shape[2]] if self.heard.shape[2] >= query.shape[2] else None
