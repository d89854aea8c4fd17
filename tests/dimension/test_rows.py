"""Counting from a logsumexp against counting weights, ties included; what torch's kernels let one hear."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geolib.dimension import rows
from geolib.dimension.rows import AttentionMap, LogSumExp, count_weights

RULES = ("absolute", "relative")


def inputs(seed, *, whole, batch=2, heads=4, kv_heads=2, queries=70, keys=70, size=8):
    """Query, key, value; whole numbers give scores that tie exactly."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, heads, queries, size), (batch, kv_heads, keys, size), (batch, kv_heads, keys, size)]
    if whole:
        return [torch.randint(-1, 2, shape, generator=generator).float() for shape in shapes]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def sdpa(query, key, value, mask=None):
    with LogSumExp() as listener:
        key, value = (tensor.repeat_interleave(query.shape[1] // key.shape[1], 1) for tensor in (key, value))
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None
        )
    return out, listener.of(query)


def naive(query, key, mask, softcap=None, sinks=None):
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, -torch.inf)
    top = scores.exp()
    rest = 0 if sinks is None else sinks.exp().view(1, -1, 1, 1)
    return top / (top.sum(-1, keepdim=True) + rest)


def causal(queries, keys):
    return torch.ones(1, 1, queries, keys, dtype=torch.bool).tril(keys - queries)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    whole=st.booleans(),
    masked=st.booleans(),
    eps=st.lists(st.sampled_from([0.5, 0.25, 0.2, 0.1, 0.05, 1 / 64]), min_size=1, max_size=3, unique=True),
)
def test_counts_from_the_logsumexp_are_those_of_the_weights(seed, whole, masked, eps):
    query, key, value = inputs(seed, whole=whole)
    if whole:
        query[:, 0] = 0  # a head that is uniform: every weight is 1 / visible, and 1 / 10 is a threshold
    mask = None
    if masked:
        mask = causal(70, 70) & (torch.rand(2, 1, 1, 70, generator=torch.Generator().manual_seed(seed)) < 0.7)
        mask[..., 0] = True
    attention = AttentionMap(query, key, mask)
    counts, seen = map(attention.count(sdpa(query, key, value, mask)[1], eps, RULES).get, ("counts", "seen"))
    weights, expected_seen = attention.weights(slice(0, 70))
    assert torch.equal(counts, count_weights(weights, eps, RULES))
    assert torch.equal(seen, expected_seen)


def test_blocks_are_only_a_matter_of_memory(monkeypatch):
    query, key, value = inputs(0, whole=False)
    normaliser = sdpa(query, key, value)[1]
    whole = AttentionMap(query, key).count(normaliser, [0.1], RULES)["counts"]
    for size in (1, 7, 64):
        monkeypatch.setattr(rows, "_BLOCK", size)
        assert torch.equal(AttentionMap(query, key).count(normaliser, [0.1], RULES)["counts"], whole)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("sunk", [False, True])
@pytest.mark.parametrize("keys", [70, 90])
def test_weights_and_output_are_the_naive_ones(softcap, sunk, keys):
    query, key, value = inputs(1, whole=False, queries=70, keys=keys)
    sinks = torch.linspace(-1, 2, 4) if sunk else None
    expected = naive(query, key, causal(70, keys), softcap, sinks)
    for mask in (None, causal(70, keys), torch.zeros(1, 1, 70, keys).masked_fill(~causal(70, keys), -torch.inf)):
        attention = AttentionMap(query, key, mask, softcap=softcap, sinks=sinks)
        weights, seen = attention.weights(slice(0, 70))
        torch.testing.assert_close(weights, expected, atol=1e-6, rtol=1e-5)
        np.testing.assert_array_equal(seen, np.arange(70)[None].repeat(2, 0) + 1 + keys - 70)
        some = torch.tensor([3, 60])
        single, seen = attention.weights(some)
        for row, at in enumerate(some):
            torch.testing.assert_close(
                single[row, :, 0], expected[row, :, at, : single.shape[-1]], atol=1e-6, rtol=1e-5
            )
            assert seen[row, 0] == at + 1 + keys - 70
        output = attention.attend(value)
        reference = (expected @ value.repeat_interleave(2, 1)).transpose(1, 2)
        torch.testing.assert_close(output, reference, atol=1e-5, rtol=1e-5)


def test_a_row_that_sees_nothing_attends_to_nothing():
    query, key, value = inputs(2, whole=False)
    mask = causal(70, 70).repeat(2, 1, 1, 1)
    mask[1, :, :5] = False
    output = AttentionMap(query, key, mask, softcap=2.0).attend(value)
    assert (output[1, :5] == 0).all()
    assert output.isfinite().all()


def test_the_logsumexp_heard_is_that_of_the_scores():
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        query, key, value = (tensor.to(dtype) for tensor in inputs(3, whole=False))
        output, heard = sdpa(query, key, value)
        expected = AttentionMap(query, key).scores(slice(0, 70))[0].logsumexp(-1)
        torch.testing.assert_close(heard, expected, atol=tolerance, rtol=tolerance)
        assert torch.equal(output, torch.nn.functional.scaled_dot_product_attention(
            query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), is_causal=True
        ))  # fmt: skip


def test_nothing_is_heard_from_the_plain_kernel():
    """Values of another size than keys: torch multiplies out, and says nothing of a logsumexp."""
    query, key, value = inputs(4, whole=False)
    assert sdpa(query, key, value[..., :4])[1] is None
