"""The hash of what a model computes: other weights, settings or functions give another one."""

import pytest
import torch
from tiny import TINY
from transformers import AutoConfig, AutoModelForCausalLM

from geolib.fingerprint import fingerprint, plain


def test_fingerprint_sees_every_weight_and_the_settings():
    def tiny(**changes):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **TINY | changes))

    model = tiny()
    before = fingerprint(model)
    assert fingerprint(tiny()) == before
    assert fingerprint(tiny(rope_theta=5.0)) != before
    assert fingerprint(model.to(torch.bfloat16)) != before
    model = tiny()
    for weight in model.parameters():
        with torch.no_grad():
            kept = weight.flatten()[-1].item()
            weight.view(-1)[-1] += 1
            assert fingerprint(model) != before
            weight.view(-1)[-1] = kept
    assert fingerprint(model) == before


def test_the_shipped_model_keeps_its_hash(model):
    """Rows that older stores hold are found by it."""
    assert fingerprint(model) == "eab89518639484fdf97f8afe378257e7ae4fee694076a7e26b0490dee7d5664c"


SCALE = 2.0


def test_functions_are_told_apart_by_what_they_read(monkeypatch):
    def times(k):
        return lambda weights, eps: weights > k * eps

    def scaled(weights, eps):
        return weights[..., None] > SCALE * eps

    before = plain(scaled)
    assert plain(times(2)) == plain(times(2)) != plain(times(3))
    assert plain(scaled) == before
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert plain(scaled) != before
    with pytest.raises(TypeError, match="plain: value is object, but"):
        plain(times(object()))
