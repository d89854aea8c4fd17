"""What is published of the runs of Part III, and how to read it: rows without text, each file beside its manifest."""

import hashlib
import io
import json
import os
from pathlib import Path

import pandas as pd

from geolib.store import read_parquet

LEAD = "Please read the following carefully and reply."
CONTROLS = ("random", "shuffled", "prose")
HINT = "Let's think step by step."
TEMPERATURE = 0.7
# Layers whose attention is sharpened or flattened, as shares of the depth; by how much.
GROUPS = {"all": (0, 1), "first third": (0, 1 / 3), "middle third": (1 / 3, 2 / 3), "last third": (2 / 3, 1)}
# Example sets of the run "choosing": choices for all questions; the first candidate as the only example; the nearest
# examples, a set for each question.
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


def choice_of(example_set: int) -> str:
    """Name of the choice that an example set of the run is; "" for any other.

    >>> choice_of(10), choice_of(NEAREST + 17), choice_of(0)
    ('highest rise, relative', 'nearest', '')
    """
    return "nearest" if example_set >= NEAREST else CHOICES.get(example_set, "")


def load_run(name: str, folder=None) -> tuple[pd.DataFrame, dict]:
    """Read a published run.

    Returns
    -------
    rows : pandas.DataFrame
    manifest : dict

    Raises
    ------
    FileNotFoundError
        It is not there.
    ValueError
        The file is damaged, or not the one that its manifest describes.
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
        raise ValueError(f'{where} is no manifest, but an object with "run" and "sha256" was expected') from None
    raw = path.read_bytes()
    if named != name or digest != hashlib.sha256(raw).hexdigest():
        raise ValueError(f"{where} describes another file than {path.name}, which is damaged or out of place")
    return read_parquet(io.BytesIO(raw)), manifest


def all_sets(folder=None) -> pd.DataFrame:
    """Rows of every set of examples that was asked: the run "shots", and "other-sets" where the folder holds it."""
    rows, about = load_run("shots", folder)
    try:
        others, other = load_run("other-sets", folder)
    except FileNotFoundError:
        return rows
    for what in ("model_sha256", "questions_sha256"):
        if about.get(what) != other.get(what):
            raise ValueError(f"all_sets: runs 'shots' and 'other-sets' differ in {what}, but one was expected")
    return pd.concat([rows, others[others.shots > 0]], ignore_index=True)


def add_facts(rows: pd.DataFrame, manifest: dict, folder=None) -> pd.DataFrame:
    """Add what is known of the questions that rows are about: columns of :func:`question_facts`.

    Parameters
    ----------
    rows : pandas.DataFrame
        With a column ``question``.
    manifest : dict
        Of the run they come from, as :func:`load_run` returns it.
    folder : path, optional
        Where ``questions.parquet`` is looked for; then in the book's own results.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    FileNotFoundError
        There is no such file that is about these questions; ``geolib sweep --run bare`` makes one.
    """
    for place in (folder, own_results()):
        try:
            facts, about = load_run("questions", place)
        except FileNotFoundError:
            continue
        if about.get("questions_sha256") == manifest.get("questions_sha256"):
            if facts["question"].duplicated().any():
                raise ValueError(
                    f"add_facts: questions.parquet in {place} holds a question twice, but once was expected"
                )
            return rows.join(facts.set_index("question"), on="question")
    raise FileNotFoundError(
        "add_facts: no questions.parquet is about this run's questions; geolib sweep --run bare does"
    )


def results_folder() -> Path:
    """Where published runs are: the folder that GEOLIB_RESULTS names, else that of the checkout, else the wheel's."""
    return Path(os.environ.get("GEOLIB_RESULTS") or own_results()).expanduser()


def own_results() -> Path:
    """Where the book's own runs are, whatever GEOLIB_RESULTS says."""
    package = Path(__file__).parents[1]
    folders = [package.parent / "book" / "results", package / "results"]
    return next(filter(Path.is_dir, folders), folders[0])
