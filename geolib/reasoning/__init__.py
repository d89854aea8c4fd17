"""Part III: the GSM8K-Zero experiments."""

import importlib

from geolib.reasoning.generated import generate_questions
from geolib.reasoning.judge import Verdict, judge
from geolib.reasoning.prompts import Condition, Frame, build_prompt, frame, question_ids
from geolib.reasoning.protocol import Split, example_sets, exploration_split, few_shot_sweep, split, worked_examples
from geolib.reasoning.questions import Question, available_questions, load_questions, question_facts

# What stands on torch or statsmodels is imported on first use: whoever asks for questions must not wait for them.
_LATER = {
    "analysis": "Paired association binned_share holm id_change mean_change paired_share "
    "permutation_test",
    "choosing": "choice_of mean_rises rises",
    "claims": "findings verdicts",
    "regressions": "Effect Mediation layer_profile logistic mediation same_question top_less_bottom",
    "resampling": "Estimate",
    "runs": "Part Runs add_facts all_sets load_run publish",
    "sweep": "Sweep",
}
_HOMES = {name: home for home, names in _LATER.items() for name in names.split()}

__all__ = [
    "Condition",
    "Frame",
    "Question",
    "Split",
    "Verdict",
    "available_questions",
    "build_prompt",
    "example_sets",
    "exploration_split",
    "few_shot_sweep",
    "frame",
    "generate_questions",
    "judge",
    "load_questions",
    "question_facts",
    "question_ids",
    "split",
    "worked_examples",
]
__all__ += _HOMES


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"geolib.reasoning.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'geolib.reasoning' has no attribute '{name}'")


def __dir__():
    return sorted(__all__)
