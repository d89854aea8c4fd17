"""Discs in a box that move by simple laws, exactly, and how far a prediction of them is from the truth.

Lengths are in sides of the box, which is [0, 1] x [0, 1] with y upwards; times are in frames; masses are 1.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from geolib.checks import choice, expect, finite_array, integer

RADIUS = 0.05  # of a disc
GRAVITY = 0.004  # of the law "falls"
SPEED = (0.012, 0.022)  # speeds at the first frame, by default
LAWS = {"drifts": 1, "bounces": 1, "falls": 1, "collide": 2}  # number of balls
_LOW, _HIGH, _SPAN = RADIUS, 1 - RADIUS, 1 - 2 * RADIUS


def move(start: ArrayLike, velocity: ArrayLike, *, law: str, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Move discs from a given state by a law, exactly: closed forms, and for collisions one event after the other.

    Parameters
    ----------
    start, velocity : array-like, shape=[n, balls, 2]
        Centres at the first frame, and velocities in sides of the box per frame.
    law : {"drifts", "bounces", "falls", "collide"}
        ``"drifts"``: uniform motion. ``"bounces"``: the same between elastic walls. ``"falls"``: with gravity too.
        ``"collide"``: two discs of equal mass that bounce elastically off the walls and off each other. Under the other
        laws balls do not meet.
    frames : int
        Number of frames; the first one is the start.

    Returns
    -------
    positions, velocities : array, shape=[n, frames, balls, 2]

    Raises
    ------
    TypeError, ValueError
        If shapes do not fit, a number is not finite, a disc is outside the box or leaves it, or discs overlap.

    Examples
    --------
    >>> positions, velocities = move([[[0.9, 0.5]]], [[[0.1, 0]]], law="bounces", frames=3)
    >>> positions[0, :, 0, 0].round(2).tolist(), velocities[0, :, 0, 0].round(2).tolist()
    ([0.9, 0.9, 0.8], [0.1, -0.1, -0.1])
    """
    x, v = finite_array("move: start", start), finite_array("move: velocity", velocity)
    t, two = np.arange(integer("move: frames", frames, 1))[:, None, None], choice("move: law", law, *LAWS) == "collide"
    fits = x.ndim == 3 and x.shape == v.shape and x.shape[2] == 2 and x.size and not (two and x.shape[1] != 2)
    expect(fits, f"move: start and velocity have shapes {x.shape} and {v.shape}", f"[n, {'2' if two else 'balls'}, 2]")
    fast = np.abs(v).max()
    expect(fast <= _SPAN, f"move: velocity goes up to {fast:g}", f"at most {_SPAN:g}, across the box in a frame,")
    expect_inside("move: start", x, RADIUS)
    if two:
        apart = np.linalg.norm(x[:, 1] - x[:, 0], axis=-1).min()
        expect(apart > 2 * RADIUS - 1e-9, f"move: start has centres {apart:g} apart", f"at least {2 * RADIUS:g}")
        return _collide(x, v, frames)
    x, v = x[:, None], v[:, None] + 0 * t
    if law == "drifts":
        expect_inside("move: a drifting disc", x + v * t, RADIUS)
        return x + v * t, v
    height, v = _between(x - RADIUS, v, t, np.array([0, GRAVITY if law == "falls" else 0]))
    return RADIUS + height, v


def expect_inside(name: str, x: np.ndarray, margin: float = 0.0) -> None:
    """Refuse centres nearer to a wall than `margin`, or outside the box; `name` prefixes the message."""
    worst = x.flat[np.abs(x - 0.5).argmax()]
    expected = f"inside the box, {margin:g} to {1 - margin:g},"
    expect(abs(worst - 0.5) <= 0.5 - margin + 1e-9, f"{name} has a centre at {worst:g}", expected)


def _between(h, v, t, g):
    """Bounce between a floor and a ceiling under gravity g: heights above the floor and velocities after times t.

    A period is the way up and the same way down. After a time s from the floor the height is f s - g s^2 / 2, where f
    is the speed at the floor; the height h is reached after 2 h / (f + speed at h).
    """
    fast = np.sqrt(v**2 + 2 * g * h)
    still = fast < 1e-100  # moves by less than rounding, whatever the time, and squares would underflow
    fast = np.where(still, 1, fast)
    spare = fast**2 - 2 * g * _SPAN  # square of the speed at the ceiling, or below 0
    rise = np.where(spare > 0, 2 * _SPAN / (fast + np.sqrt(spare.clip(0))), fast / np.where(g > 0, g, 1))
    s = (np.where(v < 0, -1, 1) * 2 * h / (fast + np.abs(v)) + t) % (2 * rise)
    sign, s = np.where(s <= rise, 1, -1), np.minimum(s, 2 * rise - s)
    return np.where(still, h, fast * s - g * s**2 / 2), np.where(still, 0, sign * (fast - g * s))


def _collide(x, v, frames):
    """Go from event to event: a disc meets a wall, or the two meet and exchange their velocities along the line."""
    path, far = [(x, v)], np.inf
    for _ in range(frames - 1):
        left = np.ones((len(x), 1, 1))  # time to the next frame
        while left.any():
            wall = np.where(v == 0, far, np.where(v > 0, _HIGH - x, x - _LOW) / np.where(v == 0, 1, np.abs(v)))
            d, w = np.diff(x, axis=1), np.diff(v, axis=1)
            a, b, c = ((p * q).sum(-1, keepdims=True) for p, q in ((w, w), (d, w), (d, d)))
            root, c = b**2 - a * (c - 4 * RADIUS**2), c - 4 * RADIUS**2
            near = (b < 0) & (root > 0)
            meet = np.where(near, c / np.where(near, np.sqrt(root.clip(0)) - b, 1), far)
            step = np.minimum(np.minimum(wall.min((1, 2), keepdims=True), meet).clip(0), left)
            x, left = x + v * step, left - step
            v, d = np.where(wall <= step, -v, v), np.diff(x, axis=1)
            n = d / np.linalg.norm(d, axis=-1, keepdims=True)
            given = (np.diff(v, axis=1) * n).sum(-1, keepdims=True) * n
            v = np.where(meet <= step, v + np.concatenate([given, -given], axis=1), v)
        path.append((x, v))
    return np.stack([x for x, _ in path], axis=1), np.stack([v for _, v in path], axis=1)


def worlds(n: int, *, law: str, frames: int = 24, speed: ArrayLike = SPEED, seed: Any) -> np.ndarray:
    """Draw clips of a law: positions of the centres, frame by frame.

    Starts are such that the law is seen: a drifting ball stays inside, a bouncing one meets a wall, and two balls
    collide before any other event. Directions are uniform.

    Parameters
    ----------
    n, frames : int
        Number of clips, and of their frames.
    law : {"drifts", "bounces", "falls", "collide"}
        As for `move`.
    speed : array-like, shape=[2] or [bands, 2]
        Lowest and highest speed of each ball at the first frame, in sides of the box per frame; of several bands, a
        wider one is drawn more often. No sentence tells the speed: only the frames do.
    seed : int, sequence of int, or numpy.random.Generator

    Returns
    -------
    array, shape=[n, frames, balls, 2]

    Raises
    ------
    TypeError, ValueError
        If a number or a shape is not as described, the speed takes a ball out of the box, or no clip was found in
        which the law is seen.

    Examples
    --------
    >>> worlds(5, law="collide", frames=16, seed=0).shape
    (5, 16, 2, 2)
    """
    n, last, bands = integer("worlds: n", n, 1), integer("worlds: frames", frames, 2) - 1, speed_bands("worlds", speed)
    balls, (low, high), rng = LAWS[choice("worlds: law", law, *LAWS)], bands.T, np.random.default_rng(seed)
    steps, leaves = (last, "leaves the box") if law == "drifts" else (1, "passes the whole box in a frame")
    found = f"worlds: speed goes up to {high.max():g}, at which a disc {leaves}"
    expect(high.max() * steps <= _SPAN, found, f"at most {_SPAN / steps:.3g}, with {frames} frames,")
    share, angle = (high - low + 1e-12) / (high - low + 1e-12).sum(), 2 * np.pi * rng.random((n, balls))
    band = rng.choice(len(low), (n, balls), p=share)
    velocity = rng.uniform(low[band], high[band])[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    start, left = np.empty_like(velocity), np.arange(n)
    for _ in range(1000):  # starts are drawn again, velocities are not: their distribution stays what was asked for
        v = velocity[left]
        x, good = _LOW + _SPAN * rng.random(v.shape), True
        if law == "collide":  # from the touch, at a time in the middle of the clip, backwards
            angle, since = 2 * np.pi * rng.random((len(v), 1)), last * rng.uniform(0.2, 0.7, (len(v), 1, 1))
            normal = RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
            touch = 0.5 + (x[:, :1] - 0.5) * (1 - 2 * RADIUS / _SPAN)  # so that both discs are in the box there
            x = touch + np.concatenate([-normal, normal], axis=1) - v * since
            good = (np.diff(v, axis=1) * normal).sum((1, 2)) < 0
        elif law != "falls":
            good = (np.abs(x + v * last - 0.5).max((1, 2)) > _HIGH - 0.5) == (law == "bounces")
        good &= np.abs(x - 0.5).max((1, 2)) <= _HIGH - 0.5
        start[left[good]], left = x[good], left[~good]
        if not left.size:
            return move(start, velocity, law=law, frames=frames)[0]
    raise ValueError(f"worlds: speed is {bands.tolist()}, but one at which the law {law!r} is seen was expected")


def speed_bands(function: str, speed: ArrayLike) -> np.ndarray:
    """Return one or several bands of speed as an array, shape=[bands, 2]; `function` prefixes the message."""
    bands = finite_array(f"{function}: speed", speed)
    fits = bands.ndim in (1, 2) and bands.shape[-1] == 2 and bands.size and bands.min() >= 0 <= np.diff(bands).min()
    expect(fits, f"{function}: speed is {bands.tolist()}", "0 <= low <= high, or several such pairs,")
    return bands.reshape(-1, 2)


class Errors(NamedTuple):
    """How far predicted clips are from the true ones, and which laws they break; made by `errors`.

    Attributes
    ----------
    position : array, shape=[n, frames]
        Distance of the centres, in sides of the box; mean over balls.
    velocity : array, shape=[n, frames - 1]
        Length of the difference of displacements from frame to frame; mean over balls.
    energy : array, shape=[n]
        Relative change of energy: mean over frames in the prediction, over that in the true clip, minus 1. Energy is
        kinetic, of the displacements, and with gravity that of the height; in a frame with a bounce the displacement
        shows less than there is, in both clips. Rounding to bins alone adds about 1 / (6 bins^2) for each ball to it:
        round the true clip too (`geolib.video.Settings.round`) to compare alike.
    passed, overlap : array, shape=[n, frames]
        How deep a disc is in a wall, and the two discs in each other, in sides of the box; 0 if they are not.
    """

    position: np.ndarray
    velocity: np.ndarray
    energy: np.ndarray
    passed: np.ndarray
    overlap: np.ndarray


def errors(predicted: ArrayLike, true: ArrayLike, *, law: str) -> Errors:
    """Compare predicted clips with true ones.

    Parameters
    ----------
    predicted, true : array-like, shape=[n, frames, balls, 2]
        At least two frames. To leave out the frames that were shown, begin with the last of them.
    law : {"drifts", "bounces", "falls", "collide"}
        Says whether there is gravity.

    Returns
    -------
    Errors

    Raises
    ------
    TypeError, ValueError
        If shapes differ or do not fit, or a number is not finite.
    """
    p, q = finite_array("errors: predicted", predicted), finite_array("errors: true", true)
    g = GRAVITY * (choice("errors: law", law, *LAWS) == "falls")
    fits = p.ndim == 4 and p.shape == q.shape and p.shape[1] > 1 and p.shape[3] == 2 and p.size
    found = f"errors: predicted has shape {p.shape} and true {q.shape}"
    expect(fits, found, "[n, frames, balls, 2] with two frames or more for both")
    distance, change = np.linalg.norm(p - q, axis=-1), np.linalg.norm(np.diff(p - q, axis=1), axis=-1)
    passed = (np.abs(p - 0.5).max((2, 3)) + RADIUS - 0.5).clip(0)
    overlap = (2 * RADIUS - np.linalg.norm(p[:, :, 0] - p[:, :, -1], axis=-1)).clip(0) * (p.shape[2] > 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = _energy(p, g).mean(1) / _energy(q, g).mean(1) - 1
    return Errors(distance.mean(-1), change.mean(-1), energy, passed, overlap)


def _energy(x, g):
    """Energy between neighbouring frames, shape=[n, frames - 1]; constant in free flight, also under gravity."""
    height = (x[:, 1:, :, 1] + x[:, :-1, :, 1]) / 2 - RADIUS
    return ((np.diff(x, axis=1) ** 2).sum(-1) / 2 + g * (height + g / 8)).sum(-1)
