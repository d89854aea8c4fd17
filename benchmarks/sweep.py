"""Speed of the sweep: prompts that share their beginning, against one generate call for each with eager attentions.

    python benchmarks/sweep.py [--questions 24] [--max-new-tokens 256]

Both answer the same questions under 0 to 10 examples in one process, and must give the same answers; how many do is
printed, as is how many counts of ID differ (a weight within rounding of its threshold may fall on its other side).
"Limit" is what this project asks of itself. A batch lasts as long as its longest answer, so the ratio grows with the
number of questions: with 4 it is 2, with 8 it is 3.3, on 2 cores.
"""

import argparse
import time

import numpy as np
import torch

from geolib.models import load
from geolib.reasoning import Sweep, build_prompt, generate_questions

LIMIT = 5.0
EPS = (0.1, 0.05, 0.01)


def one_by_one(model, tokenizer, prompts, n):
    """Answer each prompt by generate, which hands over the attention maps of every token; count ID on the last row."""
    answers, counts = [], []
    model.set_attn_implementation("eager")
    for prompt in prompts:
        ids = torch.tensor([prompt])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=n,
            output_attentions=True,
            return_dict_in_generate=True,
        )
        rows = torch.stack([layer[0, :, -1] for layer in output.attentions[0]])  # [layers, heads, tokens]
        counts.append(np.stack([(rows > eps).sum((1, 2)).numpy() for eps in EPS]))
        answers.append(tokenizer.decode(output.sequences[0, len(prompt) :], skip_special_tokens=True).strip())
    model.set_attn_implementation("sdpa")
    return answers, np.stack(counts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    arguments = parser.parse_args()
    model, tokenizer = load(device="cpu")
    questions, examples = generate_questions(arguments.questions, seed=1), generate_questions(10, seed=2)
    shots, n = tuple(range(11)), arguments.max_new_tokens
    settings = {"shots": shots, "max_new_tokens": n, "eps": EPS, "progress": False}
    sweep = Sweep(model=model, tokenizer=tokenizer, questions=questions, examples=examples, **settings)
    prompts = [build_prompt(tokenizer, question.text, examples[:k]) for k in shots for question in questions]

    start = time.perf_counter()
    rows = sweep.run()
    shared = time.perf_counter() - start
    start = time.perf_counter()
    answers, counts = one_by_one(model, tokenizer, prompts, n)
    alone = time.perf_counter() - start

    same = np.mean([a == b for a, b in zip(rows.response, answers, strict=True)])
    measured = np.stack([np.stack(rows[f"id_absolute_{eps:g}"]) for eps in EPS], axis=1)
    print(f"{len(prompts)} prompts, {rows.prompt_tokens.sum()} tokens read, {rows.new_tokens.sum()} answered")
    print(f"one generate call each, eager   {alone:8.1f} s")
    print(f"sweep                           {shared:8.1f} s   {len(rows) / shared:.2f} rows a second")
    print(f"ratio                           {alone / shared:8.1f}     limit {LIMIT}")
    print(f"same answers                    {same:8.1%}     counts of ID that differ {(measured != counts).mean():.1e}")


if __name__ == "__main__":
    main()
