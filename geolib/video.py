"""A small video language model: balls in a box, a sentence that names their law, tokens, training, rollouts, errors.

A clip is a sentence and the positions of one or two discs in each frame. It is written as tokens: three words, and then
for each frame the bins of x and y of each ball. A causal transformer of transformers' own classes is trained to predict
the next token, so that it continues the first frames of a clip; `geolib.dimension` measures it as any other model.

Lengths are in sides of the box, which is [0, 1] x [0, 1] with y upwards; times are in frames; masses are 1.
"""

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from tqdm.auto import tqdm

from geolib.checks import above_zero, expect, finite_array, integer, one_line
from geolib.files import write_bytes
from geolib.models import quiet
from geolib.physics import LAWS, RADIUS, SPEED, expect_inside, speed_bands, worlds
from geolib.typing import Model, Tokenizer

_FORMAT = "geolib video 1"
#: Folder of the model that is shipped, for `geolib.models.load`: seed 0, all frames, 2,000 steps.
SHIPPED = Path(__file__).parent / "assets" / "video"


def _sentences(law, verbs):
    nouns = ("a ball", "a disc") if LAWS[law] == 1 else ("two balls", "two discs")
    *trained, unseen = (f"{noun} {verb}" for noun in nouns for verb in verbs.split())
    return {"trained": trained, "unseen": [unseen], "neutral": [f"{nouns[0]} move{'s' * (LAWS[law] == 1)}"]}


_VERBS = "drifts glides", "bounces rebounds", "falls drops", "collide crash"
#: Sentences of three words, by law and kind: "trained"; "unseen", whose words are in training, but never together; and
#: "neutral", which do not name the law, and are one in ten in training.
SENTENCES = {law: _sentences(law, verbs) for law, verbs in zip(LAWS, _VERBS, strict=True)}
_NAMED = {text: law for law, kinds in SENTENCES.items() for text in (*kinds["trained"], *kinds["unseen"])}
_WORDS = sorted({word for kinds in SENTENCES.values() for texts in kinds.values() for word in " ".join(texts).split()})


# --- sentences


def law_of(sentence: str) -> str:
    """Return the law that a sentence names; a ValueError says which words or sentences are known."""
    text = " ".join(_known("law_of: sentence", sentence))
    expect(text in _NAMED, f"law_of: sentence is {text!r}", f"one that names a law ({', '.join(_NAMED)})")
    return _NAMED[text]


def _known(name, sentence):
    """Return the three words of a sentence, in any order; `name` prefixes the message about others."""
    words = sentence.lower().strip(" .").split() if isinstance(sentence, str) else []
    unknown = [word for word in words if word not in _WORDS]
    expect(not unknown, f"{name} holds {', '.join(map(repr, unknown))}", f"one of the words {', '.join(_WORDS)}")
    expect(len(words) == 3, f"{name} is {sentence!r}", "a text of three words, such as 'a ball falls',")
    return words


# --- the model


@dataclass(frozen=True)
class Settings:
    """Clips as tokens, and all that determines a model that `train` makes: bit for bit, on one machine.

    A clip is three words and then 2 * `balls` tokens for each frame: x and y of each ball, as bins x0, x1, ... and y0,
    y1, ..., or "none" for a ball that is not there.

    Attributes
    ----------
    window : int or None
        Number of frames that a token attends to, its own place included; None for all before it, and the words. The
        words are seen only while they are that near. Each layer reaches one window further back, so that a token
        depends on n_layers * (2 * balls * window - 1) + 1 tokens. The window is part of the model, also in rollouts.
    seed : int
        Of weights and clips.
    n_steps, batch_size : int
        Steps of the optimiser, and clips in each.
    frames : int
        Number of frames in a clip.
    bins : int
        Number of bins on each side of the box. A centre is read as the middle of its bin: off by 1 / (2 bins) at most,
        and by 1 / (sqrt(12) bins) in root mean square where it is uniform within the bin.
    n_layers, n_heads, width : int
        Of the transformer: `width` coordinates in all heads, 4 * `width` neurons in each MLP.
    laws, speed
        Of the clips: see `worlds`. If all laws have one ball, so have the frames.
    learning_rate : float
        The highest one.

    Raises
    ------
    TypeError, ValueError
        If a setting is not as described, or the window is longer than the clip.
    """

    window: int | None = None
    seed: int = 0
    n_steps: int = 1500
    batch_size: int = 64
    frames: int = 24
    bins: int = 128
    n_layers: int = 3
    n_heads: int = 6
    width: int = 96
    laws: Iterable[str] = tuple(LAWS)
    speed: ArrayLike = SPEED
    learning_rate: float = 3e-3

    def __post_init__(self):
        for name, low in zip(list(vars(self))[:9], (1, 0, 1, 1, 2, 2, 1, 1, 1), strict=True):
            if name != "window" or self.window is not None:
                vars(self)[name] = integer(f"Settings: {name}", getattr(self, name), low)
        found, laws = f"Settings: window is {self.window} frames", tuple(self.laws) if np.iterable(self.laws) else ()
        expect((self.window or 1) <= self.frames, found, f"at most {self.frames}, those of a clip,")
        even = self.width % (2 * self.n_heads) == 0
        expect(even, f"Settings: width is {self.width}", f"a multiple of 2 * n_heads = {2 * self.n_heads}")
        known = laws and all(str(law) in LAWS for law in laws)
        expect(known, f"Settings: laws is {self.laws!r}", f"a sequence of some of {', '.join(LAWS)}")
        bands, rate = speed_bands("Settings", self.speed), above_zero("Settings: learning_rate", self.learning_rate)
        vars(self).update(laws=laws, speed=tuple(map(tuple, bands.tolist())), learning_rate=float(rate))

    @property
    def balls(self) -> int:
        """Number of balls in the tokens of a frame."""
        return max(LAWS[law] for law in self.laws)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Number of each token: words, then "none", then the bins of x, then those of y."""
        tokens = [*_WORDS, "none", *(f"{axis}{i}" for axis in "xy" for i in range(self.bins))]
        return {token: i for i, token in enumerate(tokens)}

    def encode(self, prompt: str | Sequence[str], positions: ArrayLike) -> np.ndarray:
        """Write clips as tokens.

        Parameters
        ----------
        prompt : str, or sequence of n str
            Three known words, in any order.
        positions : array-like, shape=[n, frames, balls, 2]
            From 0 to 1.

        Returns
        -------
        int array, shape=[n, 3 + frames * 2 * balls]

        Raises
        ------
        TypeError, ValueError
            If a word is unknown, a shape does not fit, or a position is not in the box.
        """
        x = finite_array("encode: positions", positions)
        fits = x.ndim == 4 and x.shape[3] == 2 and 0 < x.shape[2] <= self.balls and x.size
        expect(fits, f"encode: positions have shape {x.shape}", f"[n, frames, balls <= {self.balls}, 2]")
        expect_inside("encode: positions", x)
        texts = [*prompt] if np.iterable(prompt) and not isinstance(prompt, str) else [prompt] * len(x)
        expect(len(texts) == len(x), f"encode: prompt holds {len(texts)} sentences", f"one for each of {len(x)} clips")
        frames = np.full((*x.shape[:2], self.balls, 2), self.ids["none"])
        bins = (x * self.bins).clip(0, self.bins - 1).astype(int)
        frames[:, :, : x.shape[2]] = np.add(bins, [self.ids["x0"], self.ids["y0"]])
        words = [[self.ids[word] for word in _known("encode: prompt", text)] for text in texts]
        return np.concatenate([words, frames.reshape(len(x), -1)], axis=1)

    def decode(self, ids: ArrayLike) -> np.ndarray:
        """Read the positions of clips: middles of bins, without balls that are "none" in all clips, NaN in some.

        Parameters
        ----------
        ids : array-like, shape=[n, 3 + frames * 2 * balls], int

        Returns
        -------
        array, shape=[n, frames, balls, 2]

        Raises
        ------
        ValueError
            If a token is not a bin of the coordinate in whose place it stands.
        """
        ids = np.asarray(ids)
        fits = (
            ids.ndim == 2 and ids.dtype.kind in "iu" and ids.shape[1] > 3 and not (ids.shape[1] - 3) % (2 * self.balls)
        )
        expect(
            fits, f"decode: ids have shape {ids.shape}, {ids.dtype}", f"[n, 3 + frames * {2 * self.balls}], integers,"
        )
        frames = ids[:, 3:].reshape(len(ids), -1, self.balls, 2)
        bins, none = frames - [self.ids["x0"], self.ids["y0"]], frames == self.ids["none"]
        wrong = frames[~none & ((bins < 0) | (bins >= self.bins))]
        expect(not wrong.size, f"decode: ids hold {wrong[:1]} in the place of a coordinate", "one of its bins")
        return np.where(none, np.nan, (bins + 0.5) / self.bins)[:, :, ~none.all((0, 1, 3))]

    def round(self, positions: ArrayLike) -> np.ndarray:
        """Return positions, shape=[n, frames, balls, 2], as `decode` reads them after `encode`."""
        return self.decode(self.encode("a ball moves", positions))

    def tokenizer(self) -> Tokenizer:
        """Make a tokenizer of transformers; the tokens of a text stand between spaces."""
        import tokenizers
        from transformers import PreTrainedTokenizerFast

        backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(self.ids, unk_token="none"))  # noqa: S106
        backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(tokenizer_object=backend)


def train(
    settings: Settings, *, checkpoint: str | Path | None = None, every: int = 100, progress: bool = False
) -> tuple[Model, np.ndarray]:
    """Train a causal transformer, on the CPU, to predict the next token of clips; every batch has new clips.

    The model is transformers' Starcoder 2 with ReLU. The optimiser is AdamW; its learning rate rises over the first
    twentieth of the steps and falls to 0 along a cosine. The words, the first frame and the tokens "none" are read, but
    do not enter the loss. Torch's global generator is left as it was.

    Parameters
    ----------
    settings : Settings
    checkpoint : path, optional
        File to which the state is written, whole, every `every` steps; if it exists, training continues from it, and
        ends with the weights of a run that was not interrupted.
    every : int
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    model : transformers.Starcoder2ForCausalLM
        In evaluation mode. Its configuration has the settings, as `video`.
    losses : array, shape=[n_steps]
        Cross-entropy of the batch before each step, in nats per coordinate.

    Raises
    ------
    TypeError, ValueError
        If the speed takes a disc out of the box, the checkpoint is of other settings or another format, or damaged,
        or the loss is not finite.
    """
    expect(isinstance(settings, Settings), f"train: settings is {one_line(settings)}", "an object of Settings")
    n, every, model = settings.n_steps, integer("train: every", every, 1), _build(settings)
    expect(Path(checkpoint or ".").parent.is_dir(), f"train: checkpoint '{checkpoint}' has no folder", "one")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0, betas=(0.9, 0.99))
    losses = _resume(Path(checkpoint), model, optimizer) if checkpoint and Path(checkpoint).exists() else []
    for step in tqdm(range(len(losses), n), "train", n, initial=len(losses), disable=not progress):
        rate = settings.learning_rate * min(1, 20 * (step + 1) / n) * (1 + np.cos(np.pi * step / n)) / 2
        optimizer.param_groups[0]["lr"] = rate
        ids, labels = _batch(settings, step)
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        losses.append(loss.item())
        found = f"train: the loss is {losses[-1]} at step {step} with learning_rate {settings.learning_rate}"
        expect(np.isfinite(losses[-1]), found, "a finite one")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if checkpoint and ((step + 1) % every == 0 or step + 1 == n):
            state = {f"{i}.{k}": v for i, kept in optimizer.state_dict()["state"].items() for k, v in kept.items()}
            state |= dict(model.named_parameters()) | {"losses": torch.tensor(losses, dtype=torch.float64)}
            about = {"format": _FORMAT, "settings": json.dumps(model.config.video)}
            write_bytes(to_bytes(state, about), checkpoint)
    return model.eval(), np.array(losses)


def _build(settings):
    """Make the model with its first weights: those of neighbouring bins are alike, waves of random length and phase."""
    from transformers import Starcoder2Config, Starcoder2ForCausalLM

    width, heads, per_frame = settings.width, settings.n_heads, 2 * settings.balls
    shape = {"vocab_size": len(settings.ids), "hidden_size": width, "intermediate_size": 4 * width}
    shape |= {"num_hidden_layers": settings.n_layers, "num_attention_heads": heads, "num_key_value_heads": heads}
    shape |= {"max_position_embeddings": 3 + settings.frames * per_frame, "hidden_act": "relu"}
    shape |= {"sliding_window": settings.window and settings.window * per_frame}
    config = Starcoder2Config(**shape, bos_token_id=None, eos_token_id=None)
    config.video = json.loads(json.dumps(asdict(settings)))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(settings.seed)
        model = Starcoder2ForCausalLM(config)
        for first in (settings.ids["x0"], settings.ids["y0"]):
            length, phase = torch.rand(2, width)
            waves = torch.linspace(0, np.pi, settings.bins)[:, None] * 32**length + 2 * np.pi * phase
            model.get_input_embeddings().weight[first : first + settings.bins] += 0.05 * torch.cos(waves)
    return model


def _batch(settings, step):
    """Draw the clips of a step: token ids, and labels in which -100 marks what does not enter the loss."""
    rng, parts, laws = np.random.default_rng([settings.seed, step]), [], settings.laws
    for i, law in enumerate(laws):
        if n := len(range((i + step) % len(laws), settings.batch_size, len(laws))):
            clips = worlds(n, law=law, frames=settings.frames, speed=settings.speed, seed=rng)
            kinds = np.where(rng.random(n) < 0.1, "neutral", "trained")
            parts.append(settings.encode([str(rng.choice(SENTENCES[law][kind])) for kind in kinds], clips))
    ids = torch.from_numpy(np.concatenate(parts))
    labels = ids.masked_fill(ids == settings.ids["none"], -100)
    labels[:, : 3 + 2 * settings.balls] = -100
    return ids, labels


def _resume(path, model, optimizer):
    """Read a checkpoint into the model and the optimiser; return its losses."""
    try:
        with safe_open(path, "pt") as file:
            about, state = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"train: checkpoint '{path}' cannot be read, but one of train was expected ({error})"
        ) from None
    expect((found := about.get("format")) == _FORMAT, f"train: checkpoint '{path}' has format {found!r}", repr(_FORMAT))
    for name, value in json.loads(about["settings"]).items():
        wanted = model.config.video[name]
        expect(value == wanted, f"train: checkpoint '{path}' has {name} {value}", f"{wanted}, or a new file,")
    model.load_state_dict(state, strict=False)
    names, places = ("step", "exp_avg", "exp_avg_sq"), range(len(list(model.parameters())))
    moments = {i: {name: state[f"{i}.{name}"] for name in names} for i in places}
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    return state["losses"].tolist()


def settings_of(model: Any) -> Settings:
    """Return the settings of a model that `train` made, also after `save` and loading; a ValueError for any other."""
    about: Any = getattr(getattr(model, "config", None), "video", None)
    expect(isinstance(about, dict), f"settings_of: model is a {type(model).__name__}", "a model of geolib.video.train")
    return Settings(**about)


def save(model: Any, folder: str | Path) -> None:
    """Write the model and its tokenizer to a new folder, which `geolib.models.load` takes; never a part of it."""
    expect(not (folder := Path(folder)).exists(), f"save: folder '{folder}' exists", "a new one")
    with quiet(), tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        parts: list[Any] = [model, settings_of(model).tokenizer()]
        for part in parts:
            part.save_pretrained(Path(temporary) / "model")
        (Path(temporary) / "model").replace(folder)


# --- rollouts and their errors


def roll(model: Any, prompt: str | Sequence[str], start: ArrayLike, frames: int) -> np.ndarray:
    """Continue clips greedily, a token at a time, with a cache of keys and values.

    Of each coordinate the likeliest bin is taken; which coordinate comes next, and how many balls there are, is given.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        From `train`, or from a folder of `save`.
    prompt : str, or sequence of n str
        Three known words, in any order.
    start : array-like, shape=[n, seen, balls, 2]
        The first frames.
    frames : int
        Number of frames in all, at most that of the clips of training.

    Returns
    -------
    array, shape=[n, frames, balls, 2]
        Middles of bins; the first frames are those of `start`.

    Raises
    ------
    TypeError, ValueError
        As `Settings.encode`; or if `frames` is not between those seen and those of training.
    """
    settings, cache, read = settings_of(model), None, 0
    ids = torch.from_numpy(settings.encode(prompt, start))
    n, seen, balls, _ = np.shape(start)
    frames, none = integer("roll: frames", frames, seen, settings.frames), settings.ids["none"]
    for place in range((frames - seen) * 2 * settings.balls):
        token, slot = torch.full((n, 1), none), place % (2 * settings.balls)
        if slot < 2 * balls:
            with torch.no_grad():
                unread = ids[:, read:].to(model.device)
                done = model(input_ids=unread, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, read, first = done.past_key_values, ids.shape[1], settings.ids[f"{'xy'[slot % 2]}0"]
            expect(done.logits.isfinite().all(), "roll: model gives NaN or infinite logits", "one of finite logits")
            token = first + done.logits[:, -1, first : first + settings.bins].argmax(-1, keepdim=True).cpu()
        ids = torch.cat([ids, token], dim=1)
    return settings.decode(ids)


def between_frames(model: Any, edges: pd.DataFrame) -> pd.DataFrame:
    """Gather the edges of attention by the balls and frames whose coordinates they join.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        From `train`, or from a folder of `save`.
    edges : pandas.DataFrame
        Of one clip, as `geolib.dimension.attention_edges` lists them: ``query`` and ``key`` are numbers of tokens.

    Returns
    -------
    pandas.DataFrame
        ``frame``, ``ball`` (which attends), ``to_frame``, ``to_ball``, and ``n``, the number of edges over the heads,
        layers and coordinates listed. Edges to words and within a frame are left out.
    """
    balls = settings_of(model).balls
    places = edges[["query", "key"]].to_numpy() - 3
    frames, slots = np.divmod(places[places.min(1, initial=0) >= 0], 2 * balls)
    table = {"frame": frames[:, 0], "ball": slots[:, 0] // 2, "to_frame": frames[:, 1], "to_ball": slots[:, 1] // 2}
    return pd.DataFrame(table).query("to_frame < frame").value_counts().sort_index().rename("n").reset_index()


def film(
    predicted: ArrayLike,
    true: ArrayLike,
    *,
    prompt: str,
    seen: int,
    edges: pd.DataFrame | None = None,
) -> str:
    """Draw one clip and its prediction as a page that plays without a network.

    Parameters
    ----------
    predicted, true : array-like, shape=[frames, balls, 2]
    prompt : str
        The sentence, which becomes the title.
    seen : int
        Number of first frames that the model was shown.
    edges : pandas.DataFrame, optional
        Edges of attention, as `between_frames` returns them: each frame shows those of its balls.

    Returns
    -------
    str
        HTML with an animated SVG. It does not move by itself for readers who ask for that.

    Raises
    ------
    TypeError, ValueError
        If shapes differ, or a number is not finite.
    """
    p, q = finite_array("film: predicted", predicted), finite_array("film: true", true)
    fits = p.ndim == 3 and p.shape == q.shape and p.shape[2] == 2 and p.size
    expect(fits, f"film: predicted has shape {p.shape} and true {q.shape}", "[frames, balls, 2] for both")
    seen, both = integer("film: seen", seen, 0, len(p)), {"true": q, "predicted": p}
    # In a drawing y grows downwards.
    drawn = {kind: (400 * (x * [1, -1] + [0, 1])).round(1) for kind, x in both.items()}
    clips, lines = {kind: x.transpose(1, 2, 0).tolist() for kind, x in drawn.items()}, {}
    for frame, ball, to_frame, to_ball, n in () if edges is None else edges.to_numpy().tolist():
        if max(ball, to_ball) < p.shape[1]:  # no other is drawn
            ends = [*drawn["predicted"][frame, ball].tolist(), *drawn["predicted"][to_frame, to_ball].tolist()]
            lines.setdefault(frame, []).append([*ends, n])
    pages = jinja2.Environment(loader=jinja2.PackageLoader("geolib", "."), autoescape=True)
    about = {"clips": clips, "prompt": prompt, "seen": seen, "radius": 400 * RADIUS, "edges": lines}
    return pages.get_template("video.html").render(about)
