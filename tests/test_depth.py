"""The chapters of Part II promise to draw any model: their cells run with few layers and with many."""

import re
from pathlib import Path

import jupytext
import matplotlib.pyplot as plt
import pytest
import torch
from tiny import TINY
from tiny_folder import save_tiny
from transformers import AutoConfig, AutoModelForCausalLM

PART = Path(__file__).parents[1] / "notebooks" / "part-2-dimension"
# A window for prompts with ten examples, one token a byte.
LARGE = {"max_position_embeddings": 8192, "num_key_value_heads": 4}


@pytest.fixture(scope="module", params=[6, 12, 24, 40])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(f"layers-{request.param}")
    _, tokenizer = save_tiny(path)
    tokenizer.model_max_length = 8192
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    settings = TINY | LARGE | {"vocab_size": len(tokenizer), "num_hidden_layers": request.param}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **settings)).save_pretrained(path)
    return path


def run(chapter, **parameters):
    """Run the code cells of a chapter, as its notebook would, with other parameters; return what they defined."""
    names = {"__name__": "__main__"}
    threads = torch.get_num_threads()
    try:
        for cell in jupytext.read(PART / f"{chapter}.md", fmt="md:myst").cells:
            if cell.cell_type != "code" or re.match(r"\s*[%!]", cell.source):
                continue
            exec(compile(cell.source, chapter, "exec"), names)
            if "parameters" in cell.metadata.get("tags", ()):
                names |= parameters
            plt.close("all")
    finally:
        torch.set_num_threads(threads)
    return names


def test_the_attention_graph_begins_with_the_second_to_last_layer(folder):
    names = run("attention-graph", model_name=str(folder))
    assert names["layer"] == names["model"].config.num_hidden_layers - 2


def test_the_theorem_is_tested_in_every_layer(folder):
    """Three parts and the first layer are all of them, whatever the number divides by."""
    names = run("theorem", model_name=str(folder))
    n_layers = names["model"].config.num_hidden_layers
    assert sorted(names["last"]["layer"].unique()) == list(range(1, n_layers + 1))
    first, *_, last = names["thirds"].values()
    assert (first[0], last[1]) == (1, n_layers)
