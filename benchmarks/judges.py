"""How far to trust the judge: the published figures reproduced, and agreement with verdicts given by hand.

    python benchmarks/judges.py [--json book/results/judges.json] [--published]

Two judges by rules are measured: the frozen one of the first plan, in both its readings, and the one that reads. The
published accuracies need the first: they count an answer that names the expected number among the terms of its last
calculation ("89 - 45 = 44" where 89 is expected). A judge that takes the result of a calculation falls short of them.

The published answers are those of Chiang and Lee (arXiv:2401.11467), read from the folder published_answers in
GEOLIB_DATA. The 200 verdicts by hand are in book/results/hand_judged.json, without the responses: those of
SmolLM2-135M-Instruct are computed again or read from geolib's cache, and a response that is not the one that was read
is left out and counted. With --published no model is loaded, and its responses are not judged. Rows of the file that a
run does not measure are carried over, and listed in its manifest: among them what SmolLM2-135M-Instruct said as a
judge, measured on 23 November 2026 by code that is no longer here.
"""

import argparse
import datetime
import hashlib
import inspect
import json
import math
import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

from geolib import __version__
from geolib.experiments.endpoint_judge import agreement, as_verdict, judge_by_rules
from geolib.models import cache_dir, load
from geolib.reasoning import Sweep, exploration_split, frozen_judge, judge, load_questions

ROOT = Path(__file__).parents[1]
HAND = ROOT / "book" / "results" / "hand_judged.json"
OWN = "smollm2-135m"
# In percent: share of responses with a calculation; accuracy without one; accuracy with one.
PUBLISHED = {"gpt-3.5-turbo-0613": (47.1, 96.6, 60.7), "Llama-2-70b-chat-hf": (80.3, 87.7, 46.3)}


def published_answers(model):
    """Responses and expected numbers, in the order of GSM8K-Zero."""
    folder = Path(os.environ.get("GEOLIB_DATA") or ROOT.parent / "shared" / "data") / "published_answers"
    records = [json.loads(line) for line in (folder / f"{model}.jsonl").read_text("utf-8").splitlines()]
    return [record["response"] for record in records], [record["answer"] for record in records]


def figures(verdicts):
    """Return the three published figures, in percent."""
    correct, redundant = np.array([(v.correct, v.redundant) for v in verdicts]).T
    return tuple(
        100 * float(share) for share in (redundant.mean(), correct[~redundant].mean(), correct[redundant].mean())
    )


def compare_with_published():
    """Print the published figures of each model, those of each judge, and the differences in points; return them."""
    asked = {question.index: question for question in load_questions()}
    columns = ("calculates", "right without", "right with", "right")
    print(f"{'percent (points from published)':34}" + "".join(f"{column:>20}" for column in columns))
    found = []
    for model, reported in PUBLISHED.items():
        responses, answers = published_answers(model)
        pairs = list(zip(responses, answers, strict=True))
        verdicts = {
            "judge": judge_by_rules(responses, answers),
            "strict": judge_by_rules(responses, answers, strict=True),
            "reading, no question": [judge(*pair) for pair in pairs],
            "reading": [judge(*pair, question=asked[index]) for index, pair in enumerate(pairs)],
        }
        measured = {name: figures(own) for name, own in verdicts.items()}
        goals = with_total(reported)
        print(f"{model:34}" + "".join(f"{share:>12.1f}{'':8}" for share in goals))
        for name, shares in measured.items():
            row = zip(with_total(shares), goals, strict=True)
            print(f"  {name:32}" + "".join(f"{share:>12.1f}{f'({share - goal:+.1f})':>8}" for share, goal in row))
        rounded = {name: [round(share, 2) for share in shares] for name, shares in measured.items()}
        found.append({"model": model, "n": len(responses), "published": reported, **rounded})
    return found


def with_total(shares):
    """Append the share correct over all answers to share calculating and shares correct without and with."""
    redundant, without, with_calculation = shares
    return (*shares, ((100 - redundant) * without + redundant * with_calculation) / 100)


def own_responses(rows, model, tokenizer):
    """Responses of SmolLM2-135M and whether they are cut off, by index and shots."""
    asked, shown = exploration_split(load_questions(), 128)
    found = {}
    for shots in sorted({row["shots"] for row in rows}):
        wanted = {row["index"] for row in rows if row["shots"] == shots}
        questions = [question for question in asked if question.index in wanted]
        store = cache_dir() / "sweeps" / "judges"
        settings = {"model": model, "tokenizer": tokenizer, "store": store, "progress": False}
        for row in Sweep(questions=questions, examples=shown, shots=(shots,), **settings).run().itertuples():
            found[row.question, shots] = row.response, row.truncated
    return found


def hand_judged(*, whole):
    """Rows judged by hand, each with its response, question and expected number; and how many are left out."""
    rows = [row for row in json.loads(HAND.read_text("utf-8"))["rows"] if whole or row["source"] != OWN]
    questions = {question.index: question for question in load_questions()}
    own = own_responses([row for row in rows if row["source"] == OWN], *load(device="cpu")) if whole else {}
    published = {source: published_answers(source)[0] for source in PUBLISHED}
    kept = []
    for row in rows:
        source, index = row["source"], row["index"]
        response, cut = own[index, row["shots"]] if source == OWN else (published[source][index], False)
        if hashlib.sha256(response.encode()).hexdigest().startswith(row["sha256"]):
            question = questions[index]
            about = {"response": response, "question": question.text, "answer": question.answer, "truncated": cut}
            kept.append(row | about)
    return kept, len(rows) - len(kept)


def agreements(rows, judges):
    """Cohen's kappa of each judge against the verdicts by hand, for each source and all of them."""
    parts = {source: [row["source"] == source for row in rows] for source in (*PUBLISHED, OWN)}
    parts |= {"all": [True] * len(rows), "all but the doubtful": [not row.get("doubtful") for row in rows]}
    if not any(parts[OWN]):
        parts = {source: parts[source] for source in PUBLISHED}
    hand = [as_verdict(row["correct"], row["redundant"]) for row in rows]
    found = []
    for name, verdicts in judges.items():
        for of in ("correct", "redundant"):
            if name == "rules, strict" and of == "redundant":  # the same as by the default reading
                continue
            for part, inside in parts.items():
                first, second = ([v for v, is_in in zip(vs, inside, strict=True) if is_in] for vs in (hand, verdicts))
                result = agreement(first, second, of=of)
                numbers = {"kappa": result.kappa, "low": result.interval[0], "high": result.interval[1]}
                numbers = {key: None if math.isnan(value) else round(value, 4) for key, value in numbers.items()}
                yes = {"by_hand": first, "by_judge": second}
                yes = {key: sum(getattr(verdict, of) for verdict in vs) for key, vs in yes.items()}
                numbers |= {"share": round(result.share, 4), "n": result.n} | yes
                found.append({"judge": name, "of": of, "responses": part} | numbers)
                print(f"{name:26}{of:11}{part:22}{result}; yes: by hand {yes['by_hand']}, by judge {yes['by_judge']}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--published", action="store_true", help="published answers alone; loads no model")
    arguments = parser.parse_args()

    published = compare_with_published()
    rows, left_out = hand_judged(whole=not arguments.published)
    print(f"\n{len(rows)} responses judged by hand; {left_out} left out, whose text is another one here")
    columns = [[row[name] for row in rows] for name in ("response", "answer", "question")]
    judges = {"rules": judge_by_rules(*columns), "rules, strict": judge_by_rules(*columns, strict=True)}
    judges["reading"] = [
        judge(row["response"], row["answer"], question=row["question"], truncated=row["truncated"]) for row in rows
    ]
    found = agreements(rows, judges)

    if arguments.json:
        before = json.loads(arguments.json.read_text("utf-8")) if arguments.json.exists() else {"agreement": []}
        measured = {(row["judge"], row["of"], row["responses"]) for row in found}
        carried = [row for row in before["agreement"] if (row["judge"], row["of"], row["responses"]) not in measured]
        hashes = [
            hashlib.sha256(Path(inspect.getsourcefile(one)).read_bytes()).hexdigest() for one in (frozen_judge, judge)
        ]
        manifest = {
            "command": "python benchmarks/judges.py" + " --published" * arguments.published,
            "judge_sha256": hashes[0],
            "reading_sha256": hashes[1],
            "hand_judged_sha256": hashlib.sha256(HAND.read_bytes()).hexdigest(),
            "left_out": left_out,
            "carried_over": sorted({f"{row['judge']}: {row['responses']}" for row in carried}),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "versions": {"geolib": __version__, "python": platform.python_version()}
            | {package: version(package) for package in ("torch", "transformers", "numpy", "statsmodels")},
        }
        table = {"manifest": manifest, "published": published, "agreement": found + carried}
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
