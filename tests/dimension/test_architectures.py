"""The book's table of architectures: what it says holds here, now, and the comparison behind it can fail."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from architectures import CLASSES, EPS, LENGTH, batch, compare, eager_maps, row, tiny_model

from geolib.dimension import attention_dimension

TABLE = json.loads((Path(__file__).parents[2] / "book" / "results" / "architectures.json").read_text())
ROWS = {line["architecture"]: line for line in TABLE["rows"]}
MADE_WITH = TABLE["manifest"]["transformers"]
pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers says of models with 64 words is not our concern


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices are tiny: a second thread would only wait
    yield
    torch.set_num_threads(threads)


@pytest.mark.whole
@pytest.mark.parametrize("kind", CLASSES)
def test_the_table_says_what_is(kind):
    """With another transformers than the table's, what differs is shown, and only a wrong count is an error."""
    try:
        found = row(kind)
    except Exception as error:
        if transformers.__version__ == MADE_WITH:
            raise
        pytest.skip(f"{kind}: transformers {transformers.__version__} does not build it ({error})")
    assert found["verdict"] != "wrong", found["reason"]
    if transformers.__version__ == MADE_WITH:
        assert found == ROWS[kind], "run: python benchmarks/architectures.py"
    elif found["verdict"] != ROWS.get(kind, found)["verdict"]:
        then, now = ({key: line[key] for key in ("verdict", "reason")} for line in (ROWS[kind], found))
        pytest.skip(f"{kind}: transformers {MADE_WITH}: {then}; transformers {transformers.__version__}: {now}")


def test_the_table_is_whole():
    if transformers.__version__ != MADE_WITH:
        pytest.skip(f"the table is of transformers {MADE_WITH}, this is {transformers.__version__}")
    assert list(ROWS) == list(CLASSES)


def test_what_is_widely_used_is_exact():
    kinds = """llama llama4_text mistral mixtral qwen2 qwen2_moe qwen3 qwen3_moe gemma gemma2 gemma3_text gpt2
    gpt_bigcode gpt_neox gpt_oss phi phi3 olmo2 opt starcoder2 stablelm cohere cohere2 granite smollm3 glm4
    deepseek_v3"""
    assert {ROWS[kind]["verdict"] for kind in kinds.split()} == {"exact"}


WINDOWED = [
    line["architecture"]
    for line in TABLE["rows"]
    if line["verdict"] == "exact" and {"sliding window", "chunks"} & {*line["special"].split(", ")}
]


@pytest.mark.parametrize("kind", [kind for kind in WINDOWED if kind in CLASSES])
def test_windows_bite(kind):
    seen = attention_dimension(tiny_model(kind), **batch(None)).visible
    assert seen.min() < LENGTH


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        ("mistral", "sliding_window", 6),
        ("llama4_text", "attention_chunk_size", 20),
        ("gemma2", "attn_logit_softcapping", 5.0),
        ("granite", "attention_multiplier", 0.9),
    ],
)
def test_comparison_sees_another_attention(kind, setting, value):
    other = tiny_model(kind)
    setattr(other.config, setting, value)
    other = type(other)(other.config).eval()
    other.load_state_dict(tiny_model(kind).state_dict())
    result = attention_dimension(other, **batch(None), eps=EPS, tokens="all")
    assert compare(result, eager_maps(other, batch(None)), np.ones((1, LENGTH), bool)) == ""
    maps = eager_maps(tiny_model(kind), batch(None))
    assert compare(result, maps, np.ones((1, LENGTH), bool)).endswith("rows differ")


@pytest.mark.parametrize("kind", ["gpt_oss", "granite_swa"])
def test_comparison_sees_sinks(kind):
    model, real = tiny_model(kind), np.ones((1, LENGTH), bool)
    maps = eager_maps(model, batch(None))
    assert maps.sum(-1).mean() < 0.99  # the sink has taken its part
    for name, parameter in model.named_parameters():
        if name.endswith("sinks"):
            parameter.data.fill_(-100)
    result = attention_dimension(model, **batch(None), eps=EPS, tokens="all")
    assert compare(result, maps, real).endswith("rows differ")
    assert compare(result, eager_maps(model, batch(None)), real) == ""


@pytest.mark.parametrize("tokens", ["all", "last"])
def test_comparison_sees_one_wrong_count(tokens):
    model = tiny_model("llama")
    maps, real = eager_maps(model, batch("left")), batch("left")["attention_mask"].bool().numpy()
    result = attention_dimension(model, **batch("left"), eps=EPS, tokens=tokens)
    assert compare(result, maps, real) == ""
    result.per_head[0, 2, 1, 3, -1] += 1
    assert compare(result, maps, real).startswith("1 of ")
    assert compare(result, maps[:, :2], real).startswith("counts have shape")
