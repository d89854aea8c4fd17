"""The headline figure's numbers, computed again from the eager attention maps of single prompts."""

import dataclasses

import numpy as np
import torch
from eager import eager_maps

from geolib.reasoning import available_questions, build_prompt, few_shot_sweep, id_change


def last_rows(model, ids):
    """The last token's attention, [layers, heads, keys]."""
    return eager_maps(model, torch.tensor([ids]), queries=[-1])[0, :, :, 0]


def eager_counts(last, rule, eps=0.1):
    """ID of the last token per layer, and how many entries lie so near the threshold that rounding may move them."""
    threshold = eps if rule == "absolute" else eps * last.amax(-1, keepdim=True)
    near = ((last - threshold).abs() < 1e-4 * threshold).sum((-1, -2))
    return (last > threshold).sum((-1, -2)).numpy(), near.numpy()


def test_change_of_id_is_the_eager_one(model, tokenizer):
    questions, _ = available_questions()
    sweep = few_shot_sweep(model, tokenizer, questions, store=None, max_new_tokens=1, shots=(0, 5), progress=False)
    asked = sweep.questions[:3]
    rows = dataclasses.replace(sweep, questions=asked).run()
    assert len(rows) == 6, "one token answers nothing: all three questions go on"
    maps = {
        (question.index, k): last_rows(model, build_prompt(tokenizer, question.text, sweep.examples[:k]))
        for question in asked
        for k in (0, 5)
    }
    for rule in ("absolute", "relative"):
        counts = {key: eager_counts(last, rule) for key, last in maps.items()}
        for layer in (0, -2, -1):
            changes = id_change(rows, rule=rule, layer=layer).set_index("question").change
            for question in asked:
                (bare, bare_near), (shown, near) = (counts[question.index, k] for k in (0, 5))
                slack = bare_near[layer] + near[layer]
                assert slack <= 1
                assert abs(changes[question.index] - (shown[layer] - bare[layer])) <= slack


def test_one_number_by_hand(model, tokenizer):
    """The start page's own number: a prompt, its maps, a count in plain NumPy."""
    from geolib.dimension import attention_dimension

    ids = tokenizer("Mara picked 12 plums and half as many pears. How many plums did Mara pick?").input_ids
    counts, near = eager_counts(last_rows(model, ids), "absolute")
    assert near.sum() == 0
    np.testing.assert_array_equal(attention_dimension(model, [ids]).per_layer[0, :, 0], counts)
