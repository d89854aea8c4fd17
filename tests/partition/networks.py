"""Networks for the tests of planes and of lines."""

from itertools import pairwise

import numpy as np


def random_layers(rng, dims):
    """Weights and biases uniform in +-1/sqrt(fan_in)."""
    weights, biases = [], []
    for before, after in pairwise(dims):
        bound = before**-0.5
        weights.append(rng.uniform(-bound, bound, (after, before)))
        biases.append(rng.uniform(-bound, bound, after))
    return weights, biases


def rescaled(rng, before, weights, biases, readout):
    """Same network in awkward numbers, as weights, biases and readout: inputs scaled by `before`, neurons at random.

    Nothing cancels to an exact 0 any more.
    """
    scaled = [], []
    for W, b in zip(weights, biases, strict=True):
        after = np.exp(rng.normal(scale=3, size=len(b)))
        scaled[0].append(after[:, None] * W / before)
        scaled[1].append(after * b)
        before = after
    return *scaled, (readout[0] / before, readout[1]) if readout else None
