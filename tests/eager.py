"""What the counts are held against."""

import torch


def eager_maps(model, input_ids, attention_mask=None, queries=slice(None)):
    """Every attention map, [batch, layers, heads, queries, tokens]: the memory that geolib spares."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model.base_model(
            input_ids=input_ids, attention_mask=attention_mask, output_attentions=True, use_cache=False
        ).attentions
    model.set_attn_implementation(before)
    return torch.stack([one[:, :, queries] for one in maps], dim=1).float()
