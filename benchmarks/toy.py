"""Training side by side against one run after the other: the same numbers, and the time of each, in one run.

    python benchmarks/toy.py [--threads 1]

The one-block LLMs: a grid at once against the same runs alone (a batch of one each). The MLPs on a curve: prefix sums
for all seeds at once against plain torch modules. Ratios are seconds of the second over seconds of the first.
"""

import argparse
import time

import numpy as np
import torch

from geolib.toy import fit_mlps, train_grid


def seconds(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def grid(context, seeds=5, n_steps=100):
    """Train heads 1, 5 and 10 with each seed, at once and alone; return both times and the largest difference."""
    settings = {"contexts": [context], "n_steps": n_steps}
    at_once, together = seconds(lambda: train_grid(heads=[1, 5, 10], seeds=range(seeds), **settings))
    alone, runs = seconds(
        lambda: [train_grid(heads=[h], seeds=[s], **settings) for h in (1, 5, 10) for s in range(seeds)]
    )
    return at_once, alone, np.abs(together.fit - np.concatenate([run.fit for run in runs])).max()


def mlps(width, seeds=5, n_steps=100):
    """Fit sin with each seed, at once and with plain modules; return both times and the largest difference."""
    x = np.linspace(-2 * np.pi, 2 * np.pi, 1000)
    at_once, fit = seconds(lambda: fit_mlps(x, np.sin(x), width=width, seeds=range(seeds), n_steps=n_steps))
    inputs = torch.from_numpy(x)[:, None]
    target = torch.from_numpy(np.sin(x))[:, None]

    def plain(network):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        for _ in range(n_steps):
            optimizer.zero_grad()
            (network(inputs) - target).square().mean().backward()
            optimizer.step()
            schedule.step()
        return network(inputs).detach()

    alone, outputs = seconds(lambda: [plain(fit.network(i, 0)) for i in range(seeds)])
    ours = [fit.network(i)(inputs).detach() for i in range(seeds)]
    return at_once, alone, max(float((a - b).abs().max()) for a, b in zip(ours, outputs, strict=True))


def main():
    parser = argparse.ArgumentParser(description="Time training side by side against one run after the other.")
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    mlps(5, n_steps=2), grid(2, n_steps=1)  # warm up
    rows = {f"one-block LLMs, context {c}, 15 runs": grid(c) for c in (10, 100)}
    rows |= {f"MLPs on 1000 points, width {w}, 5 runs": mlps(w) for w in (50, 500)}
    for name, (at_once, alone, difference) in rows.items():
        print(f"{name:40} at once {at_once:6.2f} s, alone {alone:6.2f} s, ratio {alone / at_once:5.1f}", end="")
        print(f"  (largest difference {difference:.0e})")


if __name__ == "__main__":
    main()
