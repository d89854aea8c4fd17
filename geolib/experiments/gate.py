"""Behind the gate of H3 (book/plan-sharper.md): whether it is the sharpness, where, and what orders the gains."""

import copy
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from geolib.experiments.fresh import FACTOR, SEED, contrast
from geolib.reasoning import Estimate, holm
from geolib.reasoning.decode import DURING, Change
from geolib.reasoning.published import GROUPS, sharpened
from geolib.typing import Model

# Standard deviation of noise on the scores that lowers the mean entropy of the heads as much as the factor does.
NOISE = 1.9
UNCHANGED, ALL = "unchanged", "all layers"


def arms(depth: int, n_heads: int) -> dict[str, Change]:
    """Ways to change attention that are compared with sharper attention: parts of the pass, and controls of equal size.

    Parameters
    ----------
    depth, n_heads : int
        Number of layers, and of heads in each.

    Returns
    -------
    dict of str to Change
        By name. In the first "mixed" arm half of the heads get the factor squared and the others 1: the geometric mean
        is the factor. In the second, half get the factor and the others its inverse: the geometric mean is 1.
    """
    rng = np.random.default_rng([SEED, 5])
    turns = rng.permutation(np.exp(np.log(FACTOR) * np.resize([1, -1], depth * n_heads))).reshape(depth, n_heads)
    every, *thirds = (sharpened(depth, FACTOR, group) for group in GROUPS)
    third = {name: Change(sharpness=layers) for name, layers in zip([*GROUPS][1:], thirds, strict=True)}
    parts = {during: Change(sharpness=every, during=during) for during in DURING[1:]}
    mixed = {
        name: Change(sharpness={layer: tuple(factors.tolist()) for layer, factors in enumerate(turns * mean)})
        for name, mean in {"mixed, mean 1.25": FACTOR, "mixed, mean 1": 1}.items()
    }
    return parts | third | mixed | {"noise": Change(noise=NOISE), "output": Change(output=FACTOR)}


def roughened(model: Model, steps: float, *, seed: int = SEED) -> Model:
    """Copy a model whose weights were rounded to 16 values in each block of 32, with noise of as many rounding steps.

    The noise is uniform, with the width that the error of rounding with that step has. The step of a block (Q4_1) is a
    fifteenth of its range. Only the projections of attention and MLP are changed.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        In float32, expanded from such a file.
    steps : float
        Width of the noise, in steps.
    seed : int

    Returns
    -------
    transformers.PreTrainedModel
    """
    rough: Any = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in rough.named_parameters():
            if name.endswith("_proj.weight"):
                blocks = weight.view(-1, 32)
                step = (blocks.amax(1, keepdim=True) - blocks.amin(1, keepdim=True)) / 15
                blocks += steps * step * (torch.rand(blocks.shape, generator=generator) - 0.5)
    return rough


def beside(rows: pd.DataFrame, sharper: pd.DataFrame, *, layer: int = -2) -> pd.DataFrame:
    """Put the rows of "sharper" of the same questions, with both factors, beside those of a run behind the gate.

    Parameters
    ----------
    rows, sharper : pandas.DataFrame
        As :func:`geolib.reasoning.load_run` returns them.
    layer : int
        Where ID is read.

    Returns
    -------
    pandas.DataFrame
        With ``arm`` ("unchanged" and "all layers" of "sharper"; the others' own, or ""), ``mean_entropy`` (nats, over
        all heads), and ``relative`` and ``absolute``: ID of that rule and layer.
    """
    own = sharper[(sharper.shots > 0) & sharper.question.isin(rows.question)]
    own = own.assign(
        arm=np.where(own.sharpness > 1, ALL, UNCHANGED),
        mean_entropy=[float(np.mean(cell, dtype=float)) for cell in own.entropy],
    )
    both = pd.concat([own, rows.assign(arm=rows.get("arm", ""))], ignore_index=True)
    of_id = {rule: [int(cell[layer]) for cell in both[f"id_{rule}_0.1"]] for rule in ("relative", "absolute")}
    return both.assign(**of_id)


def gains(rows: pd.DataFrame, columns: Mapping[str, str], **draws: Any) -> dict[tuple[str, str], Estimate]:
    """Estimate what each arm adds, against the unchanged attention, to several columns.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of :func:`beside`.
    columns : mapping of str to str
        Columns, by the name that they are given in the result.
    **draws
        As for :func:`geolib.experiments.fresh.contrast`.

    Returns
    -------
    dict of (str, str) to Estimate
        By arm, and by name of the column.
    """
    arms = [arm for arm in dict.fromkeys(rows.arm) if arm != UNCHANGED]
    return {
        (arm, name): contrast(rows, {UNCHANGED: -1, arm: 1}, by="arm", y=y, **draws)
        for arm in arms
        for name, y in columns.items()
    }


def order(x: Any, y: Any) -> tuple[float, float]:
    """Spearman's rank correlation over a few arms, and its two-sided p-value over all orders of one of them.

    >>> rho, p = order([1, 2, 3, 4], [10, 20, 30, 40])
    >>> round(rho, 3), round(p, 3)
    (1.0, 0.083)

    Parameters
    ----------
    x, y : sequences of float
        At most 10 values each.

    Returns
    -------
    tuple of float
    """
    one, other = (stats.zscore(stats.rankdata(values)) for values in (x, y))
    if len(one) > 10:
        raise ValueError(f"order: x has {len(one)} values, but at most 10, whose orders can be listed, were expected")
    rho = float(one @ other) / len(one)
    every = np.fromiter(itertools.chain.from_iterable(itertools.permutations(range(len(one)))), np.int8)
    found = sum(one[j] * other[every.reshape(-1, len(one))[:, j]] for j in range(len(one))) / len(one)
    return rho, float(np.mean(np.abs(found) >= abs(rho) - 1e-9))


def _error(estimate):
    return (estimate.high - estimate.low) / (2 * stats.norm.ppf(0.975))


def p_value(estimate: Estimate) -> float:
    """Two-sided p-value against 0, by the normal approximation, of an estimate whose interval is one of 95 %."""
    return float(2 * stats.norm.sf(abs(estimate.value) / _error(estimate)))


def difference(one: Estimate, other: Estimate) -> Estimate:
    """Difference of two estimates of separate questions, with a normal interval of 95 %; ``n`` is the smaller one's."""
    value, half = one.value - other.value, stats.norm.ppf(0.975) * np.hypot(_error(one), _error(other))
    return Estimate(value, float(value - half), float(value + half), min(one.n, other.n))


def corrected(p: Mapping[str, float], n_tests: int = 8) -> dict[str, float]:
    """Holm's correction of the tests that were run, among all that the plan lists: a test not yet run counts as one."""
    adjusted = holm([*p.values(), *[1.0] * (n_tests - len(p))])
    return dict(zip(p, adjusted[: len(p)], strict=True))
