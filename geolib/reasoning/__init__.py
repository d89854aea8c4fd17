"""Part III: the GSM8K-Zero experiments."""

from geolib.reasoning.analysis import Estimate, association, binned_share, id_change, mean_change
from geolib.reasoning.generated import generate_questions
from geolib.reasoning.judge import Verdict, judge
from geolib.reasoning.prompts import build_prompt
from geolib.reasoning.protocol import exploration_split, few_shot_sweep
from geolib.reasoning.questions import Question, available_questions, load_questions
from geolib.reasoning.sweep import Sweep

__all__ = [
    "Estimate",
    "Question",
    "Sweep",
    "Verdict",
    "association",
    "available_questions",
    "binned_share",
    "build_prompt",
    "exploration_split",
    "few_shot_sweep",
    "generate_questions",
    "id_change",
    "judge",
    "load_questions",
    "mean_change",
]
