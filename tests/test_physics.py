"""Discs: exact motion against naive event loops, what is conserved, what is drawn, errors in closed form, bad input."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from geolib.physics import GRAVITY, LAWS, RADIUS, SPEED, errors, move, worlds

inside = st.floats(RADIUS, 1 - RADIUS)
slow = st.floats(-0.3, 0.3)
states = st.tuples(inside, inside, slow, slow)


def one(state, law, frames=30):
    x, y, vx, vy = state
    positions, velocities = move([[[x, y]]], [[[vx, vy]]], law=law, frames=frames)
    return positions[0, :, 0], velocities[0, :, 0]


def two_balls(seed, n=1):
    """Random states of two discs that do not overlap."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(RADIUS, 1 - RADIUS, (20 * n, 2, 2))
    start = start[np.linalg.norm(start[:, 1] - start[:, 0], axis=1) > 2 * RADIUS + 0.01][:n]
    return start, rng.uniform(-0.2, 0.2, start.shape)


def energy(positions, velocities, law):
    return (velocities**2).sum(-1) / 2 + (law == "falls") * GRAVITY * positions[..., 1]


# --- motion


def along(x, v, t, g):
    """One coordinate, event by event: the next wall is a root of a quadratic equation."""
    low, high = RADIUS, 1 - RADIUS
    while True:
        times = [(high - x) / v] if g == 0 and v > 0 else [(low - x) / v] if g == 0 and v < 0 else []
        if g:
            times.append((v + math.sqrt(v * v + 2 * g * max(x - low, 0))) / g)
            up = v * v - 2 * g * (high - x)
            times += [(v - math.sqrt(up)) / g] if v > 0 and up > 0 else []
        step = min([t, *times])
        x, v, t = x + v * step - g * step * step / 2, v - g * step, t - step
        if t <= 0:
            return x
        v = -v


@given(state=states, t=st.integers(0, 29))
def test_walls_and_gravity_are_met_as_by_a_walk_from_event_to_event(state, t):
    x, y, vx, vy = state
    assume(vy**2 / 2 + GRAVITY * (y - RADIUS) > 1e-4)  # a ball near rest on the floor has more events than a walk ends
    for law, g in (("bounces", 0), ("falls", GRAVITY)):
        position = one(state, law)[0][t]
        assert position == pytest.approx([along(x, vx, t, 0), along(y, vy, t, g)], abs=1e-6)


@given(state=states)
def test_balls_stay_in_the_box_and_keep_their_energy(state):
    for law in ("bounces", "falls"):
        positions, velocities = one(state, law, 60)
        assert np.abs(positions - 0.5).max() <= 0.5 - RADIUS + 1e-9
        kept = energy(positions, velocities, law)
        np.testing.assert_allclose(kept, kept[0], rtol=1e-7, atol=1e-9)


@given(state=states)
def test_motion_backwards_returns(state):
    for law in ("bounces", "falls"):
        positions, velocities = one(state, law, 12)
        back, _ = one((*positions[-1].clip(RADIUS, 1 - RADIUS), *-velocities[-1]), law, 12)
        np.testing.assert_allclose(back[::-1], positions, atol=1e-6)


def test_a_ball_thrown_up_comes_down_by_the_formula():
    positions, velocities = one((0.5, 0.5, 0.01, 0.02), "falls", 8)
    t = np.arange(8)
    np.testing.assert_allclose(positions[:, 1], 0.5 + 0.02 * t - GRAVITY * t**2 / 2, atol=1e-12)
    np.testing.assert_allclose(positions[:, 0], 0.5 + 0.01 * t, atol=1e-12)
    np.testing.assert_allclose(velocities[:, 1], 0.02 - GRAVITY * t, atol=1e-12)


def test_a_ball_at_rest_stays():
    for law in LAWS.keys() - {"collide", "falls"}:
        assert (one((0.3, 0.7, 0, 0), law)[0] == [0.3, 0.7]).all()
    positions, velocities = one((0.3, RADIUS, 0, 0), "falls")  # on the floor
    np.testing.assert_allclose(positions, np.broadcast_to([0.3, RADIUS], positions.shape), atol=1e-12)
    assert not velocities.any()


def collided(start, velocity, frames):
    """Two discs, one world, plain Python: the same events, found one at a time."""
    (x, v), path = (np.array(start), np.array(velocity)), []
    for frame in range(frames):
        t = float(frame > 0)
        while t > 0:
            events = [(t, None)]
            for ball in range(2):
                for axis in range(2):
                    if v[ball, axis]:
                        wall = 1 - RADIUS if v[ball, axis] > 0 else RADIUS
                        events.append((max(0, (wall - x[ball, axis]) / v[ball, axis]), (ball, axis)))
            d, w = x[1] - x[0], v[1] - v[0]
            if d @ w < 0 and (d @ w) ** 2 > (w @ w) * (d @ d - 4 * RADIUS**2):
                meet = (-(d @ w) - math.sqrt((d @ w) ** 2 - (w @ w) * (d @ d - 4 * RADIUS**2))) / (w @ w)
                events.append((max(0, meet), "meet"))
            step, what = min(events, key=lambda event: event[0])
            x, t = x + v * step, t - step
            if what == "meet":
                n = (x[1] - x[0]) / np.linalg.norm(x[1] - x[0])
                given = ((v[1] - v[0]) @ n) * n
                v = v + np.stack([given, -given])
            elif what is not None:
                v[what] *= -1
        path.append(x)
    return np.stack(path)


def test_collisions_are_met_as_by_a_plain_loop():
    start, velocity = two_balls(0, 30)
    positions, _ = move(start, velocity, law="collide", frames=15)
    for i in range(30):
        np.testing.assert_allclose(positions[i], collided(start[i], velocity[i], 15), atol=1e-7)


def test_collisions_keep_energy_and_the_box_and_discs_never_overlap():
    start, velocity = two_balls(1, 200)
    positions, velocities = move(start, velocity, law="collide", frames=40)
    kept = energy(positions, velocities, "collide").sum(-1)
    np.testing.assert_allclose(kept, np.broadcast_to(kept[:, :1], kept.shape), rtol=1e-9)
    assert np.abs(positions - 0.5).max() <= 0.5 - RADIUS + 1e-9
    assert np.linalg.norm(positions[:, :, 1] - positions[:, :, 0], axis=-1).min() >= 2 * RADIUS - 1e-9
    back, _ = move(positions[:, 5].clip(RADIUS, 1 - RADIUS), -velocities[:, 5], law="collide", frames=6)
    np.testing.assert_allclose(back[:, ::-1], positions[:, :6], atol=1e-6)


@pytest.mark.parametrize("angle", [0, 0.3, 1.2, 2.9])
def test_away_from_walls_a_collision_keeps_momentum_and_swaps_what_is_along_the_line(angle):
    n = np.array([np.cos(angle), np.sin(angle)])
    side = np.array([-n[1], n[0]])
    start = 0.5 + np.stack([-n, n]) * 2 * RADIUS
    velocity = np.stack([0.05 * n + 0.01 * side, -0.03 * n + 0.01 * side])
    _, velocities = move([start], [velocity], law="collide", frames=4)
    np.testing.assert_allclose(velocities[0].sum(1), np.broadcast_to(velocity.sum(0), (4, 2)), atol=1e-12)
    np.testing.assert_allclose(velocities[0, -1], [-0.03 * n + 0.01 * side, 0.05 * n + 0.01 * side], atol=1e-12)


# --- worlds


@pytest.mark.parametrize("law", LAWS)
def test_a_seed_gives_the_same_worlds_and_a_generator_goes_on(law):
    clips = worlds(20, law=law, frames=16, seed=3)
    assert clips.shape == (20, 16, LAWS[law], 2)
    np.testing.assert_array_equal(clips, worlds(20, law=law, frames=16, seed=3))
    assert not np.array_equal(clips, worlds(20, law=law, frames=16, seed=4))
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(clips, worlds(20, law=law, frames=16, seed=rng))
    assert not np.array_equal(clips, worlds(20, law=law, frames=16, seed=rng))
    assert np.abs(clips - 0.5).max() <= 0.5 - RADIUS + 1e-9


def test_in_every_clip_the_law_is_seen():
    steps = {law: np.diff(worlds(300, law=law, seed=5), axis=1) for law in LAWS}
    same = {law: np.isclose(step, step[:, :1], atol=1e-12).all((1, 2, 3)) for law, step in steps.items()}
    assert same["drifts"].all()
    assert not same["bounces"].any()
    assert not same["falls"].any()
    clips = worlds(300, law="collide", seed=5)
    gap = np.linalg.norm(clips[:, :, 1] - clips[:, :, 0], axis=-1)
    assert (gap.min(1) < 2 * RADIUS + 2 * SPEED[1]).all()  # the touch lies between two frames
    free = np.isclose(steps["collide"], steps["collide"][:, :1]).all((2, 3))
    assert free[:, 1].all()  # nothing happens in the first fifth
    assert not free.all(1).any()


@pytest.mark.parametrize("band", [SPEED, (0.02, 0.02), [(0.002, 0.004), (0.03, 0.036)]])
def test_speeds_lie_in_their_bands(band):
    speeds = np.linalg.norm(np.diff(worlds(400, law="drifts", speed=band, seed=0)[:, :2], axis=1), axis=-1).ravel()
    bands = np.reshape(band, (-1, 2))
    within = ((speeds[:, None] >= bands[:, 0] - 1e-12) & (speeds[:, None] <= bands[:, 1] + 1e-12)).any(1)
    assert within.all()
    if len(bands) > 1:  # drawn by their widths, 1 : 3
        assert abs((speeds > 0.01).mean() - 0.75) < 0.08


def test_directions_are_uniform():
    step = np.diff(worlds(4000, law="falls", seed=1)[:, :2], axis=1)[:, 0, 0]
    step[:, 1] += GRAVITY / 2
    assert np.abs(step.mean(0)).max() < 4 * SPEED[1] / np.sqrt(2 * 4000)


# --- errors


def test_errors_of_a_clip_that_is_shifted_or_too_fast():
    true = worlds(6, law="drifts", seed=0)
    none = errors(true, true, law="drifts")
    assert not any(np.abs(part).max() > 1e-12 for part in none)
    shifted = errors(np.add(true, [0.03, -0.04]), true, law="drifts")
    np.testing.assert_allclose(shifted.position, np.full((6, 24), 0.05))
    np.testing.assert_allclose(shifted.velocity, 0, atol=1e-12)
    fast = errors(true[:, :1] + 1.5 * (true - true[:, :1]), true, law="drifts")
    way = np.linalg.norm(true - true[:, :1], axis=-1)[..., 0]
    np.testing.assert_allclose(fast.position, way / 2)
    np.testing.assert_allclose(fast.velocity, np.diff(way, axis=1) / 2)
    np.testing.assert_allclose(fast.energy, 1.5**2 - 1)


def test_energy_under_gravity_is_exact_in_free_flight():
    true, velocity = move([[[0.4, 0.8]]], [[[0.02, 0.01]]], law="falls", frames=10)
    moved, _ = move([[[0.4, 0.6]]], [[[0.02, 0.01]]], law="falls", frames=10)
    kept = energy(true[0, 0, 0], velocity[0, 0, 0], "falls") - GRAVITY * RADIUS
    np.testing.assert_allclose(errors(moved, true, law="falls").energy, -GRAVITY * 0.2 / kept, rtol=1e-9)


def test_walls_passed_and_overlap_are_depths():
    predicted = np.full((1, 3, 2, 2), 0.5)
    predicted[0, 0] = [[0.5, 0.5], [0.57, 0.5]]
    predicted[0, 1] = [[0.02, 0.5], [0.5, 0.5]]
    predicted[0, 2] = [[0.3, 0.99], [0.5, 0.5]]
    found = errors(predicted, np.full((1, 3, 2, 2), 0.5), law="collide")
    np.testing.assert_allclose(found.overlap, [[0.03, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(found.passed, [[0, 0.03, 0.04]], atol=1e-12)
    assert not errors(predicted[:, :, :1], predicted[:, :, :1], law="falls").overlap.any()


def test_energy_of_a_ball_that_should_rest_is_not_a_number_or_infinite():
    still = np.full((2, 3, 1, 2), 0.5)
    moving = still + np.arange(3)[:, None, None] * 0.01
    assert np.isnan(errors(still, still, law="drifts").energy).all()
    assert np.isinf(errors(moving, still, law="drifts").energy).all()


# --- bad input


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"law": "flies"}, ValueError, "move: law is 'flies', but 'drifts' or 'bounces' or 'falls' or 'collide' was"),
        ({"frames": 0}, ValueError, "move: frames is 0, but at least 1 was expected"),
        (
            {"start": [[0.5, 0.5]]},
            ValueError,
            r"move: start and velocity have shapes \(1, 2\) and \(1, 1, 2\), but \[n, b",
        ),
        ({"start": [[[0.5, 0.5, 0.5]]]}, ValueError, r"move: start and velocity have shapes \(1, 1, 3\)"),
        ({"law": "collide"}, ValueError, r"have shapes \(1, 1, 2\) and \(1, 1, 2\), but \[n, 2, 2\] was expected"),
        (
            {"start": np.empty((0, 1, 2)), "velocity": np.empty((0, 1, 2))},
            ValueError,
            r"\(0, 1, 2\), but \[n, balls, 2\]",
        ),
        (
            {"start": [[[0.5, 1.2]]]},
            ValueError,
            "move: start has a centre at 1.2, but inside the box, 0.05 to 0.95, was",
        ),
        ({"start": [[[0.01, 0.5]]]}, ValueError, "move: start has a centre at 0.01, but inside the box"),
        ({"start": [[[np.nan, 0.5]]]}, ValueError, r"move: start holds nan at \(0, 0, 0\), but finite numbers"),
        ({"velocity": [[[np.inf, 0]]]}, ValueError, r"move: velocity holds inf at \(0, 0, 0\), but finite numbers"),
        (
            {"velocity": [[[1e200, 0]]]},
            ValueError,
            r"move: velocity goes up to 1e\+200, but at most 0.9, across the",
        ),
        (
            {"law": "drifts", "velocity": [[[0.5, 0]]]},
            ValueError,
            "move: a drifting disc has a centre at 1.5, but inside",
        ),
    ],
)
def test_move_says_what_is_wrong(change, error, message):
    given = {"start": [[[0.5, 0.5]]], "velocity": [[[0.1, 0]]], "law": "bounces", "frames": 3} | change
    with pytest.raises(error, match=message) as caught:
        move(**given)
    assert "\n" not in str(caught.value)


def test_discs_that_overlap_are_refused():
    with pytest.raises(ValueError, match=r"^move: start has centres 0.05 apart, but at least 0.1 was expected$"):
        move([[[0.5, 0.5], [0.55, 0.5]]], np.zeros((1, 2, 2)), law="collide", frames=2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": 0}, ValueError, "worlds: n is 0, but at least 1 was expected"),
        ({"n": 2.0}, TypeError, "worlds: n is 2.0, but an integer was expected"),
        ({"law": "orbits"}, ValueError, "worlds: law is 'orbits', but 'drifts' or"),
        ({"frames": 1}, ValueError, "worlds: frames is 1, but at least 2 was expected"),
        (
            {"speed": 0.02},
            ValueError,
            r"worlds: speed is 0.02, but 0 <= low <= high, or several such pairs, was expected",
        ),
        ({"speed": (0.03, 0.02)}, ValueError, r"worlds: speed is \[0.03, 0.02\], but 0 <= low <= high"),
        ({"speed": (-0.01, 0.02)}, ValueError, "but 0 <= low <= high"),
        ({"speed": []}, ValueError, r"worlds: speed is \[\], but 0 <= low <= high"),
        ({"speed": (0.01, np.nan)}, ValueError, r"worlds: speed holds nan at \(1,\), but finite numbers"),
        (
            {"law": "drifts", "speed": (0.01, 0.05)},
            ValueError,
            "speed goes up to 0.05, at which a disc leaves the box, but at most 0.0391, with 24 frames, was expected",
        ),
        ({"speed": (0.5, 1.5)}, ValueError, "speed goes up to 1.5, at which a disc passes the whole box in a frame"),
        (
            {"speed": (0, 0)},
            ValueError,
            r"worlds: speed is \[\[0.0, 0.0\]\], but one at which the law 'bounces' is seen",
        ),
    ],
)
def test_worlds_says_what_is_wrong(change, error, message):
    with pytest.raises(error, match=message) as caught:
        worlds(**({"n": 2, "law": "bounces", "seed": 0} | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [
        (
            np.zeros((2, 3, 1, 2)),
            np.zeros((2, 3, 2, 2)),
            r"errors: predicted has shape \(2, 3, 1, 2\) and true \(2, 3, 2",
        ),
        (np.zeros((2, 1, 1, 2)), np.zeros((2, 1, 1, 2)), "with two frames or more for both was expected"),
        (np.zeros((3, 1, 2)), np.zeros((3, 1, 2)), r"\[n, frames, balls, 2\]"),
        (np.full((1, 2, 1, 2), np.nan), np.zeros((1, 2, 1, 2)), r"errors: predicted holds nan at \(0, 0, 0, 0\)"),
    ],
)
def test_errors_says_what_is_wrong(predicted, true, message):
    with pytest.raises(ValueError, match=message) as caught:
        errors(predicted, true, law="falls")
    assert "\n" not in str(caught.value)
