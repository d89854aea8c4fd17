"""One table of rules: what is added to it is counted everywhere, and every threshold passes one check."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from eager import eager_maps
from tiny_folder import save_tiny

from geolib import cli, models
from geolib.dimension import (
    RULES,
    attention_dimension,
    attention_edges,
    attention_heads,
    dimension_profile,
    encode_prompts,
    eps_support,
    measure_prompts,
    minkowski_check,
    minkowski_dimension,
    mlp_reach,
    token_dimension,
)
from geolib.dimension.rules import check_eps, check_rule, column
from geolib.experiments.report import report
from geolib.partition import max_regions
from geolib.reasoning import Question, Sweep, build_prompt, id_change
from geolib.toy import train_grid

QUESTIONS = [Question(index=i, text=f"{i} pears, how many?", answer=i) for i in range(5)]
IDS = torch.tensor([[5, 80, 33, 90, 12, 33, 60, 61, 7, 100, 44, 9, 21, 30, 77]])
EPS = [0.5, 0.1, 0.01]


def mass(weights, eps):
    """Keep the smallest set of keys that holds 1 - eps of each row: no threshold per entry."""
    weights, order = weights.sort(-1, descending=True)
    before = weights.cumsum(-1) - weights
    kept = before < (1 - eps) * weights.sum(-1, keepdim=True)
    return torch.zeros_like(kept).scatter(-1, order, kept)


def naive_mass(row, eps):
    """Take the heaviest key that is left until enough is held; None where rounding may decide."""
    left, held, n = sorted(map(float, row)), 0.0, 0
    enough = (1 - eps) * sum(left)
    while held < enough:
        held += left.pop()
        n += 1
        if abs(held - enough) < 1e-6:
            return None
    return n


@pytest.fixture
def with_mass(monkeypatch):
    monkeypatch.setitem(RULES, "mass", mass)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


def agrees(counted, rows, eps):
    """Compare counts, shape=[...], with those of rows, shape=[..., keys], one by one."""
    expected = [naive_mass(row, eps) for row in rows.reshape(-1, rows.shape[-1])]
    pairs = [(n, m) for n, m in zip(np.ravel(counted), expected, strict=True) if m is not None]
    assert len(pairs) > 0.9 * len(expected)
    assert all(n == m for n, m in pairs)
    return True


@pytest.mark.usefixtures("with_mass")
@pytest.mark.parametrize("tokens", ["last", "all"])
@pytest.mark.parametrize("statistics", [False, True])
def test_a_rule_that_is_added_is_counted(tiny, tokens, statistics):
    found = attention_dimension(tiny[0], IDS, eps=EPS, rule="mass", tokens=tokens, statistics=statistics)
    maps = eager_maps(tiny[0], IDS)[..., slice(None) if tokens == "all" else slice(-1, None), :]
    for e, eps in enumerate(EPS):
        assert agrees(found.per_head[e], maps, eps)
    relative = attention_dimension(tiny[0], IDS, eps=EPS, rule="relative", tokens=tokens)
    assert (relative.per_head != found.per_head).any()
    if statistics:
        assert (found.mass_above > 1 - np.reshape(EPS, (-1, 1, 1, 1, 1)) - 1e-6).all()


@pytest.mark.usefixtures("with_mass")
def test_beside_the_others_it_changes_none_of_them(tiny):
    """The others are counted without a softmax when they are alone."""
    prompts = [IDS[0].tolist(), IDS[0, :6].tolist()]
    together = measure_prompts(tiny[0], prompts, rule=tuple(RULES), eps=EPS, tokens="all")
    for rule in ("absolute", "relative"):
        alone = measure_prompts(tiny[0], prompts, rule=rule, eps=EPS, tokens="all")
        pd.testing.assert_frame_equal(together[alone.columns], alone)
    whole = attention_dimension(tiny[0], IDS, eps=0.1, rule="mass", tokens="all").per_layer[0].mean(-1)
    np.testing.assert_allclose(together[column("mass", 0.1)][0], whole)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (lambda weights, eps: (weights > eps).numpy(), "ndarray of bool"),
        (lambda weights, eps: None, "NoneType"),
        (lambda weights, eps: (weights > eps).float(), "Tensor of torch.float"),
        (lambda weights, eps: (weights > eps).sum(-1), "Tensor of torch.int64"),
        (lambda weights, eps: (weights > eps)[..., :1], "Tensor of torch.bool, shape"),
    ],
)
@pytest.mark.parametrize("statistics", [False, True])
def test_a_rule_that_gives_no_mask_is_named(tiny, monkeypatch, wrong, found, statistics):
    monkeypatch.setitem(RULES, "odd", wrong)
    for ask in (
        lambda: attention_dimension(tiny[0], IDS, rule="odd", statistics=statistics),
        lambda: attention_dimension(tiny[0], IDS, rule="odd", tokens="all"),
        lambda: measure_prompts(tiny[0], IDS.tolist(), rule="odd", statistics=statistics),
        lambda: eps_support(np.full((1, 4, 2, 2), 0.5), 0.1, "odd"),
    ):
        with pytest.raises(ValueError, match=f"^RULES: 'odd' gives {found}.*, but torch.bool, shape"):
            ask()


@pytest.mark.usefixtures("with_mass")
def test_supports_follow_it(tiny):
    heads, maps = attention_heads(tiny[0], IDS, layer=1), eager_maps(tiny[0], IDS)[0, 1]
    assert agrees(eps_support(heads.weights, 0.1, "mass").sum(-1), maps, 0.1)
    assert agrees(minkowski_check(heads, eps=0.1, rule="mass").edges, maps, 0.1)
    assert token_dimension(heads, eps=0.1, rule="mass").paper_bound == eps_support(maps[:, -1], 0.1, "mass").sum()
    table = mlp_reach(tiny[0], IDS, layer=1).table(np.eye(32), eps=0.1, rule="mass")
    np.testing.assert_array_equal(table.id, eps_support(heads.weights, 0.1, "mass").sum((0, 2)))


@pytest.mark.usefixtures("with_mass")
def test_the_toy_counts_by_it():
    settings = {"heads": [1, 3], "contexts": [7], "seeds": [0], "d_model": 6, "bins": 9, "stride": 2, "n_steps": 3}
    grid = train_grid(**settings, eps=0.2)
    assert list(grid.edges) == ["absolute", "relative", "mass"]
    # At t = 0 attention is uniform over 7 tokens: 6 of them hold 0.8.
    assert grid.edges["mass"][:, 4].tolist() == [6, 18]
    np.testing.assert_array_equal(grid.table().id_mass, grid.edges["mass"].mean(axis=1))
    # A mass is held by some key.
    assert (grid.edges["mass"] >= np.array([[1], [3]])).all()


def sweep(tiny, **settings):
    defaults = {"questions": QUESTIONS[:2], "examples": QUESTIONS[3:], "shots": (0, 1), "max_new_tokens": 3}
    model, tokenizer = tiny
    return Sweep(model=model, tokenizer=tokenizer, progress=False, **(defaults | settings))


@pytest.mark.whole
def test_a_sweep_counts_by_it_and_its_store_knows(tiny, tmp_path, monkeypatch):
    before = sweep(tiny, eps=(0.1, 0.01), store=tmp_path).run()
    monkeypatch.setitem(RULES, "mass", mass)
    rows = sweep(tiny, eps=(0.1, 0.01), store=tmp_path).run()
    assert column("mass", 0.1) not in before
    for row in rows.itertuples():
        question = next(one for one in QUESTIONS if one.index == row.question)
        ids = torch.tensor([build_prompt(tiny[1], question.text, QUESTIONS[3 : 3 + row.shots])])
        for eps in (0.1, 0.01):
            counts = attention_dimension(tiny[0], ids, eps=[eps - 1e-5, eps, eps + 1e-5], rule="mass").per_layer
            low, _, high = sorted(counts[:, 0, :, 0].tolist())
            found = rows.loc[row.Index, column("mass", eps)]
            assert ((found >= low) & (found <= high)).all()
    assert "last-layer ID, mass" in report(rows, {"model": "tiny", "questions": "made"})
    assert "last-layer ID, mass" not in report(before, {"model": "tiny", "questions": "made"})  # rows without it
    assert len(id_change(rows, rule="mass")) == 2


@pytest.mark.usefixtures("with_mass")
def test_the_shell_counts_by_it(tiny, monkeypatch, capsys):
    monkeypatch.setattr(models, "load", lambda *_, **__: tiny)
    cli.main(["dimension", "--text", "Four pears.", "--rule", "mass", "--json"])
    shown = json.loads(capsys.readouterr().out)
    ids = tiny[1]("Four pears.", return_tensors="pt").input_ids
    assert shown["per_layer"] == {"0.1": attention_dimension(tiny[0], ids, rule="mass").per_layer[0, :, 0].tolist()}


@pytest.mark.whole
def test_the_shell_starts_with_it_and_names_it():
    code = "from geolib.dimension import RULES; RULES['half'] = lambda weights, eps: weights > eps / 2; "
    code += "from geolib.cli import main; main(['dimension', '--help'])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "half: a rule that was added" in " ".join(shown.split())


def test_half_a_character_is_no_text(tiny, monkeypatch, capsys):
    monkeypatch.setattr(models, "load", lambda *_, **__: tiny)
    with pytest.raises(SystemExit):
        cli.main(["dimension", "--text", "a\udcff"])
    assert capsys.readouterr().err == "geolib: dimension: text holds '\\udcff', but whole characters were expected\n"


BAD_EPS = (0, 1, 1.5, -0.1, True, np.True_, "0.1", None, float("nan"), [0.1, [0.2]], 1j, torch.tensor(0.1), b"0.1")
BAD_EPS += ({0.1, 0.5}, {0.1: "tenth"})  # in no order


@pytest.mark.parametrize("eps", BAD_EPS, ids=repr)
@pytest.mark.parametrize(
    "call",
    [
        lambda tiny, eps: attention_dimension(tiny[0], IDS, eps=eps),
        lambda tiny, eps: attention_edges(tiny[0], IDS, eps=eps),
        lambda tiny, eps: measure_prompts(tiny[0], [[3, 4]], eps=eps),
        lambda tiny, eps: minkowski_check(attention_heads(tiny[0], IDS, layer=0), eps=eps),
        lambda tiny, eps: eps_support([0.5, 0.5], eps or -1),  # 0 is allowed here
        lambda tiny, eps: sweep(tiny, eps=eps),
        lambda tiny, eps: train_grid(heads=[1], contexts=[2], seeds=[0], bins=5, stride=1, n_steps=0, eps=eps),
        lambda tiny, eps: id_change(pd.DataFrame({"question": [0], "shots": [0]}), eps=eps),
    ],
)
def test_every_threshold_is_checked(tiny, call, eps):
    with pytest.raises((ValueError, TypeError), match=r"^[\w.]+: eps is .*, but a number") as info:
        call(tiny, eps)
    assert "\n" not in str(info.value)


# Whatever is given would count as true: a text, say.
@pytest.mark.parametrize("given", ["no", 0, 1, None, [False], np.array([True])], ids=repr)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("attention_dimension: statistics", lambda tiny, given: attention_dimension(tiny[0], IDS, statistics=given)),
        ("encode_prompts: chat", lambda tiny, given: encode_prompts(tiny[1], ["a"], chat=given)),
        *(
            (
                f"measure_prompts: {name}",
                lambda tiny, given, name=name: measure_prompts(tiny[0], [[3]], **{name: given}),
            )
            for name in ("statistics", "per_head", "per_token")
        ),
        ("dimension_profile: per_prompt", lambda tiny, given: dimension_profile(tiny[0], [[3, 4]], per_prompt=given)),
        ("minkowski_dimension: sink", lambda _, given: minkowski_dimension([[[1]]], [[[1]]], [[True]], sink=given)),
        ("max_regions: central", lambda _, given: max_regions(3, 2, central=given)),
    ],
)
def test_a_flag_is_true_or_false(tiny, name, call, given):
    with pytest.raises(TypeError, match=rf"^{name} is .*, but True or False was expected$"):
        call(tiny, given)


def test_thresholds_that_share_a_column_or_are_none_at_all_are_refused(tiny):
    for eps in ((0.1, 0.1), (0.1, 0.1 + 1e-9), np.array([0.01, 0.0100000001])):
        for call in (lambda eps: sweep(tiny, eps=eps), lambda eps: measure_prompts(tiny[0], [[3, 4]], eps=eps)):
            with pytest.raises(
                ValueError, match=r": eps is .*, but thresholds that differ in six digits were expected$"
            ):
                call(eps)
    for eps in ((), [], np.array([])):
        with pytest.raises(ValueError, match=r"^Sweep: eps is empty, but at least one threshold was expected$"):
            sweep(tiny, eps=eps)
    assert check_eps("f", np.array([0.25, 0.5])) == (0.25, 0.5)
    assert check_eps("f", np.float64(0.25)) == (0.25,)
    assert check_eps("f", 0, zero=True) == (0.0,)
    with pytest.raises(TypeError, match=r"^f: eps is <list_iterator .*>, but a number between 0 and 1 was expected$"):
        check_eps("f", iter([0.25]))
    assert max_regions(3, 2, central=np.True_) == 6


def test_rules_that_are_not_there_are_refused(monkeypatch):
    assert check_rule("f", "absolute") == ("absolute",)
    assert check_rule("f", ["relative", "absolute"]) == ("relative", "absolute")
    for rule in (
        "soft",
        (),
        None,
        {"absolute"},
        dict(RULES),
        ["absolute", 3],
        [["absolute"]],
        ("absolute", "absolute"),
    ):
        with pytest.raises(
            ValueError, match=r"^f: rule is .*, but 'absolute' or 'relative'(, each once,)? was expected$"
        ):
            check_rule("f", rule)
    monkeypatch.setitem(RULES, "mass", mass)
    with pytest.raises(ValueError, match=r"^f: rule is 'soft', but 'absolute' or 'relative' or 'mass' was expected$"):
        check_rule("f", "soft")


@pytest.mark.parametrize(
    ("sharpness", "message"),
    [
        ({99: 2.0}, "Sweep: layer of sharpness is 99, but 0 to 2 was expected"),
        ({-1: 2.0}, "Sweep: layer of sharpness is -1, but 0 to 2 was expected"),
        ({True: 2.0}, "Sweep: layer of sharpness is True, but an integer was expected"),
        ({"0": 2.0}, "Sweep: layer of sharpness is '0', but an integer was expected"),
        ({0: True}, "Sweep: sharpness of layer 0 is True, but a number above 0 was expected"),
        ({0: float("inf")}, "Sweep: sharpness of layer 0 holds inf, but finite numbers were expected"),
        ([2.0], r"Sweep: sharpness is \[2.0\], but factors by layer"),
        (2.0, "Sweep: sharpness is 2.0, but factors by layer"),
    ],
)
def test_sharpness_is_of_layers_that_are_there(tiny, sharpness, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        sweep(tiny, sharpness=sharpness)


def test_sharpness_takes_numbers_of_numpy(tiny):
    plain, numpy = (
        sweep(tiny, sharpness={k: f}, shots=(0,)).run() for k, f in ((1, 2.0), (np.int64(1), np.float32(2)))
    )
    np.testing.assert_array_equal(np.stack(plain["id_absolute_0.1"]), np.stack(numpy["id_absolute_0.1"]))
