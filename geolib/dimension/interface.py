"""What every measurement needs of a model: its inputs checked, and its attention replaced for a while."""

import contextlib

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from geolib.checks import one_line

NOT_ROUTED = "does not route its attention through transformers' attention interface"


class UncountableError(Exception):
    """What cannot be measured; raised deep in a forward pass, it carries the reason."""


def check_model(function, model) -> None:
    """Refuse what is no transformers model; `function` opens the error."""
    if not hasattr(model, "set_attn_implementation"):
        raise TypeError(f"{function}: model is a {type(model).__name__}, but a transformers model was expected")


def check_ids(function, model, input_ids, past=0) -> torch.Tensor:
    """Token ids on the model's device, shape=[batch, tokens], that fit its vocabulary, and its window after `past`."""
    check_model(function, model)
    try:
        ids = torch.as_tensor(input_ids)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{function}: input_ids is {one_line(input_ids)}, but integers of shape [batch, tokens] were expected"
        ) from None
    ids = ids[None] if ids.ndim == 1 else ids
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(
            f"{function}: input_ids has shape {tuple(ids.shape)}, but [batch, tokens] with at least one token was "
            "expected"
        )
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"{function}: input_ids has type {ids.dtype}, but integers were expected")
    config = model.config.get_text_config()
    if ids.min() < 0 or ids.max() >= config.vocab_size:
        raise ValueError(
            f"{function}: input_ids run from {ids.min()} to {ids.max()}, but the vocabulary has {config.vocab_size}"
        )
    length, window = past + ids.shape[1], getattr(config, "max_position_embeddings", None)
    if window and 0 < window < length:
        raise ValueError(f"{function}: input_ids has {length} tokens, but the model's window is {window}")
    return ids.to(model.device, torch.long)


@contextlib.contextmanager
def attending(model, name, attend, mask):
    """Let a model attend through `attend`, without dropout or gradients; leave it as it was.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    name : str
        Under which the two functions are registered with transformers.
    attend, mask : callable
        Of the signatures of transformers' attention and mask interfaces. Without a mask function padding is ignored.

    Raises
    ------
    UncountableError
        The model bypasses the interface: by a look at its class's source, transformers decides whether it does.
    """
    if not model._can_set_attn_implementation():
        raise UncountableError(NOT_ROUTED)
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, mask)
    configs = {id(part.config): part.config for part in model.modules() if isinstance(part, PreTrainedModel)}.values()
    before = [(config, config._attn_implementation_internal) for config in configs]
    training = [module for module in model.modules() if module.training]
    try:
        model.set_attn_implementation(name)
        model.eval()  # dropout would drop edges
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
        # Parts of a model may differ: the public setter would give all of them the attention of the whole.
        for config, implementation in before:
            config._attn_implementation_internal = implementation
