"""Part III: the GSM8K-Zero experiments."""

from geolib.later import later
from geolib.reasoning.judge import Verdict, judge

# Everything but the judge (whose module has the same name as its function) is imported on first use: code that only
# needs questions does not wait for torch.
_NAMES = {
    ".analysis": "Paired association binned_share holm id_change mean_change mean_over_prompts mean_rises "
    "paired_share permutation_test",
    ".claims": "findings said_of verdicts",
    ".generated": "generate_questions",
    ".prompts": "Condition Frame build_prompt frame question_ids",
    ".protocol": "Split example_sets exploration_split few_shot_sweep split worked_examples",
    ".published": "add_facts all_sets choice_of load_run",
    ".questions": "Question question_facts",
    ".regressions": "Effect Mediation layer_profile logistic mediation same_question top_less_bottom",
    ".sources": "available_questions load_questions",
    ".sweep": "Sweep",
    "geolib.estimates": "Estimate by_layer finding tidy",
}
__getattr__, __dir__, __all__ = later(__name__, _NAMES, Verdict, judge)
