"""estimate_dimension on clouds whose dimension is known, and dimension_profile against plain hooks."""

import re
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TINY
from transformers import AutoConfig, AutoModelForCausalLM

from geolib.dimension import dimension_profile, estimate_dimension
from geolib.dimension.estimators import (
    _NEIGHBOURS,
    _SHARING,
    _clean,
    _nearest,
    _nearest_within,
    _reach,
    _warn_of_groups,
)
from geolib.dimension.points import distinct_rows

QUICK = [name for name in _NEIGHBOURS if name not in ("ESS", "PH")]


def ball(n, dim, ambient=None, seed=0):
    """Uniform in a ball, in some subspace."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, dim))
    points *= rng.random((n, 1)) ** (1 / dim) / np.linalg.norm(points, axis=1, keepdims=True)
    return points @ np.linalg.qr(rng.standard_normal((ambient or dim, dim)))[0].T


def sphere(n, dim):
    points = np.random.default_rng(0).standard_normal((n, dim + 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def swiss_roll(n):
    t, height = np.random.default_rng(0).uniform([1.5 * np.pi, 0], [4.5 * np.pi, 21], (n, 2)).T
    return np.column_stack([t * np.cos(t), height, t * np.sin(t)])


def skdim_id():
    with warnings.catch_warnings():
        from skdim import id as estimators
    return estimators


@pytest.mark.whole
@pytest.mark.parametrize(
    ("points", "dim", "flat"),
    [
        (ball(1000, 1, 50), 1, True),
        (ball(1000, 3), 3, True),
        (ball(1000, 5, 200), 5, True),
        (sphere(1000, 2), 2, False),
        (swiss_roll(1000), 2, False),
        (np.random.default_rng(0).standard_normal((1000, 4)), 4, True),
    ],
)
def test_known_dimensions(points, dim, flat):
    found = estimate_dimension(points, QUICK)
    local = [name for name in QUICK if name not in ("lPCA", "FisherS", "DANCo")]
    assert {name: found[name].value for name in local} == pytest.approx(dict.fromkeys(local, dim), rel=0.2)
    assert found["lPCA"].value == (dim if flat else dim + 1)  # the flat space around it
    assert {e.n_used for e in found.values()} == {1000}


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_neighbours_on_opposite_sides_make_an_angle(dim, capsys):
    """Rounding makes their cosine a little less than -1: DANCo gave NaN, and scikit-dimension printed a warning."""
    points = np.unique(np.random.default_rng(0).integers(0, (400, 40, 12)[dim - 1], (200, dim)), axis=0)
    assert estimate_dimension(points @ np.eye(dim, 5), "DANCo").value == pytest.approx(dim, rel=1e-3)
    assert capsys.readouterr() == ("", "")


def test_slow_ones_too():
    assert round(estimate_dimension(ball(60, 3), "PH").value) == 3
    assert round(estimate_dimension(ball(40, 3), "ESS", n_neighbors=15).value) == 3


@pytest.mark.whole
@pytest.mark.parametrize("name", QUICK)
def test_equals_scikit_dimension_where_that_is_right(name):
    points = ball(300, 4, 30)
    extra = {"DANCo": {"ver": "DANCoFit", "random_state": 0}, "MiND_ML": {"D": 30}}.get(name, {})
    with np.errstate(all="ignore"):
        theirs = getattr(skdim_id(), name)(**extra).fit(points).dimension_
    assert estimate_dimension(points, name).value == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("name", ["MLE", "TLE", "MOM", "MADA"])
def test_scale_is_a_choice(name):
    points = ball(300, 4)
    with np.errstate(all="ignore"):
        theirs = getattr(skdim_id(), name)().fit(points, n_neighbors=12).dimension_
    assert estimate_dimension(points, name, n_neighbors=12).value == pytest.approx(theirs, rel=1e-6)
    wider = skdim_id().GRIDE(n1=6, n2=12).fit(points).dimension_
    assert estimate_dimension(points, "GRIDE", n_neighbors=12).value == pytest.approx(wider, rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    scale=st.floats(-100, 100).map(lambda power: 10.0**power),
    shift=st.floats(-1e3, 1e3),
    extra=st.integers(0, 20),
)
def test_isometries_and_scale_change_nothing(seed, scale, shift, extra):
    rng = np.random.default_rng(seed)
    points = rng.random((60, 3)) ** 2
    turn = np.linalg.qr(rng.standard_normal((3 + extra, 3 + extra)))[0][:, :3]
    moved = scale * (points @ turn.T + shift * rng.standard_normal(3 + extra))
    names = ["TwoNN", "MLE", "GRIDE", "TLE", "MADA", "lPCA"]
    before, after = estimate_dimension(points, names), estimate_dimension(moved, names)
    assert {n: after[n].value for n in names} == pytest.approx({n: before[n].value for n in names}, rel=1e-4)


@pytest.mark.whole
def test_duplicates_change_nothing():
    points = ball(400, 5, 20)
    clean = estimate_dimension(points, QUICK, n_boot=4)
    found = estimate_dimension(np.vstack([points, points[:40], points[:10]]), QUICK, n_boot=4)
    assert all(e.n_duplicates == 50 and e.n_used == 400 for e in found.values())
    assert [(e.value, e.interval) for e in found.values()] == [(e.value, e.interval) for e in clean.values()]
    with np.errstate(all="ignore"):  # what it saves from
        assert skdim_id().MLE().fit(np.vstack([points, points[:40]])).dimension_ == 0


def test_one_huge_row_changes_nothing():
    points = ball(400, 5, 20)
    huge = np.vstack([points[:100], np.full((1, 20), 1e5), points[100:]])
    found, clean = estimate_dimension(huge, QUICK), estimate_dimension(points, QUICK)
    assert all(e.n_outliers == 1 and e.n_used == 400 for e in found.values())
    assert [e.value for e in found.values()] == pytest.approx([e.value for e in clean.values()], rel=1e-6)
    with np.errstate(all="ignore"):  # what it saves from
        assert skdim_id().lPCA().fit(huge).dimension_ == 1


@pytest.mark.whole
@pytest.mark.parametrize("dim", [1, 2, 3, 10, 100, 600])
def test_ordinary_clouds_stay_whole(dim):
    gaussian = np.random.default_rng(0).standard_normal((3000, dim))
    assert [_clean(cloud, 2**-52)[2] for cloud in (gaussian, ball(3000, dim), sphere(3000, dim))] == [0, 0, 0]
    lone = np.vstack([gaussian[:500], np.full((3, dim), 1e6) * [[1], [2], [1e300]]])
    assert _clean(lone, 2**-52)[2] == 3


def test_zero_has_one_sign():
    points = np.round(ball(50, 2), 1)
    assert _clean(np.vstack([points, [[0.0, 5.0]], [[-0.0, 5.0]]]), 2**-52)[1] == 1 + _clean(points, 2**-52)[1]


def test_a_sequence_shares_and_changes_nothing():
    points = ball(210, 3, 8)
    together = estimate_dimension(points, QUICK, n_boot=3, seed=5)
    assert list(together) == QUICK
    for name in QUICK:
        alone = estimate_dimension(points, name, n_boot=3, seed=5)
        assert together[name].value == pytest.approx(alone.value, rel=1e-9)
        assert together[name].interval == pytest.approx(alone.interval, rel=1e-6)


@pytest.mark.parametrize("known", [60, 6])  # with 6 the halves hold too few of them, and are searched anew
def test_neighbours_within_a_half(known):
    points = ball(200, 4)
    half = np.sort(np.random.default_rng(0).permutation(200)[:100])
    distances, neighbours = _nearest_within(points, half, _nearest(points, known), 5)
    expected = _nearest(points[half], 5)
    np.testing.assert_allclose(distances, expected[0], rtol=1e-9)
    np.testing.assert_array_equal(neighbours, expected[1])


def test_intervals_follow_the_seed():
    points = ball(200, 3)
    one, again, other = (estimate_dimension(points, n_boot=10, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one.value == other.value
    assert one.interval != other.interval
    assert all(e.interval[0] < e.value < e.interval[1] for e in (one, other))
    narrow = estimate_dimension(points, n_boot=10, seed=1, level=0.5).interval
    assert one.interval[0] < narrow[0] < narrow[1] < one.interval[1]
    assert estimate_dimension(points).interval is None


@pytest.mark.whole
def test_intervals_cover():
    """Of what 80 clouds give on average, nearly all intervals know; and none is far too wide."""
    found = [estimate_dimension(ball(150, 3, seed=s), ["TwoNN", "MLE"], n_boot=25, seed=s) for s in range(80)]
    for name in ("TwoNN", "MLE"):
        values = np.array([e[name].value for e in found])
        low, high = np.array([e[name].interval for e in found]).T
        assert ((low <= values.mean()) & (values.mean() <= high)).mean() > 0.9
        spread = np.log(high / low).mean() / (2 * 1.96)
        assert 0.8 < spread / np.log(values).std() < 1.8


@pytest.mark.whole
def test_nothing_global_changes():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    estimate_dimension(ball(60, 2), ["DANCo", "TwoNN"], n_boot=2)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    code = (
        "import sys, warnings, numpy as np, geolib.dimension.estimators as gd; before = list(warnings.filters); "
        "print('skdim' in sys.modules, 'numba' in sys.modules); "
        "gd.estimate_dimension(np.random.default_rng(0).random((50, 2))); "
        "print('skdim' in sys.modules, warnings.filters == before)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False", "True", "True"]


POINTS = ball(40, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"points": "cloud"}, TypeError, "points is 'cloud', but an array of real numbers"),
        (
            {"points": [[0, 1], [np.nan, 1]]},
            ValueError,
            r"points holds nan at \(1, 0\), but finite numbers were expected",
        ),
        ({"points": np.full((9, 2), np.inf)}, ValueError, "points holds inf"),
        ({"points": np.zeros(5)}, ValueError, r"points has shape \(5,\), but \[n, dim\] was expected"),
        ({"points": np.zeros((0, 5))}, ValueError, r"points has shape \(0, 5\), but"),
        (
            {"points": np.ones((50, 3))},
            ValueError,
            "points has 1 rows without 49 duplicates .* at least 5 were expected for TwoNN",
        ),
        (
            {"points": POINTS[:20], "estimator": "MLE"},
            ValueError,
            "20 rows without 0 .* at least 21 were expected for MLE",
        ),
        ({"estimator": "MLE", "n_boot": 9}, ValueError, "40 rows .* at least 42 for half-samples were expected"),
        ({"points": POINTS[:19], "estimator": "DANCo"}, ValueError, "at least 20 were expected for DANCo"),
        ({"points": ball(5001, 2), "estimator": "DANCo"}, ValueError, "at most 5000 were expected for DANCo"),
        ({"estimator": "PCA"}, ValueError, "estimator is 'PCA', but one of TwoNN, MLE, GRIDE"),
        ({"estimator": ["MLE", 3]}, ValueError, "estimator is 3, but one of"),
        ({"estimator": 3}, TypeError, "estimator is 3, but a name or names were expected"),
        ({"estimator": []}, TypeError, r"estimator is \[\], but a name or names were expected"),
        ({"n_neighbors": 5}, ValueError, "n_neighbors is 5, but None was expected for TwoNN"),
        (
            {"estimator": "GRIDE", "n_neighbors": 5},
            ValueError,
            "n_neighbors is 5, but an even number was expected for GRIDE",
        ),
        ({"estimator": "MLE", "n_neighbors": 2}, ValueError, "n_neighbors is 2, but at least 3 was expected"),
        ({"n_boot": 1}, ValueError, "n_boot is 1, but 0 or at least 2 was expected"),
        ({"n_boot": 2.5}, TypeError, "n_boot is 2.5, but an integer was expected"),
        ({"level": 1}, ValueError, "level is 1, but a number between 0 and 1 was expected"),
        ({"seed": -1}, ValueError, "seed is -1, but at least 0 was expected"),
        ({"points": np.indices((7, 7)).reshape(2, -1).T}, ValueError, "TwoNN .*points"),  # distances tie
        ({"points": np.indices((7, 7)).reshape(2, -1).T, "estimator": "GRIDE"}, ValueError, "GRIDE fails on points"),
    ],
)
def test_refusals(arguments, error, message):
    with pytest.raises(error, match=f"^estimate_dimension: .*{message}") as raised:
        estimate_dimension(**{"points": POINTS} | arguments)
    assert "\n" not in str(raised.value)


# Layer profiles

PROMPTS = [[5, 9, 33, 9, 17, 60, 3, 8] * 4, [5, 9, 33, 9, 40, 41, 42, 43] * 3, [7, 9, 33, *range(10, 50)]]


def tiny(kind="llama", **extra):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **TINY | extra)).eval()


def by_hooks(model, module_of, prompts):
    """States at a module's entrance, a list over layers of lists over prompts."""
    seen = [[] for _ in model.model.layers]
    hooks = [
        module_of(block).register_forward_pre_hook(lambda _, args, to=to: to.append(args[0][0].numpy().copy()))
        for block, to in zip(model.model.layers, seen, strict=True)
    ]
    with torch.no_grad():
        for ids in prompts:
            model.model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(("site", "module_of"), [("mlp", lambda block: block.mlp), ("residual", lambda block: block)])
def test_profile_equals_plain_hooks(site, module_of):
    model = tiny()
    seen = by_hooks(model, module_of, PROMPTS)
    profile = dimension_profile(model, PROMPTS, ["TwoNN", "MLE"], site=("mlp", "residual"), n_boot=3)
    assert profile.groupby("site", sort=False).size().to_dict() == {"mlp": 6, "residual": 6}
    profile = profile[profile.site == site].reset_index(drop=True)
    pd.testing.assert_frame_equal(profile, dimension_profile(model, PROMPTS, ["TwoNN", "MLE"], site=site, n_boot=3))
    assert profile.layer.tolist() == [0, 0, 1, 1, 2, 2]
    for layer, states in enumerate(seen):
        # The second prompt begins as the first: its tokens 1 to 3 have been there.
        points = np.vstack([states[0][1:], states[1][4:], states[2][1:]])
        expected = estimate_dimension(points, ["TwoNN", "MLE"], n_boot=3)
        rows = profile[profile.layer == layer].set_index("estimator")
        first = np.mean([np.linalg.norm(s[0]) for s in states]) / np.median(np.linalg.norm(points, axis=1))
        for name, one in expected.items():
            row = rows.loc[name]
            assert [row.value, row.low, row.high] == pytest.approx([one.value, *one.interval], rel=1e-9)
            assert [row.n_used, row.n_outliers] == [one.n_used, one.n_outliers]
            assert [row.n_first, row.n_duplicates] == [3, 3 + one.n_duplicates]
            assert row.first_norm == pytest.approx(first, rel=1e-5)
    residual_0 = profile[profile.layer == 0].n_duplicates.iloc[0]
    assert (residual_0 > 3) == (site == "residual")  # embeddings of equal tokens are equal


def test_profile_per_prompt():
    model, names = tiny(), pd.Series(PROMPTS, index=pd.Index([7, 8, 9], name="line"))
    each = dimension_profile(model, names, per_prompt=True)
    assert each.groupby("prompt").layer.apply(list).to_dict() == {line: [0, 1, 2] for line in (7, 8, 9)}
    alone = dimension_profile(model, [PROMPTS[1]])
    same = each[each.prompt == 8].drop(columns="prompt").reset_index(drop=True)
    pd.testing.assert_frame_equal(same, alone)
    assert set(alone.n_duplicates) == {0}  # no other prompt to begin as


def test_profile_of_drawn_tokens():
    model = tiny()
    one, again, other = (dimension_profile(model, PROMPTS, n_points=40, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again)
    assert set(one.n_used) == {40}
    assert (one.value != other.value).all()
    whole, much = dimension_profile(model, PROMPTS), dimension_profile(model, PROMPTS, n_points=10_000)
    pd.testing.assert_frame_equal(whole, much)


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("gpt2", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}),
        ("gpt_neox", {}),
        ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
        ("mixtral", {"num_local_experts": 2}),
        ("gemma3_text", {}),
        ("phi", {}),
        ("mamba", None),
    ],
)
def test_profile_of_other_architectures(kind, extra):
    model = tiny(kind, **extra or {})
    if extra is None:
        with pytest.raises(ValueError, match=r"model is a MambaForCausalLM, whose 3 MLPs were not found"):
            dimension_profile(model, PROMPTS)
    else:
        assert dimension_profile(model, PROMPTS).layer.tolist() == [0, 1, 2]


@pytest.mark.parametrize("broken", [False, True])
def test_profile_leaves_the_model_as_it_was(broken):
    model = tiny().train()
    model.model.layers[0].eval()
    if broken:
        model.model.layers[1].post_attention_layernorm.weight.data.fill_(torch.nan)
        with pytest.raises(ValueError, match="dimension_profile: model gives NaN or infinite states in layer 1"):
            dimension_profile(model, PROMPTS)
    else:
        dimension_profile(model, PROMPTS)
    assert not any(module._forward_pre_hooks for module in model.modules())
    modes = [layer.training for layer in model.model.layers]
    assert (model.training, modes) == (True, [False, True, True])


@pytest.mark.whole
def test_profile_holds_one_layer():
    prompts = np.random.default_rng(0).integers(3, 64, (12, 200)).tolist()

    def peak(layers):
        model = tiny(num_hidden_layers=layers)
        tracemalloc.start()
        dimension_profile(model, prompts)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)  # imports
    states = 12 * 199 * TINY["hidden_size"] * 4
    assert peak(22) - peak(2) < 2 * states  # all would be 20 more


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": torch.nn.Linear(2, 2)}, TypeError, "model is a Linear, but a transformers model was expected"),
        ({"prompts": []}, ValueError, "prompts is empty"),
        ({"prompts": "text"}, TypeError, "prompts is 'text'"),
        ({"prompts": [[1, 2], [3, 64]]}, ValueError, "prompt 1 has ids 3 to 64, but 0 to 63 was expected"),
        ({"prompts": [[5], [6]]}, ValueError, "prompts have no token after the first"),
        ({"prompts": [[5, 6, 7]]}, ValueError, "layer 0: points has 2 rows .* at least 5 were expected for TwoNN"),
        (
            {"prompts": [list(range(30)), [5, 6]], "per_prompt": True},
            ValueError,
            "prompt 1, layer 0: points has 1 rows",
        ),
        ({"site": "head"}, ValueError, r"site is 'head', but 'mlp', 'residual' or both was expected"),
        ({"site": ()}, ValueError, r"site is \(\), but"),
        ({"site": 3}, ValueError, "site is 3, but 'mlp', 'residual' or both was expected"),
        ({"site": [["mlp"]]}, ValueError, r"site is \[\['mlp'\]\], but"),
        ({"site": {"mlp", "residual"}}, ValueError, "site is {.*}, but"),
        ({"n_points": 1}, ValueError, "n_points is 1, but at least 2 was expected"),
        ({"seed": 0.5}, TypeError, "seed is 0.5, but an integer was expected"),
        ({"estimator": "PCA"}, ValueError, "estimator is 'PCA', but one of"),
        ({"n_boot": 1}, ValueError, "n_boot is 1, but 0 or at least 2 was expected"),
    ],
)
def test_profile_refusals(arguments, error, message):
    with pytest.raises(error, match=f"^(dimension_profile|estimate_dimension): {message}") as raised:
        dimension_profile(**{"model": tiny(), "prompts": PROMPTS} | arguments)
    assert not re.search("\n", str(raised.value))


def test_sharing_is_of_those_that_take_neighbours():
    import inspect

    for name in set(_NEIGHBOURS) - {"TwoNN"}:
        takes = "precomputed_knn_arrays" in inspect.signature(getattr(skdim_id(), name).fit).parameters
        assert takes == (name in _SHARING or name == "MADA")  # MADA takes them and does not look at them


def shifted(rows, dtype):
    """Rows of some type, and the first 300 again, one unit in the last place away."""
    if dtype == "bfloat16":
        rows = torch.tensor(rows).bfloat16()
        return torch.cat([rows, (rows[:300].view(torch.int16) + 1).view(torch.bfloat16)]).float().numpy()
    rows = rows.astype(dtype)
    return np.vstack([rows, np.nextafter(rows[:300], np.array(np.inf, dtype))])


@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_what_rounding_has_moved_is_a_duplicate(dtype, offset):
    rng = np.random.default_rng(0)
    points = rng.random((1000, 5)) @ rng.standard_normal((5, 50)) + offset
    clean, names = estimate_dimension(points, ["TwoNN", "MLE", "GRIDE"]), ["TwoNN", "MLE", "GRIDE"]
    both = shifted(points, dtype)
    for rows in (both, both.astype(float), both[rng.permutation(1300)]):  # a wider type keeps what was lost
        found = estimate_dimension(rows, names)
        assert all(300 <= one.n_duplicates <= 303 for one in found.values())
        assert {n: e.value for n, e in found.items()} == pytest.approx({n: e.value for n, e in clean.items()}, rel=0.1)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_rounding_has_no_scale(scale):
    points = shifted(ball(500, 3, 20), "float32") * np.float32(scale)
    assert estimate_dimension(points, "MLE").n_duplicates == 300


def test_the_states_of_one_token_are_one_point():
    """What 200 times one token gives differs by rounding alone: there is no cloud to measure."""
    rng = np.random.default_rng(0)
    states = (rng.standard_normal(64) * (1 + 3e-7 * rng.standard_normal((200, 64)))).astype(np.float32)
    for name in QUICK:
        with pytest.raises(ValueError, match=r"points has 1 rows without 199 duplicates and 0 extreme ones, but "):
            estimate_dimension(states, name)


def test_few_digits_on_a_grid_are_no_rounding():
    """Whole numbers have as few digits as bfloat16, and lie as near: none of them is a duplicate."""
    points = np.random.default_rng(0).permutation(200)[:, None] * np.array([1, 0, 0]) + np.arange(200)[:, None] // 50
    for rows in (points, points.astype(np.float32), points / 8):
        assert estimate_dimension(rows, "lPCA").n_duplicates == 0


def naive_apart(rows, reach):
    kept = []
    for row in rows:
        if all(np.linalg.norm(row - other) > reach for other in kept):
            kept.append(row)
    return len(kept)


def test_joining_equals_a_loop_over_all_pairs():
    rng = np.random.default_rng(0)
    for dim in (1, 2, 30):
        spread = rng.standard_normal((120, dim))
        rows = np.vstack([spread, spread[:40] * (1 + 1e-7), spread[:20] * (1 - 2e-7)])[rng.permutation(180)]
        reach = 64 * 2.0**-23 * np.median(np.linalg.norm(rows, axis=1))
        assert len(distinct_rows(rows, np.full(180, reach))) == naive_apart(rows, reach) == 120
        assert len(distinct_rows(rows, _reach(rows, 2.0**-23))) == 120


def test_a_cloud_as_dense_as_rounding_keeps_its_distinct_rows():
    rng = np.random.default_rng(0)
    base = rng.random((600, 3)) @ rng.standard_normal((3, 30))
    column = np.hstack([base, 1e5 + rng.integers(0, 2, (600, 1)) * 1e-2])
    for points in ((base + 1e4).astype(np.float32), column.astype(np.float32)):
        with pytest.warns(UserWarning, match="^estimate_dimension: points are as close together as rounding may"):
            found = estimate_dimension(points)
        theirs = skdim_id().TwoNN().fit(points.astype(float) - points[0].astype(float)).dimension_
        assert (found.n_used, found.value) == (600, pytest.approx(theirs, rel=0.01))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        line = estimate_dimension(rng.random((20_000, 1)).astype(np.float32))
    assert line.value == pytest.approx(1, abs=0.03)
    assert line.n_used > 19_900
    for dtype in (np.float16, np.float32):
        points = rng.random((2000, 3)).astype(dtype)
        assert estimate_dimension(points).n_used == len(np.unique(points, axis=0))


@pytest.mark.parametrize("change", [lambda x: x * 3, lambda x: x - x.mean(axis=0), lambda x: (x + 5) / x.std(axis=0)])
@pytest.mark.parametrize("n_copies", [100, 600])
def test_arithmetic_does_not_hide_copies(change, n_copies):
    """Rounded in float32, and then taken to float64: 3 dimensions, and as many copies as were made."""
    rng = np.random.default_rng(0)
    rows = (rng.random((600, 3)) @ rng.standard_normal((3, 50))).astype(np.float32)
    both = np.vstack([rows, np.nextafter(rows[:n_copies], np.float32(9))]).astype(float)
    clean = estimate_dimension(change(both)[:600], ["TwoNN", "MLE"])
    for name, one in estimate_dimension(change(both), ["TwoNN", "MLE"]).items():
        assert (one.n_duplicates, one.value) == (n_copies, pytest.approx(clean[name].value, rel=1e-3))


def test_a_dense_part_is_no_set_of_copies():
    points = np.vstack([ball(300, 3), ball(200, 3, seed=1) * 1e-6])
    assert estimate_dimension(points).n_duplicates == 0


def turned(points, ambient):
    rng = np.random.default_rng(0)
    return points @ np.linalg.qr(rng.standard_normal((ambient, points.shape[1])))[0].T


LINE = np.linspace(0, 1, 500)[:, None]
PLANE = np.stack(np.meshgrid(np.arange(15.0), np.arange(15.0)), -1).reshape(-1, 2)
SPACE = np.stack(np.meshgrid(*[np.arange(7.0)] * 3), -1).reshape(-1, 3)
EVEN = {  # and the dimensions that they span
    "line": (LINE, 1),
    "line, turned": (turned(LINE, 10), 1),
    "line, turned, in 16 bits": (turned(LINE[::2], 10).astype(np.float16), 1),
    "plane": (PLANE, 2),
    "plane, turned": (turned(PLANE, 10), 2),
    "plane, turned, far away": (turned(PLANE, 10) + 1e3, 2),
    "plane, turned, in float32": (turned(PLANE, 10).astype(np.float32), 2),
    "plane, turned in float32, scaled in float64": (turned(PLANE, 10).astype(np.float32) * 3.0, 2),
    "space, turned": (turned(SPACE, 20), 3),
    "circle": (np.column_stack([np.cos(LINE[1:] * 2 * np.pi), np.sin(LINE[1:] * 2 * np.pi)]), 2),
    "one-hot": (np.eye(150), 149),
    "simplex, turned": (turned(np.eye(150), 200).astype(np.float32), 149),
    "cross": (np.vstack([np.eye(60), -np.eye(60)]), 60),
}


@pytest.mark.whole
@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize(("points", "rank"), EVEN.values(), ids=EVEN)
def test_no_value_is_above_what_even_points_span(points, rank, name):
    try:
        value = estimate_dimension(points, name).value
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert 0 < value <= rank * 1.001


@pytest.mark.parametrize("name", [name for name in QUICK if name not in ("lPCA", "FisherS")])
@pytest.mark.parametrize("kind", ["one-hot", "simplex, turned", "cross"])
def test_equal_distances_say_nothing(kind, name):
    """MiND_ML and DANCo said 1 of the corners of a simplex."""
    with pytest.raises(ValueError, match=f"^estimate_dimension: {name} fails on points: most have their neighbours "):
        estimate_dimension(EVEN[kind][0], name)
    assert estimate_dimension(EVEN[kind][0], "lPCA").value == EVEN[kind][1]


def test_evenly_spaced_points_are_refused_by_name():
    with pytest.raises(ValueError, match=r"TwoNN fails on points: most have their neighbours 1 and 2 at one distance"):
        estimate_dimension(EVEN["line, turned"][0])
    with pytest.raises(ValueError, match=r"MLE gives 1.187 for points with 1 coordinate, of rank 1, but no more"):
        estimate_dimension(EVEN["line"][0], "MLE")


@pytest.mark.parametrize(("dtype", "size"), [(torch.bfloat16, 3000), (torch.float16, 30_000)])
def test_a_column_of_large_numbers_hides_no_others(dtype, size):
    """As the massive activations of a model in 16 bits: their rounding is as large as all that the others are."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((500, 5)) @ rng.standard_normal((5, 60))
    points = np.column_stack([points, size + 40 * rng.standard_normal(500)])
    points = torch.tensor(points).to(dtype).float().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # steps of the column are as large as distances: it says so
        found = estimate_dimension(points, ["TwoNN", "MLE"])
    assert 3.5 < found["TwoNN"].value < 7.5
    assert 3.5 < found["MLE"].value < 7.5


def test_a_value_is_held_to_what_the_points_span():
    """A constant or a repeated column is no dimension more: what 2 coordinates cannot give, 10 of these cannot."""
    loose = PLANE + 0.2 * np.random.default_rng(0).random((225, 2))
    for points in (loose, np.hstack([loose] * 4 + [np.ones((225, 2))]), turned(loose, 10) + 100):
        with pytest.raises(
            ValueError, match=r"TwoNN gives .* coordinates, of rank 2, but no more than that was expected"
        ):
            estimate_dimension(points)


@pytest.mark.parametrize(
    "points",
    [
        np.random.default_rng(0).integers(0, 30, (300, 3)),
        np.random.default_rng(0).integers(0, 20, (300, 3)),
        np.random.default_rng(1).random((20, 2)).astype(np.float32),
        np.random.default_rng(2).standard_normal((20, 2)).astype(np.float16),
        np.vstack([POINTS, POINTS]),
    ],
    ids=["whole numbers", "fewer whole numbers", "float32", "float16", "twice"],
)
def test_some_ties_are_no_grid(points):
    dim = points.shape[1]
    for name, one in estimate_dimension(points, ["TwoNN", "GRIDE"], n_boot=5).items():
        assert one.value == pytest.approx(dim, rel=0.5), name


def test_gride_keeps_tied_neighbours():
    """Its likelihood for the first two neighbours in closed form: (n - 1) / the sum of log ratios, 0 where they tie."""
    points = np.random.default_rng(0).integers(0, 40, (200, 2))
    points = np.unique(points, axis=0).astype(float)
    first, second = _nearest(points, 2)[0].T
    ratios = np.log(second / first)
    assert (ratios == 0).sum() > 20
    q95, q50 = np.percentile(second / first, [95, 50])
    ratios = ratios[second / first < 20 * (q95 - q50) + q50]
    for same in (points, turned(points, 6)):  # turned, they tie up to rounding
        assert estimate_dimension(same, "GRIDE").value == pytest.approx((len(ratios) - 1) / ratios.sum(), rel=1e-4)


@pytest.mark.whole
@pytest.mark.parametrize("name", ["TwoNN", "GRIDE"])
def test_halves_of_small_clouds_are_not_held_to_the_span(name):
    """Of 20 points on a line a half gives up to several dimensions: the spread of all halves makes the interval."""
    for seed in range(30):
        points = np.random.default_rng(seed).random((20, 1))
        one = estimate_dimension(points, name, n_boot=30)
        assert one.interval[0] < one.value < one.interval[1]


def test_groups_are_warned_of():
    """Intervals are of a draw of points, and cannot know how much another draw of groups would move the estimate."""
    rng = np.random.default_rng(0)
    groups = np.repeat(rng.standard_normal((20, 10)), 30, axis=0) + 0.01 * rng.standard_normal((600, 10))
    for name in ("MLE", "TwoNN", "MADA"):
        with pytest.warns(
            UserWarning, match=r"^estimate_dimension: points fall into 20 groups without near neighbours"
        ):
            estimate_dimension(groups, name, n_boot=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate_dimension(groups)  # without an interval there is nothing to warn of
        for whole in (ball(600, 1), ball(600, 2), ball(600, 10), np.vstack([groups[:30], ball(600, 10)])):
            estimate_dimension(whole, n_boot=2)


@pytest.mark.parametrize("size", [2, 3, 5, 8, 10, 11])
def test_small_groups_are_warned_of(size):
    """The graph of 10 neighbours joins groups that have no 10 neighbours of their own."""
    rng = np.random.default_rng(0)
    for dim, number in ((10, 5), (10, 20), (3, 20)):
        groups = np.repeat(rng.standard_normal((number, dim)), size, axis=0)
        groups += 0.003 * rng.standard_normal(groups.shape)
        for name in ("TwoNN", "lPCA"):
            with pytest.warns(
                UserWarning, match=r"(most points are in groups of 11 at most, far|points fall into \d+ gr)"
            ):
                estimate_dimension(groups, name, n_boot=2)


def test_ordinary_clouds_are_not_warned_of():
    rng = np.random.default_rng(0)
    warned = 0
    for n in (12, 20, 60):
        for dim in (1, 2, 10):
            for _ in range(25):
                for points in (rng.random((n, dim)), rng.standard_normal((n, dim))):
                    with warnings.catch_warnings(record=True) as found:
                        warnings.simplefilter("always")
                        _warn_of_groups(_nearest(points, min(24, n - 1)))
                    warned += len(found)
    assert warned <= 4  # of 450


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_few_steps_of_16_bits_are_rounding(dtype, steps):
    """A forward pass in 16 bits moves states by more than one step; through float32 they keep their few digits."""
    rng = np.random.default_rng(0)
    rows = torch.tensor(rng.random((800, 8)) @ rng.standard_normal((8, 100))).to(dtype)
    moved = rows[:200].view(torch.int16) + torch.tensor(rng.integers(0, steps + 1, (200, 100)), dtype=torch.int16)
    both = torch.cat([rows, moved.view(dtype)])
    clean = estimate_dimension(rows.float(), ["TwoNN", "MLE"])
    for points in (both.float(), both.double().numpy(), *([both, both.numpy()] if dtype == torch.float16 else [])):
        for name, one in estimate_dimension(points, ["TwoNN", "MLE"]).items():
            assert one.n_duplicates == 200
            assert one.value == pytest.approx(clean[name].value, rel=0.02)


def test_integers_were_never_rounded():
    """Few digits, far apart in size: in float32 these would be taken for bfloat16."""
    rng = np.random.default_rng(0)
    rows = np.stack([np.full(120, 4096), np.full(120, 2048), *rng.permutation(120) * [[16], [1]]], axis=1)
    with pytest.warns(UserWarning, match="points are as close together as rounding may move them"):
        estimate_dimension(rows.astype(np.float32), "lPCA")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert estimate_dimension(rows.astype(np.int64), "lPCA").n_duplicates == 0


@pytest.mark.parametrize("size", [1, 1e5, 1e7, 1e30])
def test_a_constant_column_changes_nothing(size):
    """Rounding is relative to a row's norm: a large column would make copies of all rows, and of rank 1."""
    rng = np.random.default_rng(0)
    points = (rng.random((400, 3)) @ rng.standard_normal((3, 20))).astype(np.float32)
    wide = np.hstack([points, np.full((400, 2), size, np.float32)])
    before, after = estimate_dimension(points, QUICK), estimate_dimension(wide, QUICK)
    assert {n: e.value for n, e in after.items()} == pytest.approx({n: e.value for n, e in before.items()}, rel=1e-6)
    assert after["MLE"].n_duplicates == 0


@pytest.mark.parametrize("scale", [1e-3, 1e-5, 1e-8, 1e-11])
def test_a_part_on_another_scale_is_measured_too(scale):
    """Distances from products lose what is 1e-8 of the norm, and TLE leaves out what is nearer than 1e-4."""
    points = ball(250, 3, 30)
    both = np.vstack([points, scale * ball(250, 3, 30, seed=0)[::-1]])
    before = estimate_dimension(points, ["TwoNN", "MLE", "TLE"])
    for name, one in estimate_dimension(both, list(before)).items():
        assert (one.n_used, one.value) == (500, pytest.approx(before[name].value, rel=0.05))
    for name in ("GRIDE", "MiND_ML", "DANCo"):  # these search on their own
        if scale < 1e-6:
            with pytest.raises(ValueError, match=f"{name} fails on points: a tenth have neighbours nearer"):
                estimate_dimension(both, name)
        else:
            assert estimate_dimension(both, name).value == pytest.approx(3, rel=0.15)


def test_levels_next_to_1_have_a_quantile():
    low, high = estimate_dimension(ball(100, 2), n_boot=5, level=np.nextafter(1, 0)).interval
    assert 0 < low < high < np.inf


@pytest.mark.parametrize("name", ["DANCo", "PH"])
def test_seeds_of_32_bits_are_named(name):
    with pytest.raises(ValueError, match=r"^estimate_dimension: seed is 4294967296, but 0 to 4294967295 was expected$"):
        estimate_dimension(ball(100, 2), name, seed=2**32)
    with pytest.raises(ValueError, match=r"^dimension_profile: seed is 4294967296, but 0 to 4294967295 was expected$"):
        dimension_profile(tiny(), [[3, 4, 5]], name, seed=2**32)
    assert estimate_dimension(ball(100, 2), "TwoNN", n_boot=2, seed=2**32).value > 1


def test_sizes_too_long_to_print_are_named():
    with pytest.raises(ValueError, match=r"^estimate_dimension: points has 100 rows .*, but at least too long a value"):
        estimate_dimension(ball(100, 2), "MLE", n_neighbors=10**5000)
