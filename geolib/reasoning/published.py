"""The published runs of Part III, and how to read them: rows without text, each file beside its manifest."""

import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from geolib.store import read_parquet

LEAD = "Please read the following carefully and reply."
CONTROLS = ("random", "shuffled", "prose")
HINT = "Let's think step by step."
TEMPERATURE = 0.7
# Groups of layers whose attention is sharpened or flattened, as shares of the depth.
GROUPS = {"all": (0, 1), "first third": (0, 1 / 3), "middle third": (1 / 3, 2 / 3), "last third": (2 / 3, 1)}
# Numbers of example sets of the run "choosing": the choices for all questions; from ALONE on, one candidate as the only
# example; from NEAREST on, the nearest examples of each question.
CHOICES = {
    10: "highest rise, relative",
    11: "highest rise, absolute",
    12: "lowest rise, relative",
    13: "similar length",
    14: "random 1",
    15: "random 2",
    16: "random 3",
}
ALONE, NEAREST = 100, 1000
# What tells the rows of a run of round one apart.
_LABELS = ["question", "condition", "example_set", "shots", "temperature", "seed", "layers", "sharpness"]


def choice_of(example_set: int) -> str:
    """Name of the choice that an example set of the run "choosing" stands for; "" for any other set.

    >>> choice_of(10), choice_of(NEAREST + 17), choice_of(0)
    ('highest rise, relative', 'nearest', '')
    """
    return "nearest" if example_set >= NEAREST else CHOICES.get(example_set, "")


def sharpened(depth: int, factor: float, group: str = "all") -> dict[int, float]:
    """Factor of the attention scores of each layer of a group, one of :data:`GROUPS`; none for another name.

    >>> sharpened(6, 1.25, "middle third")
    {2: 1.25, 3: 1.25}
    """
    start, end = GROUPS.get(group, (0, 0))
    return dict.fromkeys(range(round(start * depth), round(end * depth)), factor)


def load_run(name: str, folder: str | os.PathLike | None = None) -> tuple[pd.DataFrame, dict]:
    """Read a published run.

    Parameters
    ----------
    name : str
        Name of the run, such as ``"bare"``: its files are ``bare.parquet`` and ``bare.json``.
    folder : path, optional
        Folder of the files; by default :func:`results_folder`.

    Returns
    -------
    rows : pandas.DataFrame
        As :meth:`Sweep.run` returned them when the file was made, without texts: files of the first round lack
        ``heads_<rule>_<eps>``, ``entropy``, ``renyi2``, ``near``, ``computed``, ``frozen`` and ``frozen_redundant``.
        What needs one names it, and the command that made the file, ``.attrs["command"]``, which records it now.
    manifest : dict
        Model, questions, settings, command, versions and checksum of the run.

    Raises
    ------
    FileNotFoundError
        The folder has no such run.
    ValueError
        The file is damaged, or differs from the one that its manifest describes.
    """
    folder = Path(folder or results_folder())
    path = folder / f"{name}.parquet"
    if not path.exists() or not path.with_suffix(".json").exists():
        raise FileNotFoundError(f"load_run: there is no run {name!r} in {folder}")
    where = f"load_run: {path.with_suffix('.json')}"
    try:
        manifest = json.loads(path.with_suffix(".json").read_text("utf-8"))
        named, digest = manifest["run"], manifest["sha256"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ValueError(f'{where} is not a manifest, but an object with "run" and "sha256" was expected') from None
    raw = path.read_bytes()
    if named != name or digest != hashlib.sha256(raw).hexdigest():
        raise ValueError(f"{where} describes another file than {path.name}, which is damaged or out of place")
    rows = read_parquet(io.BytesIO(raw))
    rows.attrs["command"] = manifest.get("command", f"geolib sweep --run {name}")  # named where a column is missing
    return rows, manifest


def all_sets(folder: str | os.PathLike | None = None) -> pd.DataFrame:
    """Rows of all sets of examples: the run "shots", and the run "other-sets" if the folder has it.

    Parameters
    ----------
    folder : path, optional
        As for :func:`load_run`.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    FileNotFoundError, ValueError
        As for :func:`load_run`, or the two runs are of different models or questions.
    """
    rows, about = load_run("shots", folder)
    try:
        others, other = load_run("other-sets", folder)
    except FileNotFoundError:
        return rows
    for what in ("model_sha256", "questions_sha256"):
        if about.get(what) != other.get(what):
            raise ValueError(f"all_sets: runs 'shots' and 'other-sets' differ in {what}, but one was expected")
    return pd.concat([rows, others[others.shots > 0]], ignore_index=True)


def as_planned(name: str, folder: str | os.PathLike | None = None) -> tuple[pd.DataFrame, dict]:
    """Read a run as the plan has it: with the plan's judge, and from the folder ``first`` if there is one.

    Parameters
    ----------
    name : str
        Name of the run, or "all sets", as of :func:`all_sets`.
    folder : path, optional
        As for :func:`load_run`.

    Returns
    -------
    rows : pandas.DataFrame
        ``correct`` is the verdict of the frozen judge.
    manifest : dict
        That of the run, or of "shots".

    Raises
    ------
    FileNotFoundError, ValueError
        As for :func:`load_run`.
    """
    folder = Path(folder or results_folder())
    folder = folder / "first" if (folder / "first").is_dir() else folder
    rows, manifest = load_run("shots" if name == "all sets" else name, folder)
    rows = all_sets(folder) if name == "all sets" else rows
    return rows.assign(correct=rows.get("frozen", rows["correct"])), manifest


def asked_again(name: str, folder: str | os.PathLike | None = None) -> pd.DataFrame:
    """Rows of a run beside those that the same prompts gave in the first round, in the folder ``first``.

    Parameters
    ----------
    name : str
        Name of the run.
    folder : path, optional
        As for :func:`load_run`.

    Returns
    -------
    pandas.DataFrame
        A row a prompt, with the run's labels and:

        - ``same``: whether both answers have the same number of tokens and the same verdicts of the frozen judge, which
          is what texts that are not published leave to compare;
        - ``moved``: by how many entries the counts differ, over rules, thresholds and layers;
        - ``gates``: by how many gates the counts of changed signs differ, over layers;
        - ``near``, ``truncated``, ``correct``, ``frozen``: those of the second time.

    Raises
    ------
    FileNotFoundError, ValueError
        As for :func:`load_run`, or the two times are of different prompts, models or questions.
    """
    folder = Path(folder or results_folder())
    (first, about), (second, other) = load_run(name, folder / "first"), load_run(name, folder)
    first, second = first.set_index(_LABELS).sort_index(), second.set_index(_LABELS).sort_index()
    alike = all(about.get(key) == other.get(key) for key in ("model_sha256", "questions_sha256"))
    if not (alike and first.index.is_unique and first.index.equals(second.index)):
        other = folder / "first"
        raise ValueError(f"asked_again: run {name!r} differs from that in {other} in prompts, model or questions")

    def apart(columns):
        return sum(np.abs(np.stack(first[c]).astype(int) - np.stack(second[c])).sum(axis=1) for c in columns)

    said = {"correct": "frozen", "redundant": "frozen_redundant"}  # round one had no other judge
    said |= {c: c for c in ("new_tokens", "truncated", "strict")}
    same = np.all([first[one] == second[two] for one, two in said.items()], axis=0)
    moved, gates = apart(c for c in first if c.startswith("id_")), apart(c for c in first if c == "gates_changed")
    kept = second[["near", "truncated", "correct", "frozen"]]
    return kept.assign(same=same, moved=moved, gates=gates).reset_index()


def right_without_examples(folder: str | os.PathLike | None = None) -> pd.Series:
    """Whether each question was answered correctly without examples, by the judge of round one.

    Parameters
    ----------
    folder : path, optional
        As for :func:`load_run`, whose run "bare" is read.

    Returns
    -------
    pandas.Series
        By question.
    """
    return as_planned("bare", folder)[0].set_index("question")["correct"]


def add_facts(rows: pd.DataFrame, manifest: dict, folder: str | os.PathLike | None = None) -> pd.DataFrame:
    """Add the columns of :func:`question_facts` for the questions of the rows.

    Parameters
    ----------
    rows : pandas.DataFrame
        With a column ``question``.
    manifest : dict
        Manifest of the run that the rows come from, as :func:`load_run` returns it.
    folder : path, optional
        Folder with ``questions.parquet``; the second place to look is the folder of the book's own results.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    FileNotFoundError
        Neither folder has the facts of these questions; ``geolib sweep --run bare`` writes them.
    """
    for place in (folder, own_results()):
        try:
            facts, about = load_run("questions", place)
        except FileNotFoundError:
            continue
        if about.get("questions_sha256") == manifest.get("questions_sha256"):
            if facts["question"].duplicated().any():
                raise ValueError(f"add_facts: questions.parquet in {place} has a question twice, but once was expected")
            return rows.join(facts.set_index("question"), on="question")
    raise FileNotFoundError(
        "add_facts: no questions.parquet is of the run's questions; geolib sweep --run bare makes one"
    )


def results_folder() -> Path:
    """Folder of published runs: the one that GEOLIB_RESULTS names, else that of the checkout, else the wheel's."""
    return Path(os.environ.get("GEOLIB_RESULTS") or own_results()).expanduser()


def own_results() -> Path:
    """Folder of the book's own runs, whatever GEOLIB_RESULTS is."""
    package = Path(__file__).parents[1]
    folders = [package.parent / "book" / "results", package / "results"]
    return next(filter(Path.is_dir, folders), folders[0])
