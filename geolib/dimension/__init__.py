"""Part II: the intrinsic dimension that self-attention gives to the input of the MLP."""

from geolib.later import later

# Names are imported on first use: the rules alone must not wait for torch and transformers.
_NAMES = {
    ".attention": "AttentionDimension attention_dimension attention_edges measuring",
    ".batches": "encode_prompts measure_prompts read_prompts",
    ".estimators": "DimensionEstimate estimate_dimension",
    ".gates": "GateRegions MlpParts gate_hyperplanes gate_names gate_regions isotropic_gates isotropic_gates_around"
    " mlp_parts",
    ".heads": "AttentionHeads attention_heads",
    ".minkowski": "MinkowskiCheck MinkowskiDimension eps_support minkowski_check minkowski_dimension token_dimension",
    ".profiles": "dimension_profile",
    ".reach": "MlpReach mlp_reach",
    ".rules": "RULES",
}
__getattr__, __dir__, __all__ = later(__name__, _NAMES)
