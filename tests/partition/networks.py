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


def he_layers(rng, depth, width, bias=0.0):
    """Weights and biases of a deep network of two inputs, as He initialises it."""
    weights, biases = [], []
    for before in [2] + [width] * (depth - 1):
        weights.append(rng.normal(size=(width, before)) * np.sqrt(2 / before))
        biases.append(bias * rng.normal(size=width))
    return weights, biases


def after_identity(depth, shift):
    """Three cuts of the plane behind so many layers that pass (x, y) on: as relu(x) - relu(-x), or as x + shift."""
    normals, offsets = np.array([[1, 0.3], [-0.4, 1], [1, 1.1]]), np.array([0.1, 0.2, -0.15])
    if shift:
        weights, biases = [np.eye(2)] * depth, [np.full(2, shift), *[np.zeros(2)] * (depth - 1)]
        return [*weights, normals], [*biases, offsets - shift * normals.sum(axis=1)]
    split, join = np.vstack([np.eye(2), -np.eye(2)]), np.hstack([np.eye(2), -np.eye(2)])
    weights, biases = [split, *[split @ join] * (depth - 1)], [np.zeros(4)] * depth
    return [*weights, normals @ join], [*biases, offsets]
