"""Speed of the cluster engine: two workers of one core each, against one; and what a task costs beside its answers.

    python benchmarks/cluster.py [--questions 72] [--rounds 2] [--out FILE]

Both engines answer the same batches of the embedded model, turn about; the rows must equal the local engine's bit by
bit. The overhead of a task is what the one worker's time holds beyond the seconds that it spent at its batches.
``--out`` keeps the measured constants as JSON, which the book's cost model reads.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from geolib.experiments.cluster import Cluster
from geolib.models import load
from geolib.reasoning import Sweep, generate_questions

LIMIT = 1.7
BATCH = 8


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=72)
    parser.add_argument("--max-new-tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load(device="cpu")
    questions, examples = generate_questions(arguments.questions, seed=1), generate_questions(1, seed=2)
    settings = {"shots": (0, 1), "batch_size": BATCH, "max_new_tokens": arguments.max_new_tokens, "progress": False}
    settings |= {"model": model, "tokenizer": tokenizer, "questions": questions, "examples": examples}
    alone = Sweep(**settings).run().drop(columns="seconds")
    taken, busy = {1: [], 2: []}, []
    with Cluster(workers=1) as one, Cluster(workers=2) as two, tempfile.TemporaryDirectory() as folder:
        for engine in (one, two):
            engine.room()
        for turn in range(arguments.rounds):
            for number, engine in ((1, one), (2, two)):
                store = Path(folder) / f"{turn}-{number}"
                start = time.perf_counter()
                rows = Sweep(**settings, engine=engine, store=store).run()
                taken[number].append(time.perf_counter() - start)
                if not rows.drop(columns="seconds").equals(alone):
                    raise SystemExit(f"{number} workers: other rows than the local engine's")
                if number == 1:
                    busy.append(taken[1][-1] - rows.seconds.sum())
        kept = sum(path.stat().st_size for path in store.glob("*.parquet")) / len(rows)
    tasks = len(rows) / BATCH
    ratios = [first / second for first, second in zip(taken[1], taken[2], strict=True)]
    overhead = statistics.median(busy) / tasks
    report = {
        "rows": len(rows),
        "speed_up": round(statistics.median(ratios), 2),
        "overhead_ms": round(overhead * 1e3, 1),
        "bytes_a_row": round(kept),
        "tokens_a_second": round(float(rows.new_tokens.sum() / rows.seconds.sum()), 1),
        "cores": os.cpu_count(),
    }
    print(f"{len(rows)} rows in {tasks:.0f} tasks, {arguments.rounds} rounds; all rows are the local engine's")
    print(f"one worker    {statistics.median(taken[1]):8.1f} s")
    print(f"two workers   {statistics.median(taken[2]):8.1f} s")
    print(f"ratio         {report['speed_up']:8.2f}     ({min(ratios):.2f}-{max(ratios):.2f})   limit {LIMIT}")
    print(f"a task costs  {report['overhead_ms']:8.1f} ms beside its answers; a row takes {kept:.0f} bytes")
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
