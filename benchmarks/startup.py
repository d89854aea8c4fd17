"""Time from nothing to a model: `import geolib`, the first load (empty cache), a later load; beside their limits.

    python benchmarks/startup.py

Each is a fresh process, timed from outside, interpreter included; the import also as a ratio to a bare interpreter.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time


def seconds(code, repeats=1, **environment):
    """Median seconds of a fresh process that runs ``code``."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        command = [sys.executable, "-c", code]
        subprocess.run(command, check=True, env=os.environ | environment, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    load = "from geolib import models; models.load()"
    bare, imported = seconds("pass", 9), seconds("import geolib", 9)
    with tempfile.TemporaryDirectory() as cache:
        first = seconds(load, GEOLIB_CACHE=cache)
        later = seconds(load, 3, GEOLIB_CACHE=cache)
    ratio = f"bare interpreter {bare:.3f} s, ratio {imported / bare:.2f}"
    print(f"import geolib     {imported:7.3f} s  ({ratio}; limit 0.3 s)")
    print(f"first load        {first:7.1f} s  (download and conversion; limit 60 s)")
    print(f"later load        {later:7.1f} s  (imports and checksum included; limit 5 s)")


if __name__ == "__main__":
    main()
