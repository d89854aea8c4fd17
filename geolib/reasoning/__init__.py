"""Part III: the GSM8K-Zero experiments."""

from geolib.reasoning.analysis import Estimate, association, binned_share, id_change, mean_change
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
from geolib.reasoning.questions import Question, available_questions, load_questions
from geolib.reasoning.sweep import Sweep

__all__ = [
    "Condition",
    "Estimate",
    "Frame",
    "Question",
    "Split",
    "Sweep",
    "Verdict",
    "association",
    "available_questions",
    "binned_share",
    "build_prompt",
    "example_sets",
    "exploration_split",
    "few_shot_sweep",
    "frame",
    "generate_questions",
    "id_change",
    "judge",
    "load_questions",
    "mean_change",
    "question_ids",
    "split",
    "worked_examples",
]
