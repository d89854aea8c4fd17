"""What a model computes, as a hash: configuration, weights, and all else that changes its function.

Kept rows are found by it. What no hash can cover, such as hooks, is named, so that no row is kept.
"""

import contextlib
import copy
import dis
import hashlib
import inspect
import json
from functools import partial
from numbers import Number
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from geolib.typing import Model

_TRUSTED = ("transformers", "peft", "accelerate")  # the effect of their hooks follows from configuration and weights
_OWN = vars(torch.nn.Module()).keys()  # attributes of every module


def fingerprint(model: Model) -> str:
    """Hash of a model's configuration and of every weight: the part of a row's key that identifies the model.

    The hash covers everything that changes the function that the model computes, as far as it can be hashed. Besides
    configuration and weights these are: the classes, plain settings (numbers, texts, tensors) and unsaved buffers of
    its modules where they differ from those of a new model with the same configuration (adapters and whether they are
    active, merged or scaled; quantised and replaced modules); autocast; and the precision of float32 products.
    :func:`check_storable` refuses models with parts that cannot be hashed, such as hooks.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Its name and path do not count, nor the version of transformers that wrote its configuration, nor whether its
        weights are offloaded.

    Returns
    -------
    str
        SHA-256 in hexadecimal digits.
    """
    config = {k: v for k, v in model.config.to_dict().items() if k not in ("transformers_version", "_name_or_path")}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    weights = model.state_dict()
    if any(isinstance(weight, torch.Tensor) and weight.is_meta for weight in weights.values()):
        from accelerate.utils.modeling import get_state_dict_offloaded_model

        weights = get_state_dict_offloaded_model(model)
    for name, weight in sorted(weights.items()):
        _digest(digest, name, weight)
    if differences := _differences(model):
        digest.update(json.dumps(differences, sort_keys=True, default=sorted).encode())
    return digest.hexdigest()


def _digest(digest: Any, name: str, weight: Any) -> None:
    """Add one entry of a state_dict to a hash: a tensor, or what a quantised module keeps in place of a tensor."""
    if isinstance(weight, tuple | list):
        for part in weight:
            _digest(digest, name, part)
    elif hasattr(weight, "__tensor_flatten__"):  # such as torchao's tensors, which are made of others
        parts, context = weight.__tensor_flatten__()
        _digest(digest, name, [weight.dtype, context, *(getattr(weight, part) for part in parts)])
    elif not isinstance(weight, torch.Tensor):
        digest.update(f"{name} {weight}".encode())
    else:
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        weight = weight.dequantize() if weight.is_quantized else weight
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def _differences(model: Any) -> dict:
    """Classes and settings of modules that differ from those of a new model with the same configuration."""
    from transformers import PreTrainedModel

    base = next((part for part in model.modules() if isinstance(part, PreTrainedModel)), model)
    try:
        with torch.device("meta"):
            made = dict(type(base)(copy.deepcopy(base.config)).named_modules())
        for parent in filter(lambda part: isinstance(part, PreTrainedModel), made.values()):
            _fill_buffers(parent)
    except Exception:  # a class of somebody's own, for instance: then all modules are described
        made = {}
    own, changed = {part: name for name, part in base.named_modules()}, dict[str, Any]()
    for name, part in model.named_modules():
        fresh, settings = made.get(own.get(part)), _settings(part)
        if fresh is None or settings != _settings(fresh):
            changed[name] = settings
        # Scaling for long texts keeps buffers that depend on the length of the last text, and recomputes them.
        for key in () if "longrope" in str(vars(part).get("rope_type")) else part._non_persistent_buffers_set:
            value, other = (None if one is None else one._buffers.get(key) for one in (part, fresh))
            if value is not None and not value.is_meta and (other is None or not _close(value, other)):
                changed[f"{name}.{key}"] = plain(value)
    kind = next((weight.device.type for weight in model.parameters() if not weight.is_meta), "cpu")
    if torch.is_autocast_enabled(kind):
        changed["autocast"] = str(torch.get_autocast_dtype(kind))
    # torch.set_float32_matmul_precision may let products of float32 be rounded as in a shorter type.
    products = getattr(torch.backends.cuda if kind == "cuda" else torch.backends.mkldnn, "matmul", None)
    if (precision := getattr(products, "fp32_precision", "none")) not in ("none", "ieee"):
        changed["products"] = precision
    return changed


@torch.no_grad()
def _fill_buffers(parent: Any) -> None:
    """Compute the buffers that no file of weights holds, as loading does, in a model made on the meta device."""
    for part in filter(lambda part: part._non_persistent_buffers_set, parent.modules()):
        part._buffers |= {key: torch.zeros_like(part._buffers[key], device="cpu") for key in part._buffers}
        parent._init_weights(part)


def _close(value: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two buffers are equal up to the rounding of different devices."""
    value, other = value.detach().cpu().double(), other.double()
    return value.shape == other.shape and torch.allclose(value, other, rtol=1e-6, atol=0)


def _settings(module: Any) -> dict:
    # Attributes in which transformers records how, and from where, a model was loaded do not count.
    passing = {"gradient_checkpointing", "_is_hf_initialized", "name_or_path", "hf_device_map", "warnings_issued"}
    passing |= {"forward", "_old_forward", "_use_kernels", "_weight_conversions", "_output_capturing_hooks_installed"}
    passing |= {"prepare_inputs_for_generation", "extra_repr", *_OWN}
    settings = {"class": f"{type(module).__module__}.{type(module).__qualname__}"}
    held = {name: value for name, value in vars(module).items() if name not in passing and "cached" not in name}
    # A class of somebody's own may be redefined under the same name, so the code of its methods counts too.
    own = [kind for kind in type(module).__mro__ if _home(kind) not in (*_TRUSTED, "torch", "builtins")]
    for method in (value for kind in own for value in vars(kind).values() if isinstance(value, FunctionType)):
        read = inspect.getclosurevars(method)
        told = {"code": method.__code__, "defaults": method.__defaults__, **read.nonlocals, **read.globals}
        held |= {f"{method.__qualname__} {name}": value for name, value in told.items()}
    for name, value in held.items():
        with contextlib.suppress(TypeError, ValueError, RecursionError, AttributeError):
            # peft writes a single active adapter as a text or as a list.
            settings[name] = plain([value] if name == "active_adapter" and isinstance(value, str) else value)
    return settings


def plain(value: Any) -> Any:
    """Represent a value in JSON so that equal representations mean equal behaviour.

    A function of torch, numpy, math, transformers, peft or accelerate is represented by its name; any other function by
    its code with everything that the code reads: constants, defaults, enclosed variables and globals.

    Parameters
    ----------
    value : object
        Numbers, texts, tensors, functions, and collections of them.

    Returns
    -------
    object
        What :func:`json.dumps` accepts.

    Raises
    ------
    TypeError, ValueError, RecursionError, AttributeError
        ``value`` is, or contains, something else.
    """
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, torch.Tensor | np.ndarray):
        tensor, digest = torch.as_tensor(value), hashlib.sha256()
        _digest(digest, "", str(tensor.shape) if tensor.is_meta else tensor)
        return digest.hexdigest()
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in (sorted(value, key=repr) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Number | bytes | slice | torch.dtype | type(...)):
        return repr(value)
    if isinstance(value, partial):
        return plain([value.func, value.args, value.keywords])
    if _home(value) in (*_TRUSTED, "torch", "numpy", "math"):
        return f"{getattr(value, '__module__', '')}.{value.__name__}"
    if isinstance(value, CodeType):
        return plain([value.co_code, value.co_names, value.co_consts])
    if not isinstance(value, FunctionType):
        raise TypeError(f"plain: value is {type(value).__name__}, but a number, text, tensor or function was expected")
    read = {name: value.__globals__[name] for name in _globals(value.__code__) if name in value.__globals__}
    enclosed = [cell.cell_contents for cell in value.__closure__ or ()]
    return plain([value.__code__, value.__defaults__, value.__kwdefaults__, enclosed, read])


def _globals(code: CodeType) -> set[str]:
    """Names of the globals that code, and code nested in it, reads."""
    inner = [_globals(const) for const in code.co_consts if isinstance(const, CodeType)]
    return {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}.union(*inner)


def _home(called: Any) -> str:
    """Name of the package that a function, class or object comes from."""
    called = getattr(called, "func", called)
    own = called.__name__ if isinstance(called, ModuleType) else getattr(called, "__module__", "")
    return str(getattr(called, "__globals__", {}).get("__name__", own)).split(".")[0]


def check_storable(function: str, model: Model) -> None:
    """Refuse to keep rows of a model whose behaviour its hash does not cover; `function` prefixes the message.

    Parameters
    ----------
    function : str
    model : transformers.PreTrainedModel

    Raises
    ------
    ValueError
        The model has hooks, or a ``forward`` that replaces its class's own, other than those of transformers, peft and
        accelerate; or a module holds a callable that is neither theirs nor torch's.
    """
    for name, module in [("", torch.nn.modules.module), *model.named_modules()]:
        for one in _untold(module):
            found = f"{one!r:.60} on {name or 'the whole'!r}, which a row's key cannot cover"
            raise ValueError(f"{function}: model has {found}, but no hooks, or no store, were expected")


def _untold(module):
    """Yield what a module calls that neither its weights nor its plain settings describe."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_global_forward_hooks", "_global_forward_pre_hooks")
    called = [hook for kind in kinds for hook in getattr(module, kind, {}).values()]
    if isinstance(module, torch.nn.Module):
        owner = next(kind for kind in type(module).__mro__ if "forward" in vars(kind))
        layer, usual = owner.forward, (*_TRUSTED, "torch", owner.__module__.split(".")[0])
        while layer:  # its wrappers, such as torch.no_grad(), and the wrapped function
            called += [layer] if _home(layer) not in usual else []
            layer = getattr(layer, "__wrapped__", None)
        held = {name: value for name, value in vars(module).items() if name not in (*_OWN, "extra_repr")}
        instead = filter(None, [held.pop("forward", None), held.pop("_old_forward", None)])
        called += [one for one in instead if getattr(one, "__func__", one) is not owner.forward]
        hook = held.pop("_hf_hook", None)
        called += map(type, getattr(hook, "hooks", [hook] if hook else []))
        for value in held.values():
            inside = [*value.values()] if isinstance(value, dict) else value
            yield from filter(_unknown, inside if isinstance(inside, list | tuple) else [value])
    yield from (one for one in called if _home(one) not in _TRUSTED)


def _unknown(value: Any) -> bool:
    """Whether a value can be called, and no settings describe what the call does."""
    with contextlib.suppress(TypeError, ValueError, RecursionError, AttributeError):
        return callable(value) and (plain(value) is None or _home(value) not in (*_TRUSTED, "torch"))
    return True
