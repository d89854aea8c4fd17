"""Regions of a network in a window, in the plainest way: one polygon and one neuron at a time, no tolerance.

For networks in general position, where no value comes near 0. A map is a list of rows (slope, slope, offset), one for
each neuron.
"""

from itertools import pairwise


def reference_regions(network, window):
    """List of (pattern, polygon, output rows), one for each region; the network's input is 2-D."""
    (u0, u1), (v0, v1) = window
    square = [(u0, v0), (u1, v0), (u1, v1), (u0, v1)]
    regions = [((), square, [(1, 0, 0), (0, 1, 0)])]
    for W, b in zip(network.weights, network.biases, strict=True):
        cut = []
        for pattern, polygon, rows in regions:
            rows = apply(W, b, rows)
            for active, part in cut_by_all(polygon, rows):
                gains = [1 if on else network.negative_slope for on in active]
                after = [tuple(gain * x for x in row) for gain, row in zip(gains, rows, strict=True)]
                cut.append((pattern + active, part, after))
        regions = cut
    if network.readout is None:
        return regions
    return [(pattern, polygon, apply(*network.readout, rows)) for pattern, polygon, rows in regions]


def apply(W, b, rows):
    out = [[sum(w * row[k] for w, row in zip(weights, rows, strict=True)) for k in range(3)] for weights in W]
    return [(p, q, r + c) for (p, q, r), c in zip(out, b, strict=True)]


def cut_by_all(polygon, rows):
    """Signs of the rows, and the part of the polygon where they have them."""
    parts = [((), polygon)]
    for p, q, r in rows:
        parts = [
            ((*active, sign > 0), side)
            for active, part in parts
            for sign in (1, -1)
            if (side := clip(part, [sign * (p * u + q * v + r) for u, v in part]))
        ]
    return parts


def clip(polygon, values):
    """Part of a polygon where a function is positive, from its values at the corners; empty if there is none."""
    side = []
    for i, (point, value) in enumerate(zip(polygon, values, strict=True)):
        before, value_before = polygon[i - 1], values[i - 1]
        if value * value_before < 0:
            t = value_before / (value_before - value)
            side.append((before[0] + t * (point[0] - before[0]), before[1] + t * (point[1] - before[1])))
        if value > 0:
            side.append(point)
    return side


def area(polygon):
    (x0, y0), twice = polygon[0], 0
    for (x1, y1), (x2, y2) in pairwise(polygon):
        twice += (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    return twice / 2
