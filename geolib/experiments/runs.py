"""The runs of Part III: which questions are asked under which conditions, and how the runs are published.

Each run is a list of sweeps over questions that the paper's protocol selects: 300 that the model answers wrong without
examples, or 150 that it answers correctly. All sweeps share one store, so that no answer is computed twice.
"""

import contextlib
import datetime
import hashlib
import inspect
import json
import os
import platform
import subprocess  # nosec B404 - git alone
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geolib import __version__
from geolib.checks import integer
from geolib.experiments import choosing, fresh, gate, names
from geolib.files import write_text
from geolib.fingerprint import fingerprint
from geolib.reasoning.decode import Change
from geolib.reasoning.prompts import Condition
from geolib.reasoning.protocol import example_sets, split, worked_examples
from geolib.reasoning.published import CONTROLS, GROUPS, HINT, LEAD, NEAREST, TEMPERATURE, load_run, sharpened
from geolib.reasoning.questions import Question, question_facts
from geolib.reasoning.reading import frozen_judge, judge
from geolib.reasoning.sweep import Sweep
from geolib.store import write_parquet
from geolib.typing import Model, Tokenizer

N_WRONG, N_RIGHT, N_SETS = 300, 150, 4
FACTORS = (0.5, 0.8, 1.25, 2.0)
_PRIVATE = ("response", "expected", "signs")  # texts, and what only `gates_changed` is made from
_HEADS = ("entropy", "renyi2")  # of each head; where heads are not published, their mean is
_PER_NAT = 64  # entropies are published in steps of 1/64 nat: finer ones would double the files
# Number of examples that are chosen, and number of questions with whose prompts they are chosen.
N_SHOWN, N_EXPLORED = 3, 16


@dataclass(frozen=True, kw_only=True)
class Part:
    """Part of a run: which questions are asked, under which conditions, and how the model answers.

    Attributes
    ----------
    asked : str or sequence of Question
        Which questions: "all"; "wrong", "half of wrong" or "right", by their answers without examples; "explored", with
        which examples are chosen; "held out", other ones, not selected by their answers; or these questions.
    conditions : sequence of Condition
    paired : bool
        Whether each question has a condition of its own, as for :class:`Sweep`.
    max_new_tokens : int, optional
        If it differs from that of the other parts.
    temperature, seed
        As for :class:`Sweep`.
    layers : str
        Which layers' attention is sharpened: one of :data:`GROUPS`, or "none".
    sharpness : float
        Factor of the attention scores of those layers.
    arm : str
        Name of a change of another kind, or of the questions; a column of its own, if any part of the run has one.
    change : Change, optional
        As for :class:`Sweep`.
    rounding : float
        Noise on the weights, in steps of their rounding: :func:`geolib.experiments.gate.roughened`.
    """

    asked: str | Sequence[Question]
    conditions: Sequence[Condition]
    paired: bool = False
    max_new_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0
    layers: str = "none"
    sharpness: float = 1.0
    arm: str = ""
    change: Change | None = None
    rounding: float = 0.0

    @property
    def labels(self) -> dict:
        """Columns that distinguish the rows of the part, in addition to those of the conditions."""
        factors = () if self.change else ("layers", "sharpness")  # what a change does, its arm says
        labels = {name: getattr(self, name) for name in ("temperature", "seed", *factors)}
        return labels | ({"arm": self.arm} if self.arm else {})


class Runs:
    """The runs of one model over one list of questions.

    Parameters
    ----------
    model, tokenizer
        As :func:`geolib.models.load` returns them.
    questions : sequence of Question
        GSM8K-Zero, or similar questions; split by :func:`geolib.reasoning.split`.
    train : sequence of Question
        Questions with worked steps; only ``"chain"`` needs them.
    store : path, optional
        Folder of finished batches, shared by all runs.
    n_asked : int, optional
        Number of questions of the evaluation set that are asked, drawn by a fixed seed; by default all questions,
        including those outside that set.
    n_wrong, n_right : int
        Number of questions that are selected; ``"choosing"`` asks ``n_right`` questions, whatever their answers.
    gates : sequence of str
        Names of the MLPs' gate modules: the number of gates whose sign differs from the 0-shot prompt is recorded.
    **settings
        Arguments of every :class:`Sweep`.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        questions: Sequence[Question],
        *,
        train: Sequence[Question] = (),
        store: str | os.PathLike | None = None,
        n_asked: int | None = None,
        n_wrong: int = N_WRONG,
        n_right: int = N_RIGHT,
        gates: Sequence[str] = (),
        **settings: Any,
    ):
        self.model, self.tokenizer, self.train, self.gates = model, tokenizer, train, tuple(gates)
        self.questions, self.split = list(questions), split(questions)
        self.n_asked = n_asked if n_asked is None else integer("Runs: n_asked", n_asked, 1)
        self.n_wrong, self.n_right = integer("Runs: n_wrong", n_wrong, 1), integer("Runs: n_right", n_right, 1)
        self._kept = {name: settings[name] for name in ("max_new_tokens", "eps") if name in settings}
        self._sweep = partial(Sweep, model=model, tokenizer=tokenizer, store=store, watched=self.gates, **settings)
        self._bare_cache = self._explored_cache = None

    def run(self, name: str) -> pd.DataFrame:
        """Answer one run's prompts, or read them from the store.

        Parameters
        ----------
        name : str
            One of :data:`geolib.experiments.names.NAMES`.

        Returns
        -------
        pandas.DataFrame
            As :meth:`Sweep.run` returns it, with :attr:`Part.labels`, and ``gates_changed`` (array, shape=[layers]) if
            gates are recorded. The 0-shot rows of the questions are always included.

        Raises
        ------
        ValueError
            ``name`` is unknown, or there are too few questions.
        """
        if name == "margins":
            names.check_run(name, self.questions, self.split)
            return self._margins()
        parts = self.parts(name)
        unwatched = {"watched": ()} if name in names.ROUND_TWO else {}  # no test of round two is about gates
        frames = [self._ask(part, self._asked(part.asked), **unwatched) for part in parts]
        rows = pd.concat(frames, ignore_index=True)
        for name in ("skipped", "failed"):
            rows.attrs[name] = [one for frame in frames for one in frame.attrs[name]]
        return self._with_gates(rows)

    def settings_of(self, name: str) -> dict:
        """Return the settings of a run, as its manifest names them."""
        if name not in names.ROUND_TWO:
            return {of: getattr(self, of) for of in ("n_asked", "n_wrong", "n_right")} | self._kept
        drawn = {"seed": fresh.SEED, "n_prompts": fresh.N_PROMPTS, "factor": fresh.FACTOR}
        return drawn | ({"noise": gate.NOISE} if name == "arms" else {}) | self._kept

    def again(self, name: str, row: pd.Series) -> pd.Series:
        """Compute one published row again, only from its labels and without the store.

        Raises
        ------
        ValueError
            The run has no row with these labels.
        """
        for part in self.parts(name):
            for condition in part.conditions:
                labels = {"condition": condition.name, "example_set": condition.example_set, "shots": condition.shots}
                if all(row[key] == value for key, value in (labels | part.labels).items()):
                    question = next(question for question in self.questions if question.index == row["question"])
                    alone = replace(part, asked="one", conditions=[condition])
                    return self._ask(alone, [question], store=None, progress=False).iloc[0]
        raise ValueError(f"again: row has labels that run {name!r} lacks, but a row of that run was expected")

    def parts(self, name: str) -> list[Part]:
        """List the parts of a run."""
        names.check_run(name, self.questions, self.split)
        return getattr(self, f"_{name.replace('-', '_')}")()

    @property
    def hashes(self) -> dict:
        """Hashes of the questions and of the model, as in manifests."""
        return hashes(self.model, self.questions)

    def _bare(self):
        return [Part(asked="all", conditions=[Condition()])]

    def _shots(self):
        return [Part(asked="wrong", conditions=[Condition(), *self._examples(range(1))])]

    def _other_sets(self):
        return [Part(asked="wrong", conditions=[Condition(), *self._examples(range(1, N_SETS))])]

    def _ablations(self):
        return [Part(asked="wrong", conditions=[Condition(), *self._controls((1, 3, 5, 10))])]

    def _repeats(self):
        """Ask the same wrong questions again: reworded, and with answers drawn at random."""
        drawn = [Part(asked="wrong", conditions=[Condition()], temperature=TEMPERATURE, seed=s) for s in (1, 2, 3)]
        return [Part(asked="wrong", conditions=[Condition(), Condition(lead=LEAD)]), *drawn]

    def _right(self):
        """Ask questions that were answered correctly without examples: their share can only fall."""
        few = [*self._examples(range(1), (1, 3, 5, 10)), *self._controls((5,))]
        drawn = Part(asked="right", conditions=[Condition()], temperature=TEMPERATURE, seed=1)
        return [Part(asked="right", conditions=[Condition(), Condition(lead=LEAD), *few]), drawn]

    def _chain(self):
        """Compare worked examples with the same examples without their steps."""
        drawn = worked_examples(self.train, self.questions)
        worked = [Condition(examples=drawn[:k], worked=True) for k in (1, 3, 5, 8)]
        plain = [Condition(examples=condition.examples, example_set=N_SETS) for condition in worked]
        return [Part(asked="wrong", conditions=[Condition(), Condition(hint=HINT), *worked, *plain])]

    def _many(self):
        pool = [*self.split.pool, *self.split.exploration_examples]
        many = [Condition(examples=pool[:k], example_set=N_SETS + 1) for k in (16, 32, 64) if k <= len(pool)]
        return [Part(asked="half of wrong", conditions=[Condition(), *many])]

    def _intervention(self):
        """Keep the prompt with five examples fixed, and scale the attention scores of some layers."""
        five = self._examples(range(1), (5,))
        scaled = [Part(asked="wrong", conditions=five, layers=g, sharpness=f) for g in GROUPS for f in FACTORS]
        return [Part(asked="wrong", conditions=[Condition(), *five]), *scaled]

    def _choosing(self):
        """Show three examples of the pool, chosen by several rules, none of which uses an answer."""
        pool, held_out = self.split.pool, self._asked("held out")
        # One token is decoded, and no answer: the rise of ID is measured in the prompt.
        explored = [
            Part(asked="explored", conditions=[Condition()]),
            Part(asked="explored", conditions=choosing.alone(pool), max_new_tokens=1),
        ]

        def shown(places, number):
            return Condition(examples=[pool[place] for place in places], example_set=number)

        sets = choosing.choices(self._explored_rows(explored), choosing.lengths(self.tokenizer, pool), N_SHOWN)
        for_all = [shown(places, number) for number, places in sets.items()]
        nearest = zip(held_out, choosing.nearest(pool, held_out, N_SHOWN), strict=True)
        own = [shown(places, NEAREST + question.index) for question, places in nearest]
        return [
            *explored,
            Part(asked="held out", conditions=[Condition(), *for_all]),
            Part(asked="held out", conditions=own, paired=True),
        ]

    def _explored_rows(self, parts):
        """Rows with which examples are chosen: the published ones, if they are of this model and these questions."""
        if (rows := self._published("choosing")) is not None:
            return rows
        if self._explored_cache is None:
            asked = [self._ask(part, self._asked(part.asked)) for part in parts]
            self._explored_cache = pd.concat(asked, ignore_index=True)
        return self._explored_cache

    def _sharper(self):
        """Ask fresh questions behind five examples, with attention as it is and sharper; ID also without examples."""
        every = fresh.fresh(self.questions)
        bare = Part(asked=every, conditions=[Condition()], max_new_tokens=1)
        return [bare, self._fresh(every, 5), self._fresh(fresh.fresh(self.questions, second=True), 5, 1.25)]

    # The runs behind the gate. The rows of "sharper" with the factors 1 and 1.25 and five examples belong to them too.

    def _dose(self):
        some = self._first(1000)
        return [self._fresh(some, 5, factor) for factor in (0.9, 1.1, 1.4, 1.6)]

    def _length(self):
        some = self._first(500)
        return [self._fresh(some, k, factor) for k in (0, 1, 10, 32) for factor in (1.0, fresh.FACTOR)]

    def _second(self):
        """Ask the first questions as "sharper" does: for a second model."""
        some = self._first(1000)
        return [self._fresh(some, 5, factor) for factor in (1.0, fresh.FACTOR)]

    def _arms(self):
        config = self.model.config.get_text_config()
        changes = gate.arms(config.num_hidden_layers, config.num_attention_heads)
        asked = self._first(500)
        return [replace(self._fresh(asked, 5), arm=arm, change=change) for arm, change in changes.items()]

    def _rounding(self):
        some = self._first(500)
        plain = [self._fresh(some, 5, factor) for factor in (1.0, fresh.FACTOR)]
        return [replace(part, rounding=steps, arm=f"{steps:g} steps") for steps in (0.5, 1, 2) for part in plain]

    def _within(self):
        """Ask wrong questions behind other numbers of examples than "sharper", so that each is compared with itself."""
        answered = self._bare_answers()
        some = [question for question in fresh.fresh(self.questions) if not answered[question.index]][:300]
        return [self._fresh(some, k) for k in (1, 3, 10)]

    def _first(self, n):
        return fresh.fresh(self.questions, second=True)[:n]

    def _margins(self):
        depth, frames, asked = self.model.config.get_text_config().num_hidden_layers, [], self._first(500)
        own = fresh.prompts(self.questions, asked, 5)
        for factor in (1.0, fresh.FACTOR):
            scaled = {} if factor == 1 else sharpened(depth, factor)
            rows = fresh.margins(self.model, self.tokenizer, asked, own, sharpness=scaled)
            frames.append(rows.assign(shots=5, layers="all" if scaled else "none", sharpness=factor))
        return pd.concat(frames, ignore_index=True)

    def _fresh(self, asked, k, factor=1.0):
        own = fresh.prompts(self.questions, asked, k)
        return Part(asked=asked, conditions=own, paired=True, layers="none" if factor == 1 else "all", sharpness=factor)

    def _examples(self, sets, shots=names.SHOTS, kind="examples"):
        drawn = example_sets(self.questions, min(N_SETS, max(1, len(self.split.pool) // max(names.SHOTS))))
        sets = [s for s in sets if s < len(drawn)]
        return [Condition(kind=kind, examples=drawn[s][:k], example_set=s) for s in sets for k in shots]

    def _controls(self, shots):
        return [condition for kind in CONTROLS for condition in self._examples(range(1), shots, kind)]

    def _asked(self, which: str | Sequence[Question]) -> list[Question]:
        """Draw questions of the evaluation set: answered correctly or wrong without examples, or any."""
        if not isinstance(which, str):
            return list(which)
        if which == "all":
            return self.questions if self.n_asked is None else _draw(self.split.evaluation, self.n_asked)
        explored = [*self.split.exploration, *self.split.evaluation][:N_EXPLORED]
        if which == "explored":
            return explored
        if which == "held out":
            pool = [question for question in self.split.evaluation if question not in explored]
        else:
            answered = self._bare_answers()  # by the frozen judge, as the plan selects
            asked = {question.index for question in self._asked("all")} & answered.keys()
            pool = [q for q in self.split.evaluation if q.index in asked and answered[q.index] == (which == "right")]
        wanted = self.n_right if which in ("right", "held out") else self.n_wrong
        asked = _draw(pool, wanted)
        return asked[: len(asked) // 2] if which == "half of wrong" else asked

    def _bare_answers(self):
        """Whether each question was answered correctly without examples, by the frozen judge, from published rows."""
        rows = self._published("bare")
        rows = self._bare_rows() if rows is None else rows
        return dict(zip(rows.question, rows.get("frozen", rows.correct), strict=True))

    def _published(self, name):
        """Rows of a published run, if they are of this model, these questions and these settings, as far as it says."""
        with contextlib.suppress(FileNotFoundError):
            rows, manifest = load_run(name)
            said = manifest | manifest.get("settings", {})
            if all(said.get(key, value) == value for key, value in (self.hashes | self._kept).items()):
                return rows
        return None

    def _bare_rows(self):
        if self._bare_cache is None:
            self._bare_cache = self._ask(self.parts("bare")[0], self._asked("all"))
        return self._bare_cache

    def _ask(self, part: Part, questions: Sequence[Question], **settings: Any) -> pd.DataFrame:
        depth = self.model.config.get_text_config().num_hidden_layers
        sharpness = sharpened(depth, part.sharpness, part.layers)
        how: dict[str, Any] = {"temperature": part.temperature, "seed": part.seed, "sharpness": sharpness or None}
        how |= {"max_new_tokens": part.max_new_tokens} if part.max_new_tokens else {}
        how |= {"paired": part.paired, "change": part.change}
        if part.rounding:
            how["model"] = gate.roughened(self.model, part.rounding)
        rows = self._sweep(questions=questions, conditions=part.conditions, **how, **settings).run()
        return rows.assign(**part.labels)

    def _with_gates(self, rows):
        """Count, layer by layer, the gates whose sign differs from the question's 0-shot prompt."""
        if "signs" not in rows:
            return rows
        plain = (
            (rows.condition == Condition().name) & (rows.shots == 0) & (rows.temperature == 0) & (rows.sharpness == 1)
        )
        bare = rows[plain].drop_duplicates("question").set_index("question").signs
        rows = rows[rows.question.isin(bare.index)]  # without questions whose 0-shot prompt failed
        changed = [
            np.bitwise_count(row ^ bare[question]).reshape(len(self.gates), -1).sum(1)
            for question, row in zip(rows.question, rows.signs, strict=True)
        ]
        return rows.drop(columns="signs").assign(gates_changed=changed)


def _draw(questions: Sequence[Question], n: int) -> list[Question]:
    drawn = np.random.default_rng(0).permutation(len(questions))[: integer("draw: n", n, 0)]
    return [questions[i] for i in sorted(drawn)]


def publish(rows: pd.DataFrame, name: str, folder: str | os.PathLike, *, runs: Runs, source: str, command: str) -> dict:
    """Write the publishable part of a run (indices, numbers and verdicts, no text) and its manifest.

    Parameters
    ----------
    rows : pandas.DataFrame
        As :meth:`Runs.run` returns it.
    name : str
        Name of the run: the files are ``name.parquet`` and ``name.json``.
    folder : path
        Folder of the files, made if it is missing.
    runs : Runs
        Its model and questions are hashed in the manifest.
    source : str
        Description of the questions.
    command : str
        The command that made the rows.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    OSError
        The files cannot be written.
    """
    made_by = {"n_questions": int(rows.question.nunique()), **runs.hashes, "settings": runs.settings_of(name)}
    manifest = manifest_of(rows, name, runs.model, source=source, command=command, **made_by)
    heads = [c for c in rows if c.startswith("heads_")]
    if name in names.WITH_HEADS:  # what the first threshold counts: other ones would double the files
        heads = [c for c in heads if c not in {c.rpartition("_")[0]: c for c in reversed(heads)}.values()]
    else:
        means = {f"mean_{c}": [cell.mean(dtype=float) for cell in rows[c]] for c in _HEADS if c in rows}
        rows, heads = rows.assign(**means), [*heads, *(c for c in _HEADS if c in rows)]
    kept = rows.drop(columns=[*(c for c in _PRIVATE if c in rows), *heads])
    lists = [column for column in kept if len(kept) and isinstance(kept[column].iloc[0], np.ndarray)]
    kept = kept.assign(**{c: [_compact(c, cell) for cell in kept[c]] for c in lists})
    if name == "bare":
        facts = {"run": "questions", "questions": source, "questions_sha256": manifest["questions_sha256"]}
        write(question_facts(runs.questions), facts | {"command": command}, folder)
    kept.attrs = {}
    return write(kept, manifest, folder)


def _compact(column: str, cell: np.ndarray) -> np.ndarray:
    """Return numbers in the type that they are published in."""
    if column in _HEADS:
        return (np.round(cell.astype(float) * _PER_NAT) / _PER_NAT).astype(np.float16)
    # For a share of attention three digits are enough; everything else is a count.
    return cell.astype(np.float16 if column == "sink_share" else np.uint16 if column.startswith("heads_") else np.int32)


def hashes(model: Model, questions: Sequence[Question]) -> dict:
    """Hashes of questions and of a model, as in manifests."""
    texts = json.dumps([[question.text, question.answer] for question in questions])
    return {"questions_sha256": hashlib.sha256(texts.encode()).hexdigest(), "model_sha256": fingerprint(model)}


def manifest_of(rows: pd.DataFrame, name: str, model: Any, *, source: str, command: str, **made_by: Any) -> dict:
    """Describe rows of a sweep, and everything that made them: ``made_by`` has hashes and settings."""
    return {
        "run": name,
        "rows": len(rows),
        "skipped": len(rows.attrs.get("skipped", ())),
        "failed": len(rows.attrs.get("failed", ())),
        # Unknown if a store has answers from before this was counted.
        "near_threshold": int(rows.near.sum()) if "near" in rows and rows.near.notna().all() else None,
        "questions": source,
        "model": Path(model.config.name_or_path).name or type(model).__name__,  # without the path on this machine
        **made_by,
        "judge_sha256": _file_hash(judge),  # of ``correct``
        "frozen_judge_sha256": _file_hash(frozen_judge),  # of ``frozen``
        "seconds": round(float(rows.seconds.sum()), 1),
        "command": command,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of what computes results, as in manifests."""
    own = {"geolib": __version__, "python": platform.python_version()}
    return own | {package: version(package) for package in ("torch", "transformers", "numpy")}


def _file_hash(function):
    return hashlib.sha256(Path(inspect.getfile(function)).read_bytes()).hexdigest()


def commit() -> str | None:
    """Last commit that changed the code that computes results, or the package's; with "+" if files have changed since.

    Rows that an earlier start of the same run has left in its store may be of an earlier commit.
    """
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        git, here = ["git", "-C", str(Path(__file__).parents[2])], ["--", "geolib", "benchmarks"]
        last, changed = (
            subprocess.run([*git, *asked, *here], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
            for asked in (["log", "-1", "--format=%H"], ["status", "--porcelain"])
        )
        if last:  # empty if the environment is inside the checkout of another project
            return last + "+" * bool(changed)
    with contextlib.suppress(LookupError, TypeError, ImportError):
        return json.loads(distribution("geometry-of-reasoning").read_text("direct_url.json") or "{}")["vcs_info"][
            "commit_id"
        ]
    return None


def check_replaces(folder: str | os.PathLike, name: str, made_by: dict) -> None:
    """Refuse a folder whose file of this run has rows of another model, other questions or other settings.

    Raises
    ------
    ValueError
        The manifest beside the file says so, or there is no manifest.
    """
    path = Path(folder) / f"{name}.parquet"
    try:
        manifest = json.loads(path.with_suffix(".json").read_text("utf-8"))
    except (OSError, ValueError):
        manifest = {}
    differs = [key for key, value in json.loads(json.dumps(made_by)).items() if manifest.get(key) != value]
    if differs and path.exists():
        raise ValueError(
            f"sweep: out is {str(folder)!r}, whose {path.name} holds rows of another {differs[0].split('_')[0]} "
            f"({manifest.get('command', 'no manifest says which')}); expected a new folder, or that file moved away"
        )


def write(rows: pd.DataFrame, manifest: dict, folder: str | os.PathLike) -> dict:
    """Write a table and its manifest, with the table's checksum, under the name of the run; return the manifest."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{manifest['run']}.parquet"
    write_parquet(rows, path)
    manifest = manifest | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    write_text(json.dumps(manifest, indent=1) + "\n", path.with_suffix(".json"))
    return manifest
