"""Part II: the intrinsic dimension that self-attention gives to the input of the MLP."""

from geolib.dimension.attention import (
    AttentionDimension,
    attention_dimension,
    attention_edges,
    measuring,
)

__all__ = ["AttentionDimension", "attention_dimension", "attention_edges", "measuring"]
