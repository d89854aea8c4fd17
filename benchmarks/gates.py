"""How much of a gated MLP's output its gate signs explain: Gemma 3 270M, for the chapter "Where the picture stops".

    python benchmarks/gemma.py FOLDER    writes the model; then: python benchmarks/gates.py FOLDER

For each layer and prompt: the median over tokens of the relative error of the MLP's output with ReLU in place of the
activation, with the parabola that it is at 0, and with the best sums of z and |z| and of z and z^2; the median gate;
and for each layer the ratio of the first two. The table goes to book/results/gates.json; `--dry` prints it only. Any
other model's folder or name may be given with it: `python benchmarks/gates.py smollm2-135m --dry` is the chapter's.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import torch
import transformers

import geolib
from geolib import models
from geolib.dimension import mlp_parts
from geolib.experiments.runs import commit
from geolib.files import write_text
from geolib.fingerprint import fingerprint
from geolib.reasoning.generated import mixed_prompts, python_prose

TABLE = Path(__file__).parents[1] / "book" / "results" / "gates.json"
SKIP = 4


def measured(parts):
    """The row of one layer and prompt."""
    half = parts.activation(np.array([0.01, -0.01])).sum() / 2e-4  # half the curvature at 0
    signs, square = parts.fit(lambda z: z, np.abs), parts.fit(lambda z: z, np.square)
    errors = {
        "ReLU": parts.error(lambda z: np.maximum(z, 0)),
        "parabola": parts.error(lambda z: z / 2 + half * z**2),
        "signs, fitted": parts.error(lambda z: signs[0] * z + signs[1] * np.abs(z)),
        "square, fitted": parts.error(lambda z: square[0] * z + square[1] * z**2),
        "gate": np.abs(parts.gates),
    }
    return {name: round(float(np.median(values)), 4) for name, values in errors.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or name")
    parser.add_argument("--dry", action="store_true", help="print the medians over prompts, and write nothing")
    options = parser.parse_args()
    start = time.perf_counter()
    torch.set_num_threads(1)
    model, tokenizer = models.load(options.model)
    asked = mixed_prompts(tokenizer)
    layers = range(model.config.num_hidden_layers)
    rows = [
        {"prompt": number, "layer": parts.layer + 1} | measured(parts)
        for number, ids in enumerate(asked)
        for parts in mlp_parts(model, ids, layer=layers, skip=SKIP)
    ]
    table = pd.DataFrame(rows).groupby("layer").mean().drop(columns="prompt")
    print(table.assign(ratio=table["ReLU"] / table["parabola"]).round(2).to_string())
    if options.dry:
        return
    manifest = {
        "command": "python benchmarks/gates.py FOLDER",
        "commit": commit(),
        "model": Path(options.model).name,
        "model_sha256": fingerprint(model),
        "made_by": "python benchmarks/gemma.py FOLDER",
        "activation": model.config.hidden_activation,
        "prompts": len(asked),
        "prose_crc32": crc32(python_prose().encode()),
        "transformers": transformers.__version__,
        "torch": torch.__version__.partition("+")[0],
        "geolib": geolib.__version__,
        "python": platform.python_version(),
        "seconds": round(time.perf_counter() - start),
    }
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)  # a line each, so that a change shows as one
    write_text(f'{{\n "manifest": {json.dumps(manifest)},\n "rows": [\n{lines}\n ]\n}}\n', TABLE)


if __name__ == "__main__":
    sys.exit(main())
