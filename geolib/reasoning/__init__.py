"""Part III: the GSM8K-Zero experiments."""

import importlib
from typing import Any

from geolib.reasoning.judge import Verdict, judge

# Everything but the judge (whose module has the same name as its function) is imported on first use: code that only
# needs questions does not wait for torch.
_LATER = {
    "analysis": "Paired association binned_share holm id_change mean_change mean_rises paired_share permutation_test",
    "claims": "findings verdicts",
    "generated": "generate_questions",
    "prompts": "Condition Frame build_prompt frame question_ids",
    "protocol": "Split example_sets exploration_split few_shot_sweep split worked_examples",
    "published": "add_facts all_sets choice_of load_run",
    "questions": "Question available_questions load_questions question_facts",
    "regressions": "Effect Mediation layer_profile logistic mediation same_question top_less_bottom",
    "resampling": "Estimate",
    "sweep": "Sweep",
}
_HOMES = {name: home for home, names in _LATER.items() for name in names.split()}

__all__ = ["Verdict", "judge"]
__all__ += _HOMES


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"geolib.reasoning.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'geolib.reasoning' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
