"""Part II: the intrinsic dimension that self-attention gives to the input of the MLP."""

from geolib.dimension.attention import (
    AttentionDimension,
    attention_dimension,
    attention_edges,
    measuring,
)
from geolib.dimension.batches import encode_prompts, measure_prompts, read_prompts
from geolib.dimension.estimators import DimensionEstimate, estimate_dimension
from geolib.dimension.heads import AttentionHeads, attention_heads
from geolib.dimension.minkowski import (
    MinkowskiCheck,
    MinkowskiDimension,
    eps_support,
    minkowski_check,
    minkowski_dimension,
    token_dimension,
)
from geolib.dimension.profiles import dimension_profile
from geolib.dimension.reach import MlpReach, mlp_reach

__all__ = [
    "AttentionDimension",
    "AttentionHeads",
    "DimensionEstimate",
    "MinkowskiCheck",
    "MinkowskiDimension",
    "MlpReach",
    "attention_dimension",
    "attention_edges",
    "attention_heads",
    "dimension_profile",
    "encode_prompts",
    "eps_support",
    "estimate_dimension",
    "measure_prompts",
    "measuring",
    "minkowski_check",
    "minkowski_dimension",
    "mlp_reach",
    "read_prompts",
    "token_dimension",
]
