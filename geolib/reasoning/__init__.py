"""Part III: the GSM8K-Zero experiments."""

from geolib.later import later
from geolib.reasoning.judge import Verdict
from geolib.reasoning.reading import Reading, judge

# Everything but the judge is imported on first use: code that only needs questions does not wait for torch. The judge
# is here at once: a first import of the frozen judge's module, which has the same name, would later take its place.
_NAMES = {
    ".analysis": "Paired association binned_share holm id_change mean_change mean_over_prompts mean_rises "
    "paired_share permutation_test",
    ".claims": "findings said_of",
    ".decode": "Change",
    ".generated": "generate_questions",
    ".prompts": "Condition Frame build_prompt frame question_ids",
    ".protocol": "Split example_sets exploration_split few_shot_sweep split worked_examples",
    ".published": "add_facts all_sets as_planned asked_again choice_of load_run",
    ".questions": "Question question_facts",
    ".reading": "frozen_judge",
    ".regressions": "Effect Mediation layer_profile logistic mediation same_question top_less_bottom",
    ".sources": "available_questions load_questions",
    ".sweep": "Sweep",
    "geolib.estimates": "Estimate by_layer finding tidy",
}
__getattr__, __dir__, __all__ = later(__name__, _NAMES, Reading, Verdict, judge)
