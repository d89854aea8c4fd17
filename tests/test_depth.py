"""Every chapter that asks for a model promises to draw any: its cells run with few layers and with many."""

import os
import re
from pathlib import Path

import jupytext
import matplotlib.pyplot as plt
import pytest
import torch
from tiny import TINY
from tiny_folder import save_tiny
from transformers import AutoConfig, AutoModelForCausalLM

pytestmark = pytest.mark.whole

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CHAPTERS = sorted(
    path for path in NOTEBOOKS.rglob("*.md") if re.search(r"^model_name = ", path.read_text("utf-8"), re.M)
)
DEPTHS = (6, 12, 24, 40)
# On each push; the others take half a minute each, and run each night.
PUSHED = {
    "attention-graph": (6, 40),
    "theorem": (6, 40),
    "which-id": (12,),
    "swiglu": (6,),
    "dimension-to-regions": (6,),
    "open": (40,),
}
# A window for prompts with ten examples, one token a byte.
LARGE = {"max_position_embeddings": 8192, "num_key_value_heads": 4}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    made = {}

    def make(depth):
        if depth not in made:
            path = made[depth] = tmp_path_factory.mktemp(f"layers-{depth}")
            _, tokenizer = save_tiny(path)
            tokenizer.model_max_length = 8192
            tokenizer.save_pretrained(path)
            torch.manual_seed(0)
            settings = TINY | LARGE | {"vocab_size": len(tokenizer), "num_hidden_layers": depth}
            AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **settings)).save_pretrained(path)
        return str(made[depth])

    return make


def cases():
    """Chapters with the depths at which they are run."""
    for path in CHAPTERS:
        for depth in DEPTHS if os.environ.get("GEOLIB_DRAW") == "anew" else PUSHED.get(path.stem, ()):
            yield pytest.param(path, depth, id=f"{path.stem}-{depth}")


def run(chapter, **parameters):
    """Run the code cells of a chapter with other parameters, up to the published runs; return what they defined."""
    names = {"__name__": "__main__"}
    threads = torch.get_num_threads()
    try:
        for cell in jupytext.read(chapter, fmt="md:myst").cells:
            if cell.cell_type != "code" or re.match(r"\s*[%!]", cell.source):
                continue
            if "load_run(" in cell.source and "model" in names:
                break  # the rest knows no model
            exec(compile(cell.source, chapter.stem, "exec"), names)
            if "parameters" in cell.metadata.get("tags", ()):
                names |= parameters
            plt.close("all")
    finally:
        torch.set_num_threads(threads)
    return names


@pytest.mark.parametrize(("chapter", "depth"), [*cases()])
def test_a_chapter_runs_at_any_depth(chapter, depth, folder_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(chapter, model_name=folder_of(depth))
    assert names["model"].config.num_hidden_layers == depth
    if chapter.stem == "attention-graph":
        assert names["layer"] == depth - 2, "the second to last"
    if chapter.stem == "theorem":  # three parts and the first layer are all of them, whatever the number divides by
        assert sorted(names["last"]["layer"].unique()) == list(range(1, depth + 1))
        first, *_, last = (re.findall(r"\d+", third) for third in names["thirds"])
        assert (first[0], last[1]) == ("1", str(depth))
