"""The video model: tokens, training that goes on, windows, ID against eager, rollouts without a cache, the shell."""

import hashlib
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from eager import eager_maps
from safetensors.torch import save_file

from geolib import cli, models, video
from geolib.dimension import (
    attention_dimension,
    attention_edges,
    attention_heads,
    gate_hyperplanes,
    gate_names,
    gate_regions,
    token_dimension,
)
from geolib.fingerprint import fingerprint
from geolib.physics import LAWS, RADIUS, SPEED, errors, worlds
from geolib.video import (
    SENTENCES,
    SHIPPED,
    Settings,
    between_frames,
    film,
    law_of,
    roll,
    save,
    settings_of,
    train,
)

TINY = {"n_steps": 6, "batch_size": 9, "frames": 6, "bins": 16, "n_layers": 2, "n_heads": 2, "width": 24}


def made(**changes):
    """A model without training, whose attention is far from uniform."""
    model = video._build(Settings(**TINY | changes)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight *= 12 if "q_proj.weight" in name or "k_proj.weight" in name else 1
    return model


def clips(settings, n=3, seed=0, law="falls"):
    return worlds(n, law=law, frames=settings.frames, seed=seed)


# --- sentences and tokens


def test_sentences():
    assert law_of("a ball falls") == law_of(" A disc drops. ") == "falls"
    assert law_of("two discs crash") == "collide"
    every = [text for kinds in SENTENCES.values() for texts in kinds.values() for text in texts]
    assert len(every) == len({*every}) + 2  # one sentence is neutral about three laws
    for law, kinds in SENTENCES.items():
        words = {word for text in kinds["trained"] for word in text.split()}
        assert {word for text in kinds["unseen"] for word in text.split()} <= words
        assert all(law_of(text) == law for kind in ("trained", "unseen") for text in kinds[kind])


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        ("a bird flies", "law_of: sentence holds 'bird', 'flies', but one of the words a, ball, balls"),
        ("a ball falls down", "law_of: sentence holds 'down', but one of"),
        ("a ball", "law_of: sentence is 'a ball', but a text of three words, such as 'a ball falls', was expected"),
        ("", "law_of: sentence is '', but a text of three words"),
        (7, "law_of: sentence is 7, but a text of three words"),
        ("a ball moves", r"law_of: sentence is 'a ball moves', but one that names a law \(a ball drifts, "),
        ("falls ball a", "law_of: sentence is 'falls ball a', but one that names a law"),
    ],
)
def test_law_of_says_which_words_it_does_not_know(sentence, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        law_of(sentence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("law", LAWS)
def test_tokens_are_read_back_to_half_a_bin(law):
    settings = Settings(bins=32)
    x = worlds(50, law=law, seed=0)
    ids = settings.encode(SENTENCES[law]["trained"][0], x)
    assert ids.shape == (50, 3 + 24 * 4)
    read = settings.decode(ids)
    assert read.shape == x.shape
    assert np.abs(read - x).max() <= 1 / 64
    np.testing.assert_array_equal(settings.round(read), read)
    np.testing.assert_array_equal(settings.encode(SENTENCES[law]["trained"][0], read), ids)


def test_the_error_of_rounding_is_that_of_a_uniform_distribution():
    x = np.random.default_rng(0).random((1, 50_000, 1, 2))
    off = Settings(bins=10).round(x) - x
    assert np.abs(off).max() <= 0.05
    assert np.sqrt((off**2).mean()) == pytest.approx(0.1 / np.sqrt(12), rel=0.01)
    # It adds 1 / (6 bins^2) to the energy of a ball, 24 / 12 of a bin's square to its squared displacement.
    gained = (np.diff(Settings(bins=10).round(x), axis=1) ** 2).sum(-1).mean() - (np.diff(x, axis=1) ** 2).sum(
        -1
    ).mean()
    independent = (np.diff(off, axis=1) ** 2).sum(-1).mean() / 2
    assert independent == pytest.approx(1 / (6 * 10**2), rel=0.02)
    assert abs(gained) < 0.01


def test_tokens_by_hand_and_by_the_tokenizer():
    settings = Settings(bins=4)
    ids = settings.encode(["a ball falls", "falls A ball."], [[[[0, 0.99]]], [[[1, 0.25]]]])
    names = {i: token for token, i in settings.ids.items()}
    texts = [" ".join(names[i] for i in row) for row in ids]
    assert texts == ["a ball falls x0 y3 none none", "falls a ball x3 y1 none none"]
    assert settings.tokenizer()(texts).input_ids == ids.tolist()
    one = Settings(bins=4, laws=("falls", "drifts"))
    assert one.balls == 1
    assert one.encode("a ball falls", [[[[0, 0.99]]]]).shape == (1, 5)


def test_a_mixed_batch_has_gaps():
    settings = Settings(bins=8)
    two = settings.encode("two balls collide", np.full((1, 2, 2, 2), 0.3))
    both = settings.decode(np.concatenate([two, settings.encode("a ball falls", np.full((1, 2, 1, 2), 0.3))]))
    assert both.shape == (2, 2, 2, 2)
    assert np.isnan(both).tolist() == [[[[False] * 2] * 2] * 2, [[[False] * 2, [True] * 2]] * 2]


@pytest.mark.parametrize(
    ("prompt", "positions", "message"),
    [
        ("a ball flies", np.full((1, 2, 1, 2), 0.5), "encode: prompt holds 'flies', but one of the words"),
        (["a ball falls"], np.full((2, 2, 1, 2), 0.5), "encode: prompt holds 1 sentences, but one for each of 2 clips"),
        (None, np.full((1, 2, 1, 2), 0.5), "encode: prompt is None, but a text of three words"),
        (
            "a ball falls",
            np.full((1, 2, 1, 2), 1.5),
            "encode: positions has a centre at 1.5, but inside the box, 0 to 1",
        ),
        (
            "a ball falls",
            np.full((2, 1, 2), 0.5),
            r"encode: positions have shape \(2, 1, 2\), but \[n, frames, balls <= 2",
        ),
        ("a ball falls", np.full((1, 2, 3, 2), 0.5), r"encode: positions have shape \(1, 2, 3, 2\)"),
        ("a ball falls", np.full((0, 2, 1, 2), 0.5), r"encode: positions have shape \(0, 2, 1, 2\)"),
        ("a ball falls", np.full((1, 2, 1, 2), np.nan), r"encode: positions holds nan at \(0, 0, 0, 0\)"),
    ],
)
def test_encode_says_what_is_wrong(prompt, positions, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        Settings().encode(prompt, positions)
    assert "\n" not in str(caught.value)


def test_decode_says_what_is_wrong():
    settings = Settings(bins=8)
    ids = settings.encode("a ball falls", np.full((1, 2, 1, 2), 0.5))
    with pytest.raises(ValueError, match=r"^decode: ids have shape \(1, 10\), int64, but \[n, 3 \+ frames \* 4\]"):
        settings.decode(ids[:, :-1])
    with pytest.raises(ValueError, match=r"^decode: ids have shape \(1, 11\), float64, but"):
        settings.decode(ids * 1.0)
    ids[0, 3], ids[0, 4] = ids[0, 4], ids[0, 3]  # y before x
    with pytest.raises(
        ValueError, match=r"^decode: ids hold \[\d+\] in the place of a coordinate, but one of its bins"
    ):
        settings.decode(ids)


# --- training


def test_the_same_seed_gives_the_same_weights_and_nothing_global_is_drawn():
    state = torch.get_rng_state()
    one, losses = train(Settings(**TINY))
    two, again = train(Settings(**TINY))
    other, _ = train(Settings(**TINY, seed=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert losses.tolist() == again.tolist()
    assert fingerprint(one) == fingerprint(two) != fingerprint(other)
    assert not one.training
    assert settings_of(one) == Settings(**TINY)
    assert hash(settings_of(one)) == hash(Settings(**TINY))


@pytest.mark.parametrize("stop", [1, 4, 5])
def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path, monkeypatch, stop):
    whole, losses = train(Settings(**TINY))
    batch, path = video._batch, tmp_path / "state"

    def interrupted(settings, step):
        if step == stop:
            raise KeyboardInterrupt
        return batch(settings, step)

    with monkeypatch.context() as patch:
        patch.setattr(video, "_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(Settings(**TINY), checkpoint=path, every=2)
    assert path.exists() == (stop >= 2)
    steps = []
    monkeypatch.setattr(video, "_batch", lambda settings, step: steps.append(step) or batch(settings, step))
    resumed, rest = train(Settings(**TINY), checkpoint=path, every=2)
    assert steps == list(range(stop // 2 * 2, 6))
    assert rest.tolist() == losses.tolist()
    for one, two in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)
    finished, rest = train(Settings(**TINY), checkpoint=path)  # nothing is left to do
    assert (fingerprint(finished), rest.tolist()) == (fingerprint(whole), losses.tolist())
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_a_checkpoint_of_other_settings_or_format_is_refused(tmp_path):
    path = tmp_path / "state"
    train(Settings(**TINY), checkpoint=path)
    for change, message in (
        ({"seed": 3}, "has seed 0, but 3, or a new file, was expected"),
        ({"window": 2}, "has window None, but 2, or a new file, was expected"),
        ({"n_steps": 9}, "has n_steps 6, but 9, or a new file, was expected"),
    ):
        with pytest.raises(ValueError, match=f"^train: checkpoint '.*state' {message}$"):
            train(Settings(**TINY | change), checkpoint=path)
    cut = tmp_path / "cut"
    cut.write_bytes(path.read_bytes()[:-100])
    other = tmp_path / "other"
    save_file({"a": torch.zeros(2)}, other)
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x04}q\x00.")
    for name, message in (
        ("cut", "cannot be read, but one of train was expected"),
        ("other", "has format None, but 'geolib video 1' was expected"),
        ("pickle.pt", "cannot be read, but one of train was expected"),
        (".", "cannot be read"),
    ):
        with pytest.raises(ValueError, match=f"^train: checkpoint '.*' {message}") as caught:
            train(Settings(**TINY), checkpoint=tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^train: checkpoint '.*state' has no folder, but one was expected$"):
        train(Settings(**TINY), checkpoint=tmp_path / "no" / "state")


def test_words_the_first_frame_and_absent_balls_do_not_enter_the_loss():
    settings = Settings(**TINY)
    ids, labels = video._batch(settings, 0)
    assert ids.shape == labels.shape == (9, 3 + 6 * 4)
    counted = labels != -100
    assert not counted[:, :7].any()
    assert (labels[counted] == ids[counted]).all()
    assert (counted[:, 7:] == (ids[:, 7:] != settings.ids["none"])).all()
    assert sorted(counted.sum(1).tolist()) == [10] * 7 + [20] * 2
    # All laws take their turns.
    kinds = [video._batch(Settings(**TINY | {"batch_size": 1}), step)[0][0, 2].item() for step in range(8)]
    assert len({*kinds}) >= 3


def test_a_loss_that_is_not_finite_ends_the_training(monkeypatch):
    build = video._build

    def broken(settings):
        model = build(settings)
        model.get_input_embeddings().weight.data[:] = np.nan
        return model

    monkeypatch.setattr(video, "_build", broken)
    with pytest.raises(
        ValueError, match=r"^train: the loss is nan at step 0 with learning_rate 0\.003, but a finite one"
    ):
        train(Settings(**TINY))


@pytest.mark.whole
def test_the_loss_falls():
    losses = train(Settings(**TINY | {"n_steps": 80, "batch_size": 24, "laws": ("drifts",), "learning_rate": 1e-2}))[1]
    assert losses[:3].mean() > 2.5
    assert losses[-10:].mean() < 0.6 * losses[:3].mean()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"window": 25}, ValueError, "Settings: window is 25 frames, but at most 24, those of a clip, was expected"),
        ({"window": 0}, ValueError, "Settings: window is 0, but at least 1 was expected"),
        ({"window": 2.5}, TypeError, "Settings: window is 2.5, but an integer was expected"),
        ({"seed": -1}, ValueError, "Settings: seed is -1, but at least 0 was expected"),
        ({"n_steps": 0}, ValueError, "Settings: n_steps is 0, but at least 1 was expected"),
        ({"frames": 1}, ValueError, "Settings: frames is 1, but at least 2 was expected"),
        ({"bins": True}, TypeError, "Settings: bins is True, but an integer was expected"),
        ({"width": 90}, ValueError, r"Settings: width is 90, but a multiple of 2 \* n_heads = 12 was expected"),
        ({"laws": ()}, ValueError, r"Settings: laws is \(\), but a sequence of some of drifts, bounces"),
        ({"laws": "falls"}, ValueError, "Settings: laws is 'falls', but a sequence of some of"),
        ({"laws": ["falls", 3]}, ValueError, r"Settings: laws is \['falls', 3\], but a sequence of some of"),
        ({"laws": 3}, ValueError, "Settings: laws is 3, but a sequence of some of"),
        ({"speed": [0.02]}, ValueError, r"Settings: speed is \[0.02\], but 0 <= low <= high"),
        ({"speed": (0.01, np.nan)}, ValueError, r"Settings: speed holds nan at \(1,\)"),
        ({"learning_rate": 0}, ValueError, "Settings: learning_rate is 0, but a number above 0 was expected"),
        ({"learning_rate": "fast"}, TypeError, "Settings: learning_rate is 'fast', but a number above 0 was expected"),
    ],
)
def test_settings_say_what_is_wrong(change, error, message):
    with pytest.raises(error, match=f"^{message}") as caught:
        Settings(**change)
    assert "\n" not in str(caught.value)


def test_train_takes_settings_alone():
    with pytest.raises(ValueError, match=r"^train: settings is \{'seed': 0\}, but an object of Settings was expected$"):
        train({"seed": 0})


def test_a_speed_that_leaves_the_box_is_refused_before_the_first_step():
    with pytest.raises(
        ValueError, match=r"^worlds: speed goes up to 0\.3, at which a disc leaves the box, but at most 0\.18"
    ):
        train(Settings(**TINY, speed=(0.1, 0.3)))


# --- windows, and ID against eager


WINDOWS = [1, 2, 4, 8, 16, None]


def in_frames(window):
    """A model and clips of 24 frames, four tokens each."""
    model = made(frames=24, window=window)
    settings = settings_of(model)
    x = clips(settings, 2, law="collide")
    return model, torch.from_numpy(settings.encode(["two balls collide", "collide balls two"], x))


@pytest.mark.parametrize("window", WINDOWS)
def test_each_token_sees_its_window_in_both_kernels(window):
    model, ids = in_frames(window)
    maps, length = eager_maps(model, ids), ids.shape[1]
    back = np.arange(length)[:, None] - np.arange(length)
    seen = (back >= 0) & (back < (4 * window if window else length))
    assert ((maps > 0).all((0, 1, 2)).numpy() == seen).all()
    np.testing.assert_allclose(maps.sum(-1), 1, rtol=1e-5)
    with torch.no_grad():
        fused = model(ids).logits
        model.set_attn_implementation("eager")
        np.testing.assert_allclose(model(ids).logits, fused, atol=1e-4)


@pytest.mark.parametrize("window", WINDOWS)
def test_id_is_that_of_the_eager_maps_and_bounded_by_the_window(window):
    model, ids = in_frames(window)
    maps, eps = eager_maps(model, ids), (0.2, 0.1, 0.01, 1e-30)
    most = np.minimum(np.arange(ids.shape[1]) + 1, 4 * window if window else ids.shape[1])
    for rule in ("absolute", "relative"):
        counted = attention_dimension(model, ids, eps=eps, rule=rule, tokens="all")
        for threshold, per_head in zip(eps, counted.per_head, strict=True):
            largest = maps.amax(-1, keepdim=True) if rule == "relative" else 1
            near = ((maps / (threshold * largest) - 1).abs() < 1e-4).sum(-1)
            assert ((maps > threshold * largest).sum(-1) - torch.from_numpy(per_head)).abs().le(near).all()
        assert (counted.visible == most).all()
        assert (counted.per_layer <= 2 * most).all()
        assert (counted.per_layer[-1] == 2 * most).all()  # at eps = 0: heads times the window


@pytest.mark.parametrize("window", [1, 3])
def test_layers_reach_one_window_further_back_each(window):
    model, ids = in_frames(window)
    reach = 2 * (4 * window - 1)  # of two layers
    with torch.no_grad():
        before = model(ids).logits[:, -1]
        for back, same in ((reach, False), (reach + 1, True)):
            other = ids.clone()
            other[:, -1 - back] = 0
            assert torch.equal(model(other).logits[:, -1], before) == same


@pytest.mark.parametrize("window", WINDOWS)
def test_the_dimension_without_a_threshold_is_bounded_by_the_window_too(window):
    model, ids = in_frames(window)
    seen = min(ids.shape[1], 4 * window if window else ids.shape[1])
    for layer in range(2):
        last = token_dimension(attention_heads(model, ids[:1], layer=layer))  # eps = 0, as in the theorem
        assert last.paper_bound == 2 * seen
        assert (last.per_head <= min(seen - 1, 12)).all()  # of heads of 12 coordinates
        assert last.rank <= last.bound <= 2 * (seen - 1)
    assert last.per_head.tolist() == [min(seen - 1, 12)] * 2  # no two tokens are the same after a layer


def test_gates_are_those_of_a_relu_mlp():
    model, ids = in_frames(2)
    assert gate_names(model) == ["model.layers.0.mlp.c_fc", "model.layers.1.mlp.c_fc"]
    assert isinstance(model.model.layers[0].mlp.act, torch.nn.ReLU)
    normals, offsets = gate_hyperplanes(model, layer=0)
    given = []
    with (
        model.model.layers[0].mlp.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0])),
        torch.no_grad(),
    ):
        model(ids[:1])
    active = given[0][0].numpy() @ normals.T + offsets > 0
    counted = gate_regions(model, ids[:1], layer=0)
    assert counted.between_tokens[0].tolist() == (1 + (active[1:] != active[:-1]).sum(1)).tolist()


# --- rollouts


def naive(model, prompt, start, frames):
    """Read the whole clip anew for each token."""
    settings = settings_of(model)
    ids = torch.from_numpy(settings.encode(prompt, start))
    first = {axis: settings.ids[f"{axis}0"] for axis in "xy"}
    for _ in range(frames - start.shape[1]):
        for ball in range(settings.balls):
            for axis in "xy":
                if ball < start.shape[2]:
                    with torch.no_grad():
                        logits = model(ids, use_cache=False).logits[:, -1]
                    token = first[axis] + logits[:, first[axis] : first[axis] + settings.bins].argmax(-1)
                else:
                    token = torch.full((len(ids),), settings.ids["none"])
                ids = torch.cat([ids, token[:, None]], dim=1)
    return settings.decode(ids)


@pytest.mark.parametrize("window", [1, 2, 4, 8, None])
@pytest.mark.parametrize("law", ["falls", "collide"])
def test_a_rollout_is_that_without_a_cache(window, law):
    model = made(frames=12, window=window)
    start = clips(settings_of(model), 5, law=law)[:, :3]
    prompts = [*SENTENCES[law]["trained"], *SENTENCES[law]["unseen"], *SENTENCES[law]["neutral"]]
    rolled = roll(model, prompts, start, 12)
    assert rolled.shape == (5, 12, LAWS[law], 2)
    np.testing.assert_array_equal(rolled, naive(model, prompts, start, 12))
    np.testing.assert_array_equal(rolled[:, :3], settings_of(model).round(start))
    assert len(np.unique(rolled[:, 3:])) > 3
    np.testing.assert_array_equal(rolled[:2], roll(model, prompts[:2], start[:2], 12))
    np.testing.assert_array_equal(rolled[:, :5], roll(model, prompts, start, 5))


def test_roll_says_what_is_wrong():
    model = made()
    start = clips(settings_of(model))[:, :3]
    for change, message in (
        ({"frames": 7}, "roll: frames is 7, but 3 to 6 was expected"),
        ({"frames": 2}, "roll: frames is 2, but 3 to 6 was expected"),
        ({"start": start[0]}, r"encode: positions have shape \(3, 1, 2\), but"),
        ({"prompt": "a cow jumps"}, "encode: prompt holds 'cow', 'jumps', but one of the words"),
        ({"model": torch.nn.Linear(2, 2)}, "settings_of: model is a Linear, but a model of geolib.video.train"),
    ):
        with pytest.raises(ValueError, match=f"^{message}") as caught:
            roll(**{"model": model, "prompt": "a ball falls", "start": start, "frames": 6} | change)
        assert "\n" not in str(caught.value)
    model.lm_head.weight.data[:] = np.nan
    with pytest.raises(
        ValueError, match=r"^roll: model gives NaN or infinite logits, but one of finite logits was expected$"
    ):
        roll(model, "a ball falls", start, 6)


# --- a folder, a film and the shell


def test_a_saved_model_is_loaded_as_any_other(tmp_path):
    model, _ = train(Settings(**TINY, window=2))
    save(model, tmp_path / "model")
    loaded, tokenizer = models.load(tmp_path / "model", device="cpu")
    assert settings_of(loaded) == Settings(**TINY, window=2)
    assert loaded.config.sliding_window == 8
    ids = tokenizer("a ball falls x3 y4 none none", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)
    with pytest.raises(ValueError, match=r"^save: folder '.*' exists, but a new one was expected$"):
        save(model, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


class Circles(HTMLParser):
    """What a film draws, and whether it loads anything."""

    def __init__(self, page):
        super().__init__()
        self.loads, self.values, self.kinds = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag == "circle":
            self.kinds.append(given["class"])
        if tag == "animate":
            self.values.append([float(value) for value in given["values"].split(";")])


def test_a_film_shows_both_clips_and_loads_nothing():
    true = worlds(1, law="collide", seed=0)[0]
    predicted = Settings().round(true[None])[0]
    page = film(predicted, true, prompt='two <b> "discs"', seen=4)
    drawn = Circles(page)
    assert drawn.loads == []
    assert not re.search(r"https?://|url\(|@import", page)
    assert drawn.kinds == ["predicted", "predicted", "true", "true"]
    xy = np.stack([drawn.values[::2], drawn.values[1::2]], axis=-1).reshape(2, 2, 24, 2)
    shown = np.stack([predicted, true]).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(xy[..., 0] / 400, shown[..., 0], atol=2e-4)
    np.testing.assert_allclose(1 - xy[..., 1] / 400, shown[..., 1], atol=2e-4)
    assert f'r="{400 * RADIUS}"' in page
    assert "two &lt;b&gt; &#34;discs&#34;" in page
    assert "<b>" not in page
    assert "first 4 frames" in " ".join(page.split())


def test_edges_are_those_between_balls_of_frames():
    settings = Settings(**TINY)
    model = video._build(settings).eval()
    per_frame = 2 * settings.balls
    ids = settings.encode("two balls collide", clips(settings, 1, law="collide"))
    edges = attention_edges(model, ids, eps=0.01)
    naive = {}
    for query, key in zip(edges["query"], edges["key"], strict=True):
        if key >= 3 and (query - 3) // per_frame > (key - 3) // per_frame:
            (f, a), (g, b) = (divmod(place - 3, per_frame) for place in (query, key))
            naive[f, a // 2, g, b // 2] = naive.get((f, a // 2, g, b // 2), 0) + 1
    table = between_frames(model, edges)
    assert table.columns.tolist() == ["frame", "ball", "to_frame", "to_ball", "n"]
    assert {tuple(row[:4]): row[4] for row in table.to_numpy().tolist()} == naive
    assert len(between_frames(model, edges[:0])) == 0


def test_a_film_draws_the_edges_of_the_balls_that_are_there():
    path = np.linspace([0.1, 0.2], [0.9, 0.6], 5)[:, None]
    edges = pd.DataFrame([[4, 0, 1, 0, 7], [4, 1, 1, 0, 3]], columns=["frame", "ball", "to_frame", "to_ball", "n"])
    page = film(path, path, prompt="a ball drifts", seen=2, edges=edges)
    assert re.findall("<line [^>]*>", page) == ['<line x1="360.0" y1="160.0" x2="120.0" y2="280.0" stroke-width="7"/>']
    assert 'keyTimes="0;0.875;1"' in page
    assert "attention" in page
    assert "<line" not in film(path, path, prompt="a ball drifts", seen=2)


@pytest.mark.whole
def test_the_shipped_model_is_the_one_that_its_manifest_describes():
    about = json.loads((SHIPPED / "manifest.json").read_text())
    weights = (SHIPPED / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == about["sha256"]
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 2e6
    model, tokenizer = models.load(SHIPPED, device="cpu")
    settings = settings_of(model)
    assert settings == Settings(n_steps=2000)
    assert about["settings"] == json.loads(json.dumps(asdict(settings)))
    assert tokenizer.convert_tokens_to_ids("x5") == settings.ids["x5"]
    true = worlds(20, law="falls", seed=5)
    off = errors(roll(model, "a ball falls", true[:, :4], 24), true, law="falls").position.mean()
    still = np.concatenate([true[:, :4], np.repeat(true[:, 3:4], 20, axis=1)], axis=1)
    assert off < errors(still, true, law="falls").position.mean() / 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"true": np.zeros((5, 1, 2))},
            r"film: predicted has shape \(6, 1, 2\) and true \(5, 1, 2\), but \[frames, balls",
        ),
        ({"predicted": np.full((6, 1, 2), np.nan)}, r"film: predicted holds nan at \(0, 0, 0\)"),
        ({"seen": 7}, "film: seen is 7, but 0 to 6 was expected"),
    ],
)
def test_film_says_what_is_wrong(change, message):
    given = {"predicted": np.zeros((6, 1, 2)), "true": np.zeros((6, 1, 2)), "prompt": "a ball falls", "seen": 2}
    with pytest.raises(ValueError, match=f"^{message}"):
        film(**given | change)


def shell(capsys, *words):
    """Exit status, standard output and standard error of `geolib video`."""
    try:
        cli.main(["video", *map(str, words)])
        status = 0
    except SystemExit as stop:
        status = stop.code
    return status, *capsys.readouterr()


SIZES = {"steps": 6, "batch-size": 9, "frames": 6, "bins": 16, "layers": 2, "heads": 2, "width": 24}
OPTIONS = [word for name, value in SIZES.items() for word in (f"--{name}", value)]


def test_the_shell_trains_goes_on_and_rolls(capsys, tmp_path, monkeypatch):
    folder, batch = tmp_path / "small", video._batch

    def interrupted(settings, step):
        if step == 4:
            raise KeyboardInterrupt
        return batch(settings, step)

    with monkeypatch.context() as patch:
        patch.setattr(video, "_batch", interrupted)
        patch.setattr(video.train, "__kwdefaults__", video.train.__kwdefaults__ | {"every": 2})
        status, _, err = shell(capsys, "--train", folder, *OPTIONS)
        assert (status, err.strip()) == (130, "geolib: interrupted")
    assert [path.name for path in tmp_path.iterdir()] == ["small.training"]
    status, out, err = shell(capsys, "--train", folder, *OPTIONS, "--json")
    report = json.loads(out)
    assert (status, err, report["out"], report["steps"]) == (0, "", str(folder), 6)
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    whole, losses = train(Settings(**TINY))
    assert report["loss"] == losses.mean()
    for one, two in zip(models.load(folder, device="cpu")[0].parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, two)

    status, out, err = shell(
        capsys, "--roll", "a ball falls", "--model", folder, "--out", tmp_path / "a.html", "--json"
    )
    report = json.loads(out)
    assert (status, err, report["law"], len(report["position_error"])) == (0, "", "falls", 2)
    page = (tmp_path / "a.html").read_text()
    true = worlds(1, law="falls", frames=6, seed=0)
    predicted = roll(whole, "a ball falls", true[:, :4], 6)
    found = attention_edges(whole, Settings(**TINY).encode("a ball falls", predicted), layer=-1)
    drawn = {"prompt": "a ball falls", "seen": 4, "edges": between_frames(whole, found)}
    assert page == film(predicted[0], true[0], **drawn)
    other = shell(capsys, "--roll", "a ball falls", "--model", folder, "--out", tmp_path / "b.html", "--seed", 1)
    assert other[0] == 0
    assert (tmp_path / "b.html").read_text() != page


def test_the_shells_defaults_are_those_of_settings():
    options = {option.name: option.default for option in cli.group.commands["video"].params}
    for name, value in vars(Settings()).items():
        if name != "window":
            assert np.array_equal(options[name], np.ravel(value) if name == "speed" else value), name
    assert options["speed"] == SPEED


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "give either --train, --roll or --grid"),
        (["--train", "a", "--roll", "a ball falls"], 2, "give either --train, --roll or --grid"),
        (["--roll", "a ball falls", "--model", "SMALL", "--window", 2], 2, "--window is for --train alone"),
        (["--roll", "a ball falls", "--model", "SMALL", "--steps", 2], 2, "--steps is for --train alone"),
        (["--train", "new", "--shown", 2], 2, "--shown is for --roll alone"),
        (["--train", "SMALL"], 1, "a new folder in one that exists was expected"),
        (["--train", "no/such/folder"], 1, "a new folder in one that exists was expected"),
        (
            ["--train", "NEW", "--window", 30],
            1,
            "geolib: Settings: window is 30 frames, but at most 24, those of a clip,",
        ),
        (["--train", "NEW", "--laws", "flies"], 1, "geolib: Settings: laws is ('flies',), but a sequence of some of"),
        (
            ["--train", "NEW", "--speed", 0.1, 0.5],
            1,
            "geolib: worlds: speed goes up to 0.5, at which a disc leaves the box",
        ),
        (
            ["--roll", "a bird flies", "--model", "SMALL"],
            1,
            "geolib: law_of: sentence holds 'bird', 'flies', but one of",
        ),
        (["--roll", "two balls collide", "--model", "SMALL"], 1, "but a law of the model, falls, was expected"),
        (["--roll", "a ball falls", "--model", "SMALL", "--shown", 5], 1, "geolib: video: shown is 5, but 1 to 4 was"),
        (["--roll", "a ball falls", "--model", "SMALL", "--out", "no/film.html"], 1, "geolib: "),
        (
            ["--roll", "a ball falls", "--model", "SMALL", "--speed", 0.5, 2],
            1,
            "geolib: worlds: speed goes up to 2, at",
        ),
        (["--roll", "a ball falls", "--model", "OTHER"], 1, "settings_of: model is a LlamaForCausalLM, but a model of"),
        (["--roll", "a ball falls", "--model", "EMPTY"], 1, "geolib: load: name is"),
    ],
)
def test_the_shell_says_what_is_wrong_in_one_line(capsys, tmp_path_factory, folders, words, status, message):
    here = {name: folders / name for name in ("SMALL", "OTHER", "EMPTY", "NEW")}
    found, out, err = shell(capsys, *(here.get(word, word) for word in words))
    assert (found, out) == (status, "")
    assert message in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == (1 if status == 1 else 4)
    assert not (folders / "NEW").exists()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of a video model that knows one law, of another model, and of nothing."""
    from tiny_folder import save_tiny

    root = tmp_path_factory.mktemp("video")
    save(video._build(Settings(**TINY, laws=["falls"])).eval(), root / "SMALL")
    save_tiny(root / "OTHER")
    (root / "EMPTY").mkdir()
    return root
