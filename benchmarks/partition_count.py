"""Seconds to count the regions of hyperplane arrangements: against the limit, and against two plainer exact ways.

    python benchmarks/partition_count.py [--repeats 5] [--resonance 6]

The resonance arrangement, all sums of some of the coordinates, is a test of programs for such counts (Brysiewicz, Eble
and Kuehne, arXiv 2105.14542; counts: OEIS A344494): each dimension has twice as many hyperplanes as the one before, and
about a hundred times as many regions. Dimension 7 is not in the default: it takes gigabytes, and has not been run to
its end yet.

Peers do not count in all of R^d, so the peers are textbook methods, run on the same integers in the same process:
deletion and restriction as it is printed (a recursion without memo), and Whitney's sum over all subsets of hyperplanes.
"Limit" is what this project asks of itself.
"""

import argparse
import statistics
import time
from fractions import Fraction
from functools import partial
from itertools import combinations, product
from math import comb, factorial

import numpy as np

from geolib.partition import count_arrangement, max_regions

LIMIT = 1.0
RESONANCE = {3: 32, 4: 370, 5: 11_292, 6: 1_066_044, 7: 347_326_352}


def generic(n, dim, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(-99, 100, (n, dim)), rng.integers(-99, 100, n)


def differences(n, values):
    """Hyperplanes x_i - x_j = value."""
    unit = np.eye(n, dtype=int)
    rows = [(unit[i] - unit[j], -value) for i, j in combinations(range(n), 2) for value in values]
    return [row for row, _ in rows], [offset for _, offset in rows]


def one_neuron(n):
    """Weights and bias of a neuron, cut by each of its 2^n inputs."""
    return [(1, *x) for x in product((0, 1), repeat=n)], [0] * 2**n


def resonance(dim):
    """The sum of each set of coordinates is 0."""
    rows = [row for row in product((0, 1), repeat=dim) if any(row)]
    return rows, [0] * len(rows)


def families(largest):
    """Arrangements by name, each with its published count."""
    rng = np.random.default_rng(0)
    floats = rng.standard_normal((12, 5)), rng.standard_normal(12)
    yield "generic, 12 in R^5, floats", floats, max_regions(12, 5)
    yield "generic, 20 in R^4", generic(20, 4), max_regions(20, 4)
    yield "generic, 30 in R^6", generic(30, 6), max_regions(30, 6)
    yield "Boolean, 30 in R^30", (np.eye(30, dtype=int), [0] * 30), 2**30
    for n in (6, 7, 12):
        yield f"braid, n = {n}", differences(n, [0]), factorial(n)
    for n in (5, 8):
        yield f"Shi, n = {n}", differences(n, [0, 1]), (n + 1) ** (n - 1)
    yield "Catalan, n = 6", differences(6, [-1, 0, 1]), factorial(6) * comb(12, 6) // 7
    yield "one neuron, 4 inputs", one_neuron(4), 1882
    yield "one neuron, 5 inputs", one_neuron(5), 94572
    for dim in range(3, largest + 1):
        yield f"resonance, d = {dim}", resonance(dim), RESONANCE[dim]


def by_recursion(rows):
    """Regions without the last hyperplane, and those it is cut into by the others."""
    if not rows:
        return 1
    *rest, (*normal, offset) = rows
    pivot = next(k for k, slope in enumerate(normal) if slope)
    cut = {}
    for row in rest:
        row = [a - Fraction(row[pivot]) / normal[pivot] * b for a, b in zip(row, (*normal, offset), strict=True)]
        del row[pivot]
        lead = next((slope for slope in row[:-1] if slope), None)
        if lead:
            cut[tuple(entry / lead for entry in row)] = None
    return by_recursion(rest) + by_recursion(list(cut))


def by_subsets(normals, offsets):
    """Sum (-1)^(size - rank) over all sets of hyperplanes in general position that have a point in common."""
    n, total = len(normals), 0
    for size in range(n + 1):
        for subset in combinations(range(n), size):
            subset = list(subset)
            rank = np.linalg.matrix_rank(normals[subset]) if subset else 0
            rows = np.column_stack([normals[subset], offsets[subset]])
            if not subset or np.linalg.matrix_rank(rows) == rank:
                total += (-1) ** int(size - rank)
    return total


def timed(call, *arguments, repeats=1):
    """Median seconds, and the result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call(*arguments)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--resonance", type=int, default=6, choices=RESONANCE, help="largest dimension")
    repeats, largest = vars(parser.parse_args()).values()

    normals, offsets = generic(12, 5)
    expected = max_regions(12, 5)
    count_arrangement(normals, offsets)  # warm-up
    seconds, count = timed(count_arrangement, normals, offsets, repeats=repeats)
    rows = [(*map(int, normal), int(offset)) for normal, offset in zip(normals, offsets, strict=True)]
    plain, plain_count = timed(by_recursion, rows, repeats=repeats)
    brute, brute_count = timed(by_subsets, normals, offsets)
    assert count == plain_count == brute_count == expected
    print(f"12 generic hyperplanes in R^5, {count} regions, median of {repeats}")
    print(f"{'count_arrangement':28}{seconds:10.4f} s   limit {LIMIT:.0f} s, ratio to it {seconds / LIMIT:.4f}")
    print(f"{'recursion without memo':28}{plain:10.4f} s   ratio {plain / seconds:.0f}")
    print(f"{'sum over all subsets':28}{brute:10.4f} s   ratio {brute / seconds:.0f}")
    print(f"\n{'arrangement':28}{'hyperplanes':>12}{'regions':>12}{'s':>10}{'regions/s':>12}")
    for name, arrangement, expected in families(largest):
        seconds, count = timed(partial(count_arrangement, limit=10_000_000), *arrangement)
        assert count == expected, (name, count)
        print(f"{name:28}{len(arrangement[0]):>12}{count:>12}{seconds:>10.4f}{count / seconds:>12.1e}")


if __name__ == "__main__":
    main()
