"""Time of line_partition on a [1000]x4 network, one thread, beside its limit and a plain search, in one run.

    python benchmarks/partition_line.py [--repeats 9] [--no-search]

Networks: numpy default_rng(0), W and b uniform in +-1/sqrt(fan_in); the segment runs from (-1, ..., -1) to (1, ..., 1).
The search looks at the pattern in evenly spaced points and halves the gaps in which it changes, down to 1e-12; it
misses what changes twice within a gap. "Limit" is what this project asks of itself.
"""

import argparse
import os
import statistics
import time
from itertools import pairwise

os.environ |= dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")  # before NumPy starts

LIMIT = 0.1  # seconds
POINTS_PER_REGION = 4


def network_of(dims):
    import numpy as np

    from geolib.partition import ReluNetwork

    rng, weights, biases = np.random.default_rng(0), [], []
    for before, after in pairwise(dims):
        weights.append(rng.uniform(-(before**-0.5), before**-0.5, (after, before)))
        biases.append(rng.uniform(-(before**-0.5), before**-0.5, after))
    return ReluNetwork(weights, biases)


def search(network, start, end, n_points):
    """Breakpoints that evenly spaced points and halving find."""
    import numpy as np

    def patterns(t):
        return np.concatenate(network.pattern(start + t[:, None] * (end - start)), axis=1)

    t = np.linspace(0, 1, n_points)
    found = patterns(t)
    changes = np.flatnonzero((found[1:] != found[:-1]).any(axis=1))
    low, high, below = t[changes], t[changes + 1], found[changes]
    while (high - low).max() > 1e-12:
        middle = (low + high) / 2
        same = (patterns(middle) == below).all(axis=1)
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return high


def timed(run):
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def main():
    import numpy as np

    from geolib.partition import line_partition

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--no-search", action="store_true", help="leave out the plain search (half a minute)")
    arguments = parser.parse_args()
    print("[1000]x4, ReLU, float64, one thread; median of", arguments.repeats, "runs")
    print(f"{'inputs':>6}{'regions':>9}{'seconds':>9}{'min-max':>13}{'to limit':>10}{'breakpoints/s':>15}", end="")
    print("" if arguments.no_search else f"{'search s':>10}{'ratio':>7}{'missed':>8}")
    for dim in (2, 16):
        network, end = network_of([dim, 1000, 1000, 1000, 1000]), np.ones(dim)
        timed(lambda: line_partition(network, -end, end))  # noqa: B023 -- warm-up
        runs = [timed(lambda: line_partition(network, -end, end)) for _ in range(arguments.repeats)]  # noqa: B023
        seconds, partition = [run[0] for run in runs], runs[0][1]
        median, n = statistics.median(seconds), partition.n_regions
        spread = f"{min(seconds):.3f}-{max(seconds):.3f}"
        print(f"{dim:>6}{n:>9}{median:>9.3f}{spread:>13}{median / LIMIT:>10.2f}{(n - 1) / median:>15.0f}", end="")
        if arguments.no_search:
            print()
            continue
        slow, found = timed(lambda: search(network, -end, end, POINTS_PER_REGION * n))  # noqa: B023
        print(f"{slow:>10.1f}{slow / median:>7.0f}{n - 1 - len(found):>8}")


if __name__ == "__main__":
    main()
