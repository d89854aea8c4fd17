"""Behind the gate: the arms change what they say, and what is estimated of them is right on rows of known effects."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from transformers import LlamaConfig, LlamaForCausalLM

from geolib.experiments import gate
from geolib.reasoning import Estimate
from tests.tiny import TINY


def test_arms_change_what_they_say():
    arms = gate.arms(6, 4)
    assert {name for name, change in arms.items() if change.during != "all"} == {"prompt", "answer", "last token"}
    third = [sorted(arms[f"{name} third"].sharpness) for name in ("first", "middle", "last")]
    assert third == [[0, 1], [2, 3], [4, 5]]
    for name, mean in {"mixed, mean 1.25": 1.25, "mixed, mean 1": 1.0}.items():
        factors = np.array([*arms[name].sharpness.values()])
        assert factors.shape == (6, 4)
        assert np.exp(np.log(factors).mean()) == pytest.approx(mean)
        assert np.abs(np.log(factors / mean)) == pytest.approx(np.log(1.25))
    assert arms["noise"].noise == gate.NOISE
    assert arms["output"].output == 1.25


def test_noise_on_weights_is_that_of_rounding_with_a_coarser_step():
    """Its variance is the square of the step by twelve; norms and embeddings stay, and so does the model itself."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**TINY)).eval()
    kept = {name: weight.clone() for name, weight in model.named_parameters()}
    rough = dict(gate.roughened(model, 2).named_parameters())
    for name, weight in model.named_parameters():
        assert torch.equal(weight, kept[name])
        blocks, moved = weight.view(-1, 32) if weight.dim() > 1 else weight[None], rough[name] - weight
        if name.endswith("_proj.weight"):
            step = 2 * (blocks.max(1).values - blocks.min(1).values) / 15
            relative = moved.view(-1, 32) / step[:, None]
            assert relative.abs().max() <= 0.5 + 1e-4
            assert relative.var().item() == pytest.approx(1 / 12, rel=0.1)
        else:
            assert moved.abs().max() == 0


def simulated(seed, effects, n=400):
    """Rows of "sharper", and of a run with arms that add a share and a count at layer -2."""
    rng, frames = np.random.default_rng(seed), []
    drawn, entropy = rng.random(n), rng.random((n, 6)).astype(np.float16)
    for arm, (share, count) in {gate.UNCHANGED: (0, 0), gate.ALL: (0.1, 1), **effects}.items():
        rows = {"question": range(n), "example_set": np.arange(n) % 20, "shots": 5, "correct": drawn < 0.4 + share}
        rows |= {"sharpness": 1.25 if arm == gate.ALL else 1.0}
        for rule in ("relative", "absolute"):
            rows[f"id_{rule}_0.1"] = [np.array([9, 30 + count, 9])] * n
        frames.append(pd.DataFrame(rows).assign(arm=arm, mean_entropy=entropy.mean(1, dtype=float) - share))
    whole = (
        pd.concat(frames[:2], ignore_index=True).drop(columns=["arm", "mean_entropy"]).assign(entropy=[*entropy] * 2)
    )
    return pd.concat(frames[2:], ignore_index=True), whole


def test_gains_are_those_of_each_arm_against_the_unchanged():
    rows, sharper = simulated(1, {"a": (0.2, -3), "b": (-0.1, 4)})
    both = gate.beside(rows, sharper)
    assert list(dict.fromkeys(both.arm)) == [gate.UNCHANGED, gate.ALL, "a", "b"]
    found = gate.gains(both, {"gain": "correct", "id": "relative", "entropy": "mean_entropy"}, n_boot=300)
    assert {arm: found[arm, "id"].value for arm in (gate.ALL, "a", "b")} == {gate.ALL: 1, "a": -3, "b": 4}
    assert found["a", "gain"].value > found[gate.ALL, "gain"].value > 0 > found["b", "gain"].value
    assert found["a", "entropy"].value == pytest.approx(-0.2, abs=1e-3)
    assert {one.n for one in found.values()} == {400}


def test_the_order_of_arms_is_spearman_s():
    rng = np.random.default_rng(0)
    for n in (5, 7):
        x, y = rng.normal(size=n), np.round(rng.normal(size=n), 1)
        rho, p = gate.order(x, y)
        exact = stats.permutation_test(
            (x,), lambda x, y=y: stats.spearmanr(x, y).statistic, permutation_type="pairings", n_resamples=np.inf
        )
        assert rho == pytest.approx(stats.spearmanr(x, y).statistic)
        assert p == pytest.approx(exact.pvalue, abs=0.02)
    with pytest.raises(ValueError, match=r"^order: x has 11 values, but at most 10"):
        gate.order(range(11), range(11))


def test_tests_that_were_not_run_count_as_one():
    p = gate.p_value(Estimate(1.96, 0.0, 3.92, 9))
    assert p == pytest.approx(0.05, abs=1e-3)
    assert gate.corrected({"a": 0.001, "b": 0.02}) == {"a": pytest.approx(0.008), "b": pytest.approx(0.14)}
    assert gate.corrected({"a": 0.001}, n_tests=1) == {"a": pytest.approx(0.001)}


def test_the_difference_of_two_samples_has_both_errors():
    found = gate.difference(Estimate(5.0, 2.0, 8.0, 90), Estimate(1.0, -3.0, 5.0, 40))
    assert (found.value, found.n) == (4.0, 40)
    assert (found.low, found.high) == (pytest.approx(-1.0), pytest.approx(9.0))
