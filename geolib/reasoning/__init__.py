"""Part III: the GSM8K-Zero experiments."""

from geolib.reasoning.analysis import (
    Paired,
    association,
    binned_share,
    holm,
    id_change,
    mean_change,
    paired_share,
    permutation_test,
)
from geolib.reasoning.choosing import choice_of, mean_rises, rises
from geolib.reasoning.claims import findings, verdicts
from geolib.reasoning.generated import generate_questions
from geolib.reasoning.judge import Verdict, judge
from geolib.reasoning.prompts import Condition, Frame, build_prompt, frame, question_ids
from geolib.reasoning.protocol import (
    Split,
    example_sets,
    exploration_split,
    few_shot_sweep,
    split,
    worked_examples,
)
from geolib.reasoning.questions import Question, available_questions, load_questions, question_facts
from geolib.reasoning.regressions import (
    Effect,
    Mediation,
    layer_profile,
    logistic,
    mediation,
    same_question,
    top_less_bottom,
)
from geolib.reasoning.resampling import Estimate
from geolib.reasoning.runs import Part, Runs, add_facts, all_sets, load_run, publish
from geolib.reasoning.sweep import Sweep

__all__ = [
    "Condition",
    "Effect",
    "Estimate",
    "Frame",
    "Mediation",
    "Paired",
    "Part",
    "Question",
    "Runs",
    "Split",
    "Sweep",
    "Verdict",
    "add_facts",
    "all_sets",
    "association",
    "available_questions",
    "binned_share",
    "build_prompt",
    "choice_of",
    "example_sets",
    "exploration_split",
    "few_shot_sweep",
    "findings",
    "frame",
    "generate_questions",
    "holm",
    "id_change",
    "judge",
    "layer_profile",
    "load_questions",
    "load_run",
    "logistic",
    "mean_change",
    "mean_rises",
    "mediation",
    "paired_share",
    "permutation_test",
    "publish",
    "question_facts",
    "question_ids",
    "rises",
    "same_question",
    "split",
    "top_less_bottom",
    "verdicts",
    "worked_examples",
]
