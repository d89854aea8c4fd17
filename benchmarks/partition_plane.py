"""Speed of plane_partition: against regioncam, and against the number of regions, on one thread.

    python benchmarks/partition_plane.py [--repeats 9]
    python benchmarks/partition_plane.py --growth [--plot growth.png]
    python benchmarks/partition_plane.py --deep
    python benchmarks/partition_plane.py --depths [--plot depths.png]

Random networks (weights and biases uniform in +-1 / sqrt(fan_in), seed 0) in the window [-1, 1]^2. Times alternate
between the two programs, so that a machine whose speed drifts cannot favour one; the ratio is the median of the ratios
of neighbouring runs. geolib computes in float64, regioncam in float32. "Limit" is what this project asks of itself.

`--growth` follows time and memory up to a million regions instead (tracemalloc, in a run of its own: the peak, and
what a partition keeps): one layer of growing width, and one deep network in a growing window. The deep one has weights
uniform in +-sqrt(6 / fan_in), with which the count goes on growing from layer to layer.

`--deep` takes He-initialised networks of width 32, 40 and 80 layers deep, with biases that are 0, uniform in
+-1 / sqrt(fan_in), or normal with deviation 0.1. Each layer needs a map of every region made so far, so the time is
that of regions times layers: "us/region/layer" says it for the regions of the last layer. The limit, of 25 seconds, is
meant for some 10,000 regions; this process's own CPU time stands beside the wall's, for machines that are shared.

`--depths` follows such networks of width 16 from 1 layer to 64: the time, and the decisions that were in doubt
(`snapped`), with normal biases (general position), with none (special position that floats represent), and with biases
that make all neurons 0 at (0.3, -0.2), but for rounding.
"""

import os

os.environ.update(dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1"))

import argparse
import statistics
import time
import tracemalloc

import numpy as np

from geolib.partition import ReluNetwork, plane_partition

NETWORKS = [(100, 100), (128, 128, 128), (200, 200), (500,)]
LIMIT = 1.0
DEEP_LIMIT = 25  # seconds


def random_network(widths, gain=1.0):
    rng = np.random.default_rng(0)
    weights, biases, before = [], [], 2
    for width in widths:
        bound = before**-0.5
        weights.append(gain * rng.uniform(-bound, bound, (width, before)))
        biases.append(rng.uniform(-bound, bound, width))
        before = width
    return ReluNetwork(weights, biases)


def square(half):
    return ((-half, half), (-half, half))


def timed(call, *arguments, **options):
    start = time.perf_counter()
    result = call(*arguments, **options)
    return time.perf_counter() - start, result


def by_regioncam(layers):
    import regioncam

    regions = regioncam.Regioncam(size=1)  # the window [-1, 1]^2
    for W, b in layers:
        regions.linear(W, b)
        regions.relu()
    return regions


def compare(repeats):
    print(f"plane_partition against regioncam, one thread, {repeats} paired runs: medians, and the ratios' min-max")
    print(f"{'network':>16}{'regions':>9}{'regioncam':>11}{'geolib s':>10}{'regioncam s':>13}", end="")
    print(f"{'ratio':>8}{'min-max':>13}{'limit':>7}{'pieces s':>10}")
    for widths in NETWORKS:
        network = random_network(widths)
        layers = [
            (W.T.astype(np.float32), b.astype(np.float32)) for W, b in zip(network.weights, network.biases, strict=True)
        ]
        plane_partition(network, square(1)), by_regioncam(layers)  # warm-up
        ours, theirs, pieces = [], [], []
        for _ in range(repeats):
            seconds, partition = timed(plane_partition, network, square(1))
            ours.append(seconds)
            seconds, regions = timed(by_regioncam, layers)
            theirs.append(seconds)
            pieces.append(timed(lambda p: p.n_pieces, partition)[0])
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        print(
            f"{'x'.join(map(str, widths)):>16}{partition.n_regions:>9}{regions.num_faces:>11}"
            f"{statistics.median(ours):>10.4f}{statistics.median(theirs):>13.4f}"
            f"{statistics.median(ratios):>8.2f}{spread:>13}{LIMIT:>7}{statistics.median(pieces):>10.4f}"
        )


def growth(plot):
    one_layer = [(random_network([n]), 1) for n in (125, 250, 500, 1000, 1750, 2500)]
    deep = random_network([250] * 6, gain=6**0.5)
    families = {
        "one layer of growing width": one_layer,
        "six layers of 250, growing window": [(deep, half) for half in (1 / 128, 1 / 32, 1 / 8, 1 / 2, 3)],
    }
    panels = []
    for title, cases in families.items():
        print(f"{title}\n{'regions':>10}{'seconds':>10}{'us/region':>11}{'peak B/region':>15}{'kept B/region':>15}")
        sizes, times = [], []
        for network, half in cases:
            seconds, partition = timed(plane_partition, network, square(half))
            sizes.append(partition.n_regions)
            times.append(seconds)
            del partition
            tracemalloc.start()  # in a run of its own: it takes time
            partition = plane_partition(network, square(half))
            kept, peak = (size / partition.n_regions for size in tracemalloc.get_traced_memory())
            tracemalloc.stop()
            print(f"{sizes[-1]:>10}{seconds:>10.3f}{1e6 * seconds / sizes[-1]:>11.2f}{peak:>15.0f}{kept:>15.0f}")
        slope = np.polyfit(np.log(sizes[1:]), np.log(times[1:]), 1)[0]
        print(f"slope of log seconds over log regions, without the first: {slope:.2f} (1 is linear)\n")
        linear = times[-1] * np.array(sizes) / sizes[-1]
        panels += [(title, "linear", *point) for point in zip(sizes, linear, strict=True)]
        panels += [(title, "measured", *point) for point in zip(sizes, times, strict=True)]
    if plot:
        drawn(panels, "regions", "seconds", plot)


def drawn(points, xlabel, ylabel, plot):
    import pandas as pd

    from geolib import figures

    table = pd.DataFrame(points, columns=["panel", "line", "x", "estimate"])
    figure = figures.lines(table, x="x", color="line", panel="panel", xlabel=xlabel, ylabel=ylabel, log="xy")
    figure.savefig(plot, bbox_inches="tight")


def he_network(depth, biases, width=32):
    rng, weights, offsets, h = np.random.default_rng(0), [], [], np.array([0.3, -0.2])
    for before in [2] + [width] * (depth - 1):
        weights.append(rng.normal(size=(width, before)) * (2 / before) ** 0.5)
        kinds = {"zero": 0 * rng.normal(size=width), "uniform": rng.uniform(-1, 1, width) / before**0.5}
        kinds["point"] = -weights[-1] @ h  # every neuron is 0 at (0.3, -0.2), but for rounding
        offsets.append(kinds[biases] if biases in kinds else 0.1 * rng.normal(size=width))
        h = (weights[-1] @ h + offsets[-1]).clip(0)
    return ReluNetwork(weights, offsets)


def depths(plot):
    head = ("biases", "layers", "regions", "CPU s", "us/region/layer", "snapped")
    print("{:>8}{:>8}{:>9}{:>8}{:>17}{:>9}".format(*head))
    points = []
    for biases in ("normal", "zero", "point"):
        costs = []
        for depth in (1, 2, 4, 8, 16, 32, 64):
            begun = time.process_time()
            partition = plane_partition(he_network(depth, biases, 16), square(1))
            cpu = time.process_time() - begun
            costs.append(1e6 * cpu / partition.n_regions / depth)
            print(f"{biases:>8}{depth:>8}{partition.n_regions:>9}{cpu:>8.2f}{costs[-1]:>17.2f}{partition.snapped:>9}")
            points += [("CPU seconds", biases, depth, cpu), ("1 + snapped", biases, depth, 1 + partition.snapped)]
        print(f"cost of a region in a layer, 64 layers over 8: ratio {costs[-1] / costs[3]:.2f} (1 is linear)")
    if plot:
        drawn(points, "layers of 16 neurons", "CPU seconds, and decisions", plot)


def deep(n_regions):
    print(f"{'layers x width':>14}{'biases':>10}{'half':>9}{'regions':>9}{'seconds':>9}{'CPU s':>8}", end="")
    print(f"{'limit':>7}{'us/region/layer':>17}")
    for depth in (40, 80):
        for biases in ("zero", "uniform", "normal"):
            network, half = he_network(depth, biases), 1.0
            while True:
                begun = time.process_time()
                seconds, partition = timed(plane_partition, network, square(half))
                cpu = time.process_time() - begun
                each = 1e6 * cpu / partition.n_regions / depth
                print(f"{f'{depth} x 32':>14}{biases:>10}{half:>9.4f}{partition.n_regions:>9}{seconds:>9.1f}", end="")
                print(f"{cpu:>8.1f}{DEEP_LIMIT:>7}{each:>17.2f}", flush=True)
                if partition.n_regions <= n_regions:
                    break
                half /= 4


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--growth", action="store_true", help="time and memory against the number of regions")
    parser.add_argument(
        "--depths", action="store_true", help="time and decisions in doubt against the number of layers"
    )
    parser.add_argument("--plot", metavar="FILE", help="with --growth or --depths: draw what is printed")
    parser.add_argument("--deep", action="store_true", help="He-initialised networks of 40 and 80 layers")
    arguments = parser.parse_args()
    if arguments.deep:
        deep(10_000)
    elif arguments.depths:
        depths(arguments.plot)
    elif arguments.growth:
        growth(arguments.plot)
    else:
        compare(arguments.repeats)


if __name__ == "__main__":
    main()
