"""Does sharper attention help where an answer is copied, and where it is computed? (book/plan-sharper.md, item 4)

    pip install --no-deps --target FOLDER reasoning-gym==0.1.25
    python benchmarks/tasks.py --gym FOLDER --store STORE --out book/results

Four lists of 300 questions are asked behind five examples of their own kind, one of twenty sets for each question, with
the attention scores of all layers times 1 and 1.25:

- generated: questions of geolib.reasoning.generate_questions, whose text states the answer;
- computed: reasoning-gym's gsm_symbolic, word problems that have to be calculated;
- copied: the same stories without their question; one of their sentences is repeated with a gap in place of its number,
  and that number is asked for;
- sums: reasoning-gym's chain_sum, two or three terms of one or two digits.

With --solutions also the log-likelihood of the worked solution of 500 of GSM8K's training questions, behind five of
them with solutions. reasoning-gym is under the Apache licence 2.0. Only three of its modules are imported, because its
top level needs the packages of all its hundred generators. About 30 minutes on one core, and as many for the solutions.
"""

import argparse
import importlib
import re
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd

from geolib.experiments import fresh
from geolib.experiments.runs import hashes, manifest_of, write
from geolib.models import load
from geolib.reasoning import Condition, Question, Sweep, generate_questions, load_questions, split
from geolib.reasoning.decode import Change, SharedPrefix
from geolib.reasoning.prompts import frame_and_place, slot_ids
from geolib.reasoning.published import sharpened

N, N_POOL, N_TRAIN, SHOTS = 300, 60, 500, 5
LONGEST = 64  # new tokens: behind such examples most answers have about six
_INSTRUCTION = " Give the result as your final answer. Do not include units."


def gym(folder):
    """Return the two data sets' classes and their configurations, imported without reasoning-gym's top level."""
    sys.path.insert(0, str(folder))
    for name in ("reasoning_gym", "reasoning_gym.coaching", "reasoning_gym.arithmetic"):
        package = sys.modules[name] = types.ModuleType(name)
        package.__path__ = [str(Path(folder, *name.split(".")))]
    coaching = sys.modules["reasoning_gym.coaching"]
    for part in ("attributes", "base_curriculum"):
        vars(coaching).update(vars(importlib.import_module(f"reasoning_gym.coaching.{part}")))
    symbolic = importlib.import_module("reasoning_gym.arithmetic.gsm_symbolic.gsm_symbolic")
    sums = importlib.import_module("reasoning_gym.arithmetic.chain_sum")
    return symbolic, sums


def gap(text, rng):
    """Ask for a number that a story states, by one of its sentences with a gap; None if there is no such sentence."""
    sentences = re.split(r"(?<=[.!]) +", text)
    story = [sentence for sentence in sentences if not sentence.endswith("?")]
    numbers = [re.findall(r"(?<![\d.,/])\d+(?:\.\d+)?(?![\d.,/%]*\d)", sentence) for sentence in story]
    every = [number for some in numbers for number in some]
    usable = [i for i, some in enumerate(numbers) if len(some) == 1 and every.count(some[0]) == 1]
    if not usable or len(every) < 2:
        return None
    place = rng.choice(usable)
    asked = re.sub(rf"(?<![\d.]){re.escape(numbers[place][0])}(?![\d])", "___", story[place], count=1)
    return f'{" ".join(story)} Which number belongs in the gap: "{asked}"', float(numbers[place][0])


def lists(folder):
    """Return 360 questions of each kind with distinct texts; of these, `split` takes the pool of examples."""
    symbolic, sums = gym(folder)
    rng, found = np.random.default_rng(fresh.SEED), {"generated": {}, "computed": {}, "copied": {}, "sums": {}}
    for question in generate_questions(N + N_POOL, seed=fresh.SEED):
        found["generated"][question.text] = question.answer
    for entry in symbolic.GSMSymbolicDataset(symbolic.GSMSymbolicDatasetConfig(size=4000, seed=fresh.SEED)):
        text = entry["question"].removesuffix(_INSTRUCTION)
        copied = gap(text, rng)
        if copied and len(found["copied"]) < N + N_POOL and text not in found["computed"]:
            found["computed"][text] = float(entry["answer"])
            found["copied"][copied[0]] = copied[1]
    settings = sums.ChainSumConfig(size=4000, seed=fresh.SEED, max_terms=3, max_digits=2)
    for entry in sums.ChainSumDataset(settings):
        if len(found["sums"]) < N + N_POOL:
            found["sums"].setdefault(f"{entry['metadata']['expression']} = ?", float(entry["answer"]))
    return {
        name: [Question(text, answer, i) for i, (text, answer) in enumerate(some.items())]
        for name, some in found.items()
    }


def answers(model, tokenizer, questions, store):
    """Rows of one list: the questions outside its pool, with the attention as it is and sharper."""
    asked = split(questions).evaluation
    own = fresh.prompts(questions, asked, SHOTS)
    frames = []
    for factor in (1.0, fresh.FACTOR):
        sharpness = sharpened(model.config.num_hidden_layers, factor) if factor > 1 else None
        sweep = Sweep(
            model=model, tokenizer=tokenizer, questions=asked, conditions=own, paired=True, store=store,
            sharpness=sharpness, max_new_tokens=LONGEST, progress=sys.stderr.isatty(),
        )  # fmt: skip
        frames.append(sweep.run().assign(sharpness=factor))
    return pd.concat(frames, ignore_index=True)


def solutions(model, tokenizer):
    """Log-likelihood per token of worked solutions, behind five other questions with theirs."""
    train = load_questions(source="gsm8k-train")
    order = np.random.default_rng(fresh.SEED).permutation(len(train))
    pool, asked = ([train[i] for i in some] for some in (order[:N_POOL], order[N_POOL : N_POOL + N_TRAIN]))
    rng = np.random.default_rng([fresh.SEED, 1])
    sets = [rng.permutation(N_POOL)[:SHOTS] for _ in range(fresh.N_PROMPTS)]
    rows = []
    for factor in (1.0, fresh.FACTOR):
        sharpness = sharpened(model.config.num_hidden_layers, factor) if factor > 1 else {}
        engine = SharedPrefix(model, (0.1,), Change(sharpness=sharpness))
        for number, shown in enumerate(sets):
            condition = Condition(examples=tuple(pool[i] for i in shown), worked=True)
            (before, after), place = frame_and_place(tokenizer, condition)
            some = asked[number :: fresh.N_PROMPTS]
            rests = [[*slot_ids(tokenizer, question.text, place), *after] for question in some]
            said = [tokenizer(question.steps, add_special_tokens=False).input_ids for question in some]
            scores = engine.score(list(before), rests, [[one] for one in said])
            for question, ids, (score,) in zip(some, said, scores, strict=True):
                row = {"question": question.index, "example_set": fresh.PROMPT + number, "shots": SHOTS}
                rows.append(row | {"sharpness": factor, "per_token": score / len(ids), "new_tokens": len(ids)})
    return pd.DataFrame(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gym", required=True, help="folder with reasoning-gym")
    parser.add_argument("--store", help="folder of finished batches")
    parser.add_argument("--solutions", action="store_true", help="the worked solutions too")
    parser.add_argument("--out", required=True, help="folder of the results")
    arguments = parser.parse_args()
    model, tokenizer = load()
    found = lists(arguments.gym)
    frames = [answers(model, tokenizer, some, arguments.store).assign(arm=name) for name, some in found.items()]
    if arguments.solutions:
        frames.append(solutions(model, tokenizer).assign(arm="solutions"))
    rows = pd.concat(frames, ignore_index=True)
    kept = ["question", "example_set", "shots", "arm", "sharpness", "prompt_tokens", "correct", "redundant", "computed"]
    kept += ["truncated", "new_tokens", "seconds", *(["per_token"] if "per_token" in rows else [])]
    flags = {name: rows[name].astype("boolean") for name in ("correct", "redundant", "computed", "truncated")}
    every = [question for some in found.values() for question in some]
    about = manifest_of(
        rows, "tasks", model, source="generated, reasoning-gym 0.1.25" + ", gsm8k-train" * arguments.solutions,
        command="python benchmarks/tasks.py" + " --solutions" * arguments.solutions,
        settings={"n_asked": N, "max_new_tokens": LONGEST}, **hashes(model, every),
    )  # fmt: skip
    write(rows[kept].assign(**flags), about, arguments.out)


if __name__ == "__main__":
    main()
