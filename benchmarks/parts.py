"""Time to read some rows of a large store, beside the time to read them where nothing else is kept.

    python benchmarks/parts.py [FOLDER]

A store of 12,800 rows in batches of 16, each row as a sweep keeps it on a model of 30 layers: one run's 320 rows, and
all. The ratio says what the other 12,480 rows cost whoever does not ask for them. FOLDER keeps the stores.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from geolib.store import Parts

N, K, BATCH, LAYERS = 12_800, 320, 16, 30


def row(i):
    counts = {
        f"id_{rule}_{eps}": np.arange(LAYERS) + i for rule in ("absolute", "relative") for eps in (0.1, 0.05, 0.01)
    }
    return {"key": f"{i:064x}", "response": "The answer is 42. " * 20, "new_tokens": 90, "seconds": 0.1, **counts}


def fill(folder, n):
    """Write what is missing of a store of ``n`` rows."""
    with Parts(folder) as parts:
        for start in range(0, n, BATCH):
            if len(list(folder.glob("*.parquet"))) * BATCH <= start:
                parts.add([row(i) for i in range(start, start + BATCH)])


def seconds(folder, k):
    """Least time of three to read the first ``k`` rows of a store."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        with Parts(folder) as parts:
            assert len(parts.read(f"{i:064x}" for i in range(k))) == k
        times.append(time.perf_counter() - start)
    return min(times)


def main(folder):
    large, small = folder / "large", folder / "small"
    fill(large, N)
    fill(small, K)
    alone, among, everything = seconds(small, K), seconds(large, K), seconds(large, N)
    print(f"{K} rows, nothing else kept      {alone:6.2f} s")
    print(f"{K} rows of {N:,}            {among:6.2f} s   {among / alone:.1f} times as long")
    print(f"all {N:,} rows              {everything:6.2f} s   {everything / alone:.1f} times as long")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
