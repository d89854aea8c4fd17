"""Part II: the intrinsic dimension that self-attention gives to the input of the MLP."""

import importlib

# Loaded on first use: who reads the rules alone must not wait for torch and transformers.
_HOMES = {
    "attention": ("AttentionDimension", "attention_dimension", "attention_edges", "measuring"),
    "batches": ("encode_prompts", "measure_prompts", "read_prompts"),
    "estimators": ("DimensionEstimate", "estimate_dimension"),
    "gates": ("GateRegions", "gate_hyperplanes", "gate_names", "gate_regions"),
    "heads": ("AttentionHeads", "attention_heads"),
    "minkowski": (
        *("MinkowskiCheck", "MinkowskiDimension", "eps_support"),
        *("minkowski_check", "minkowski_dimension", "token_dimension"),
    ),
    "profiles": ("dimension_profile",),
    "reach": ("MlpReach", "mlp_reach"),
    "rules": ("RULES",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'geolib.dimension' has no attribute '{name}'")
    return getattr(importlib.import_module(f"geolib.dimension.{_HOME[name]}"), name)


def __dir__():
    return __all__
