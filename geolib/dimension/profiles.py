"""Intrinsic dimension of a model's hidden states, layer by layer: one forward pass, one layer in memory at a time."""

import contextlib
import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from geolib.checks import integer, one_line
from geolib.dimension.architectures import check_model, find_blocks, find_mlps
from geolib.dimension.estimators import _n_boot, _sizes, estimate_dimension
from geolib.dimension.lm import device_of, evaluating, labelled, named, ours, prompt_ids, read


def dimension_profile(
    model,
    prompts: Sequence,
    estimator="TwoNN",
    *,
    site: str | Sequence[str] = "mlp",
    per_prompt: bool = False,
    n_points: int | None = None,
    n_neighbors: int | None = None,
    n_boot: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Estimate the intrinsic dimension of what a model's MLPs are given, at every layer.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model. It leaves the call as it entered it.
    prompts : sequence of array-like, shape=[tokens], int
        Token ids without padding, such as :func:`~geolib.dimension.encode_prompts` gives.
    estimator, n_neighbors, n_boot
        As for :func:`~geolib.dimension.estimate_dimension`.
    site : {"mlp", "residual"} or sequence of them
        What is measured: the MLP's input, after the norm; or what enters the layer, the residual stream. Both are one
        pass too.
    per_prompt : bool
        Whether each prompt's tokens are a cloud of their own (as in arXiv 2501.10573), or all prompts' tokens are one.
    n_points : int, optional
        Draw so many tokens of each cloud, the same ones for all layers; by default all are taken.
    seed : int
        For the draw, and for the estimators.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    pandas.DataFrame
        One row per site, layer and estimator (and prompt: ``prompt``, its place from 0, or the index of a Series):
        ``site``; ``layer``, from 0; ``estimator``; ``value``, ``low``, ``high`` (NaN without half-samples); ``n_used``,
        ``n_duplicates``, ``n_outliers``; ``n_first``, the first tokens of prompts, which are set aside; ``first_norm``,
        their mean norm over the median norm of the tokens in the cloud.

    Raises
    ------
    TypeError, ValueError
        As :func:`~geolib.dimension.estimate_dimension` (the layer is named), and if prompts are no token ids or have no
        tokens after the first, the model's MLPs are not found, or its states are not finite.

    Notes
    -----
    A first token sees nothing but itself, and often has a norm of another order: it is no sample of the cloud.

    Tokens that follow upon the same text have the same state, up to the rounding of a batch. So a token counts once for
    all prompts that begin alike: the others are among ``n_duplicates``, in every layer, beside the rows that are equal
    in that layer only.

    Prompts run one by one. States are written to a temporary file in float32, 4 * layers * points * width bytes, and
    read layer by layer.

    Examples
    --------
    >>> from geolib.dimension import encode_prompts
    >>> from geolib.models import load
    >>> model, tokenizer = load()
    >>> prompts = encode_prompts(tokenizer, ["A cloud of tokens is a set of points. " * 4])
    >>> profile = dimension_profile(model, prompts, ["TwoNN", "MLE"])
    >>> len(profile) == 2 * 30, profile.n_first.unique().tolist()
    (True, [1])
    """
    _sizes(estimator, n_neighbors), _n_boot(n_boot)  # before the work begins
    n_points = None if n_points is None else integer("dimension_profile: n_points", n_points, 2)
    seed = integer("dimension_profile: seed", seed, 0)
    entrances = _entrances(model, [site] if isinstance(site, str) else site)
    prompts = labelled("dimension_profile: prompts", prompts)
    ids = [prompt_ids(name, one, model) for name, one in named("dimension_profile", prompts)]
    clouds = [(label, [one]) for label, one in zip(prompts.index, ids, strict=True)] if per_prompt else [(None, ids)]
    rows = []
    with tqdm(total=len(ids), desc="prompts", unit="", disable=not progress) as bar:
        for label, cloud in clouds:
            places, n_repeated = _draw(cloud, n_points, np.random.default_rng(seed))
            with tempfile.TemporaryDirectory() as folder:
                first = _spill(model, entrances, cloud, places, Path(folder), bar)
                for (where, layer), norms in first.items():
                    points = np.fromfile(Path(folder) / f"{where}-{layer}", np.float32)
                    points = points.reshape(sum(map(len, places)), -1)
                    row = {} if label is None else {"prompt": label}
                    row |= {"site": where, "layer": layer}
                    first_norm = np.mean(norms) / np.median(np.linalg.norm(points, axis=1))
                    for name, one in _estimates(row, points, estimator, n_neighbors, n_boot, seed):
                        low, high = one.interval or (np.nan, np.nan)
                        found = {"estimator": name, "value": one.value, "low": low, "high": high}
                        found |= {"n_used": one.n_used, "n_duplicates": one.n_duplicates + n_repeated}
                        found |= {"n_outliers": one.n_outliers, "n_first": len(cloud), "first_norm": first_norm}
                        rows.append(row | found)
    return pd.DataFrame(rows)


def _estimates(row, points, estimator, n_neighbors, n_boot, seed):
    """Pairs of a name and its estimate; errors say where."""
    names = [estimator] if isinstance(estimator, str) else estimator
    try:
        return estimate_dimension(points, names, n_neighbors=n_neighbors, n_boot=n_boot, seed=seed).items()
    except ValueError as error:
        where = ", ".join(f"{kind} {which}" for kind, which in row.items() if kind != "site")
        reason = str(error).removeprefix("estimate_dimension: ")
        raise ValueError(f"dimension_profile: {where}: {reason}") from None


def _draw(cloud, n_points, rng):
    """Which tokens of each prompt are points, and how many are none because another prompt begins alike.

    >>> [place.tolist() for place in _draw([(5, 6, 7), (5, 6, 8)], None, None)[0]]
    [[1, 2], [2]]
    """
    known, n_repeated, places = {}, 0, []
    for ids in cloud:
        text, fresh = 0, []  # a number for each text that some prompt begins with
        for place, token in enumerate(ids):
            n_known = len(known)
            text = known.setdefault((text, token), n_known + 1)
            if place and len(known) > n_known:
                fresh.append(place)
            elif place:
                n_repeated += 1
        places.append(np.array(fresh, dtype=int))
    ends = np.cumsum([len(place) for place in places])
    if not ends[-1]:
        raise ValueError("dimension_profile: prompts have no token after the first, expected more of them")
    if n_points is not None and n_points < ends[-1]:
        drawn = np.isin(np.arange(ends[-1]), rng.choice(ends[-1], n_points, replace=False))
        places = [place[chosen] for place, chosen in zip(places, np.split(drawn, ends[:-1]), strict=True)]
    return places, n_repeated


def _spill(model, entrances, cloud, places, folder, bar):
    """Run the prompts; the states at ``places`` go to a file for each entrance. Norms of first tokens, by entrance."""
    first = {entrance: [] for entrance in entrances}
    running = 0  # the prompt
    with contextlib.ExitStack() as stack:

        def enter(entrance, file, module, args, kwargs):
            given = args[0] if args else kwargs["hidden_states"]
            states = given.reshape(-1, given.shape[-1]).float().cpu().numpy()
            if not np.isfinite(states).all():
                raise ValueError(f"dimension_profile: model gives NaN or infinite states in layer {entrance[1]}")
            if len(states) == len(cloud[running]):
                first[entrance].append(np.linalg.norm(states[0]))
            file.write(states[places[running]].tobytes())

        for (site, layer), module in entrances.items():
            file = stack.enter_context((folder / f"{site}-{layer}").open("wb"))
            hook = ours(functools.partial(enter, (site, layer), file))
            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        stack.enter_context(evaluating(model))
        for running, ids in enumerate(cloud):  # noqa: B007 -- the hooks read it
            read(model, input_ids=torch.tensor([ids], device=device_of(model)))
            bar.update()
    for (_, layer), norms in first.items():
        if len(norms) != len(cloud):
            raise ValueError(
                f"dimension_profile: model enters layer {layer} other than once, with all tokens of a prompt"
            )
    return first


def _entrances(model, sites):
    """Modules that are given what is measured, by site and layer."""
    check_model("dimension_profile", model)
    if not sites or not set(sites) <= {"mlp", "residual"}:
        raise ValueError(f"dimension_profile: site is {one_line(sites)}, expected 'mlp', 'residual' or both")
    blocks = find_blocks(model)
    found = {"residual": blocks, "mlp": find_mlps(blocks)}
    entrances = {(site, layer): module for site in sites for layer, module in enumerate(found[site])}
    if not entrances or None in entrances.values():
        what = f"{len(blocks)} MLPs" if blocks else "layers"
        raise ValueError(f"dimension_profile: model is a {type(model).__name__}, whose {what} were not found")
    return entrances
