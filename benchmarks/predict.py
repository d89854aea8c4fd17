"""Out-of-fold scores of right answers by what their questions say and by the geometry of heads (book/plan-predict.md).

    python benchmarks/predict.py [--out book/results] [VIEW ...]

Each view is a choice of folds, of the judge, or of questions; the scores of a view are kept in a folder and not
computed again. The model's own answers are read from the run "margins", where it exists. 20 minutes on one thread.
"""

import argparse
import datetime
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GroupKFold, cross_val_predict

from geolib import __version__
from geolib.experiments.predicting import FACTS, OWN, SETS, features, out_of_fold
from geolib.experiments.runs import commit, write
from geolib.reasoning import load_questions, load_run
from geolib.reasoning.published import right_without_examples
from geolib.store import read_parquet, write_parquet

ROOT = Path(__file__).parents[1]
SHUFFLES = 5
# Not in the plan. A may have missed what the words of the question say, or trees, which bend where a line does not; and
# the paper's ID is of layers.
BEYOND = {"words": ("words",), "A and words": (*FACTS, "words"), "F and words": (*SETS["F"], "words"), "trees": FACTS}
BEYOND |= {"A and B": (*FACTS, "layers")}


def own_answers():
    """The model's own answers, or nothing where they have not been measured."""
    try:
        return load_run("margins")[0]
    except FileNotFoundError:
        return None


def views():
    """Name of each view, sets of columns, and what is done to the questions."""
    first = right_without_examples()
    wrong = first.index[~first]
    every = SETS | {name: (name,) for name in FACTS}
    some = {name: SETS[name] for name in ("A", "E", "F")}
    found = {
        "new prompts": (every, {}),
        "new questions": (SETS, {"new_prompts": False}),
        "wrong without examples": (SETS, {"only": wrong}),
        "judge of round one": (some, {"y": "frozen"}),
    }
    found |= {f"shuffled {i}": ({"F": SETS["F"]}, {"shuffle": i}) for i in range(SHUFFLES)}
    found["beyond the plan"] = (BEYOND, {"texts": {one.index: one.text for one in load_questions()}})
    answers = own_answers()
    return found if answers is None else found | {"own answer": (every | OWN, {"answers": answers})}


def boosted(blocks, right, prompts):
    """Out-of-fold scores of boosted trees, in the folds of the plan."""
    x = np.hstack([*blocks.values()])
    model = HistGradientBoostingClassifier(learning_rate=0.05, max_depth=3, random_state=0)
    asked = {"groups": prompts, "cv": GroupKFold(10), "method": "decision_function"}
    return pd.DataFrame({"score": cross_val_predict(model, x, right, **asked), "penalty": 0.0, "kept": x.shape[1]})


def scores(sets, *, new_prompts=True, only=None, y="correct", shuffle=None, answers=None, texts=None):
    """Rows of a view: a score for each set of columns and each question."""
    asked, blocks = features(*load_run("sharper"), answers)
    if texts is not None:  # whether each word that ten questions have is in the question
        counted = CountVectorizer(binary=True, min_df=10, token_pattern=r"[a-z]+")
        blocks["words"] = counted.fit_transform([texts[number] for number in asked.question]).toarray().astype(float)
    chosen = np.ones(len(asked), dtype=bool) if only is None else asked.question.isin(only).to_numpy()
    asked = asked[chosen].reset_index(drop=True)
    right = asked[y]
    if shuffle is not None:
        rng = np.random.default_rng(shuffle)
        right = right.groupby(asked.example_set).transform(lambda group: rng.permutation(group.to_numpy()))
    right, found = right.to_numpy(bool), []
    for name, used in sets.items():
        start = time.perf_counter()
        prompts = asked.example_set.to_numpy() if new_prompts else None
        given = {block: blocks[block][chosen] for block in used}
        table = boosted(given, right, prompts) if name == "trees" else out_of_fold(given, right, prompts)
        print(f"  {name}: {time.perf_counter() - start:.0f} s, columns kept {sorted({*table.kept})}", flush=True)
        table.insert(0, "set", name)
        found.append(table.assign(question=asked.question, example_set=asked.example_set, right=right))
    return pd.concat(found, ignore_index=True)


def main():
    """Compute the views that are asked for, and publish all that there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "book" / "results")
    parser.add_argument("--parts", type=Path, default=ROOT / "build" / "predict", help="where views are kept")
    parser.add_argument("views", nargs="*", metavar="VIEW")
    options = parser.parse_args()
    options.parts.mkdir(parents=True, exist_ok=True)
    known = views()
    for name in options.views or known:
        print(name, flush=True)
        if not (path := options.parts / f"{name}.parquet").exists():
            start = time.perf_counter()
            table = scores(known[name][0], **known[name][1])
            write_parquet(table.assign(seconds=time.perf_counter() - start), path)
    parts = {name: read_parquet(path) for name in known if (path := options.parts / f"{name}.parquet").exists()}
    rows = pd.concat(parts, names=["view"]).reset_index("view").reset_index(drop=True)
    seconds = sum(part.seconds.iloc[0] for part in parts.values())
    rows = rows.drop(columns="seconds").astype({"score": np.float32, "kept": np.int16, "penalty": np.float32})
    about = load_run("sharper")[1]
    manifest = {"run": "predict", "rows": len(rows), "views": list(parts)}
    manifest |= {key: about[key] for key in ("questions", "model", "questions_sha256", "model_sha256", "judge_sha256")}
    manifest |= {"of": {"sharper": about["sha256"]}, "seconds": round(float(seconds), 1)}
    manifest |= {"command": "python benchmarks/predict.py", "commit": commit()}
    manifest |= {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    made = {"geolib": __version__, "python": platform.python_version()}
    manifest["versions"] = made | {name: version(name) for name in ("scikit-learn", "numpy")}
    write(rows, manifest, options.out)


if __name__ == "__main__":
    main()
