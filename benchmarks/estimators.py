"""Cost of estimating dimensions: neighbours shared against found anew, and the memory of a layer profile, in one run.

    python benchmarks/estimators.py [--points 5000] [--width 576] [--repeats 3]

Time: TwoNN, MLE and TLE in one call against three calls, and against scikit-dimension's own three; the interval of
MLE from 20 half-samples with their neighbours looked up among those known, against 20 searches. Ratios are medians over
alternating repeats. Memory: the most that Python and NumPy hold during the profile of a random model of 32 layers,
above what it holds with 2, in units of one layer's states: 30 if all were kept, 0 if the profile is streamed.
"""

import argparse
import statistics
import time
import tracemalloc
import warnings

import numpy as np

from geolib.dimension import dimension_profile, estimate_dimension

NAMES = ["TwoNN", "MLE", "TLE"]


def skdim_alone(points):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        from skdim import id as estimators

        return [getattr(estimators, name)().fit(points).dimension_ for name in NAMES]


def halves_searched(points):
    """The half-samples of an interval, each searched for neighbours."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        estimate_dimension(points[rng.permutation(len(points))[: len(points) // 2]], "MLE")
    return estimate_dimension(points, "MLE")


def profile_peak(layers):
    """Bytes that the profile of a random model holds at most."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64, hidden_size=256, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4
    )
    model, prompts = LlamaForCausalLM(config), np.random.default_rng(0).integers(0, 64, (10, 201)).tolist()
    tracemalloc.start()
    dimension_profile(model, prompts)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=5000)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    points = rng.standard_normal((args.points, 12)) @ rng.standard_normal((12, args.width))
    contenders = {
        "three, shared": lambda: estimate_dimension(points, NAMES),
        "three, alone": lambda: [estimate_dimension(points, name) for name in NAMES],
        "scikit-dimension": lambda: skdim_alone(points),
        "MLE": lambda: estimate_dimension(points, "MLE"),
        "MLE, 20 halves": lambda: estimate_dimension(points, "MLE", n_boot=20),
        "20 searches": lambda: halves_searched(points),
    }
    estimate_dimension(points[:200], NAMES)  # imports
    seconds = {name: [] for name in contenders}
    for _ in range(args.repeats):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    print(f"{args.points} points, {args.width} coordinates")
    for name, times in seconds.items():
        print(f"{name:18}{statistics.median(times):8.2f} s")
    for name, peer in (
        ("three, shared", "three, alone"),
        ("three, shared", "scikit-dimension"),
        ("MLE, 20 halves", "20 searches"),
    ):
        ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds[peer], strict=True))
        print(f"{name} / {peer}: {ratio:.2f}")
    profile_peak(1)  # imports
    states = 10 * 200 * 256 * 4
    print(f"profile, 32 layers above 2: {(profile_peak(32) - profile_peak(2)) / states:.2f} layers' states (all: 30)")


if __name__ == "__main__":
    main()
