"""A blind sample read by hand: how far each judge is right under each condition, and shares corrected by it.

    python benchmarks/hand.py draw FOLDER --second MODEL    answers to read, in FOLDER/sheet.jsonl
    python benchmarks/hand.py join FOLDER                   after reading, into book/results/hand_blind.json

Fifty questions of the evaluation list are drawn for each of nine conditions, no question twice, selected by nothing.
The sheet shows question, expected number and response, in a random order, and neither the condition nor what a judge
says. Each response is read twice, by readers who do not see each other's verdicts, into FOLDER/first.jsonl and
FOLDER/second.jsonl: lines like {"id": 0, "correct": true, "redundant": false}; FOLDER/third.jsonl decides where they
differ. MODEL is the folder that benchmarks/gemma.py makes. No text is kept in the results; responses stay in FOLDER.
"""

import argparse
import datetime
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from geolib.experiments.fresh import FACTOR
from geolib.models import load
from geolib.reasoning import Condition, Sweep, example_sets, load_questions, split, worked_examples
from geolib.reasoning.published import CONTROLS, LEAD, sharpened

ROOT = Path(__file__).parents[1]
OUT = ROOT / "book" / "results" / "hand_blind.json"
PER_CONDITION, SEED = 50, 2611
CORRECT = (
    "the response finally gives the expected number: an answer to the question stands unless something later takes its "
    "place; where GSM8K-Zero expects a wrong number, that number counts; a response that is cut off before it answers "
    "does not count"
)


def conditions(questions, train):
    """Condition of each name, and the factor of the attention scores."""
    five = example_sets(questions, 4)[0][:5]
    worked = worked_examples(train, questions)[:5]
    return {
        "bare": (Condition(), 1),
        "reworded": (Condition(lead=LEAD), 1),
        "five examples": (Condition(examples=five), 1),
        **{kind: (Condition(kind=kind, examples=five), 1) for kind in CONTROLS},
        "worked": (Condition(examples=worked, worked=True), 1),
        "sharpened": (Condition(examples=five), FACTOR),
        "Gemma, five examples": (Condition(examples=five), 1),
    }


def draw(folder, second):
    """Answer the drawn questions; write the sheet, and what belongs to each line of it beside it."""
    questions = load_questions()
    ways = conditions(questions, load_questions(source="gsm8k-train"))
    evaluation, rng = split(questions).evaluation, np.random.default_rng(SEED)
    drawn = rng.permutation(len(evaluation))[: PER_CONDITION * len(ways)].reshape(len(ways), -1)
    frames, models = [], {False: load(), True: load(second)}
    for (name, (condition, factor)), places in zip(ways.items(), drawn, strict=True):
        model, tokenizer = models[name.startswith("Gemma")]
        sharpness = sharpened(model.config.num_hidden_layers, factor) if factor > 1 else None
        asked = [evaluation[place] for place in places]
        sweep = Sweep(model=model, tokenizer=tokenizer, questions=asked, conditions=[condition], sharpness=sharpness)
        frames.append(sweep.run().assign(way=name))
    rows = pd.concat(frames, ignore_index=True)
    rows = rows.iloc[rng.permutation(len(rows))].reset_index(drop=True)
    texts = {question.index: question.text for question in questions}
    sheet = [
        {"id": i, "question": texts[row.question], "expected": row.expected, "response": row.response}
        | {"cut off": bool(row.truncated)}
        for i, row in enumerate(rows.itertuples())
    ]
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in sheet)
    (folder / "sheet.jsonl").write_text(lines, "utf-8")
    kept = ["question", "way", "correct", "redundant", "computed", "frozen", "frozen_redundant", "truncated"]
    rows["sha256"] = [hashlib.sha256(text.encode()).hexdigest()[:8] for text in rows.response]
    rows[[*kept, "sha256"]].to_json(folder / "key.json", orient="records")


def join(folder):
    """Put the verdicts of both readers and of both judges side by side, without texts."""
    rows = pd.read_json(folder / "key.json")
    readings = {
        name: pd.read_json(folder / f"{name}.jsonl", lines=True).set_index("id").sort_index()
        for name in ("first", "second", "third")
    }
    first, second = readings["first"], readings["second"]
    if not (first.index.equals(rows.index) and second.index.equals(rows.index)):
        raise SystemExit("first.jsonl or second.jsonl lacks answers, or has one twice")
    differ = first.index[(first[["correct", "redundant"]] != second[["correct", "redundant"]]).any(axis=1)]
    if not readings["third"].index.equals(differ):
        raise SystemExit(f"third.jsonl is about others than {differ.tolist()}, in which the two readings differ")
    readings["third"] = readings["third"].reindex(rows.index)  # empty where it was not needed
    for name, read in readings.items():
        rows[[f"{name}_correct", f"{name}_redundant"]] = read[["correct", "redundant"]]
    about = {
        "about": "answers under nine conditions, drawn by seed, read without condition and without a judge's verdict",
        "read_by": "two readings, neither of which saw the other's verdicts or took part in writing the judge; where "
        "they differ, a third one, by a writer of the judge, blind to the condition too",
        "correct": CORRECT,
        "redundant": "the response calculates, or says how to",
        "command": "python benchmarks/hand.py draw, then join",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    rows = rows.astype(object).where(rows.notna(), None)
    lines = ",\n".join("  " + json.dumps(row) for row in rows.to_dict("records"))
    head = json.dumps(about, indent=1).removesuffix("\n}")
    OUT.write_text(f'{head},\n "rows": [\n{lines}\n ]\n}}\n', "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("step", choices=["draw", "join"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--second", help="folder of the second model, for draw")
    arguments = parser.parse_args()
    draw(arguments.folder, arguments.second) if arguments.step == "draw" else join(arguments.folder)
