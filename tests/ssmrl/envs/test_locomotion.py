"""The locomotion families against Gymnasium's own environments, bit for bit."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from ssmrl.envs.families import FAMILIES, get_family
from ssmrl.envs.locomotion import LocomotionEnv
from tests.ssmrl.envs.plain_physics import GymnasiumRobots

NUM_ENVS, NUM_STEPS = 2, 500
UNITS = [(math.cos(angle), math.sin(angle)) for angle in (0.3, 2.5)]

# The literature's rewards, written again from what Gymnasium says about a step: its velocity
# [m/s], survival reward and contact cost, and the controls.
Reward = Callable[[tuple[float, ...], dict[str, np.ndarray], np.ndarray], float]


def squares(control: np.ndarray) -> float:
    return float(np.sum(np.square(control)))


def along(d: tuple[float, ...], g: dict[str, np.ndarray]) -> float:
    return float(d[0] * g["velocity"][0] + d[1] * g["velocity"][1])


# family -> (Gymnasium's robot, two tasks, reward)
REWARD_FAMILIES: dict[str, tuple[str, list[tuple[float, ...]], Reward]] = {
    "halfcheetah-vel": (
        "halfcheetah",
        [(0.4,), (2.9,)],
        lambda goal, g, a: -abs(g["velocity"][0] - goal[0]) - 0.05 * squares(a),
    ),
    "halfcheetah-dir": (
        "halfcheetah",
        [(1.0,), (-1.0,)],
        lambda sign, g, a: sign[0] * g["velocity"][0] - 0.05 * squares(a),
    ),
    "ant-vel": (
        "ant",
        [(0.4,), (2.9,)],
        lambda goal, g, a: (1 - abs(g["velocity"][0] - goal[0])) - 0.005 * squares(a) + 0.05,
    ),
    "walker2d-vel": (
        "walker2d",
        [(0.4,), (2.9,)],
        lambda goal, g, a: -abs(g["velocity"][0] - goal[0]) + g["survive"] - 1e-3 * squares(a),
    ),
    "hopper-vel": (
        "hopper",
        [(0.4,), (2.9,)],
        lambda goal, g, a: -abs(g["velocity"][0] - goal[0]) + g["survive"] - 1e-3 * squares(a),
    ),
    "humanoid-vel": (
        "humanoid",
        [(0.4,), (2.9,)],
        lambda goal, g, a: (
            -abs(g["velocity"][0] - goal[0]) + g["survive"] - 0.1 * squares(a) + g["contact"]
        ),
    ),
    "ant-dir-fb": (
        "ant",
        [(1.0, 0.0), (-1.0, 0.0)],
        lambda d, g, a: along(d, g) + g["survive"] - 0.5 * squares(a) + g["contact"],
    ),
    "ant-dir-2d": (
        "ant",
        UNITS,
        lambda d, g, a: along(d, g) + g["survive"] - 0.5 * squares(a) + g["contact"],
    ),
    "humanoid-dir-2d": (
        "humanoid",
        UNITS,
        lambda d, g, a: 1.25 * along(d, g) + g["survive"] - 0.1 * squares(a) + g["contact"],
    ),
    # Version 4 has no contact cost, but the same contact forces in its observation.
    "humanoid": (
        "humanoid-v4",
        UNITS,
        lambda d, g, a: (
            1.25 * along(d, g)
            + 5.0 * (1 - g["terminated"])
            - 0.1 * squares(a)
            - min(10.0, 5e-7 * squares(g["observation"][-84:]))
        ),
    ),
}
ROBOTS = {
    "halfcheetah": (17, 0.1, True),
    "ant": (27, 0.1, True),
    "hopper": (11, 5e-3, False),
    "walker2d": (17, 5e-3, False),
    "humanoid": (348, 1e-2, False),
    "humanoid-v4": (376, 1e-2, False),
}
STANDARD = {
    name: robot
    for name, robot in {f"{robot}-gravity": robot for robot in ROBOTS}.items()
    if name in FAMILIES
}
NEVER_ENDS = {"halfcheetah"}


def make(name: str, num_threads: int = 2, action_scale: float = 1.0) -> LocomotionEnv:
    env = get_family(name).make_env(NUM_ENVS, NUM_STEPS, action_scale, num_threads)
    assert isinstance(env, LocomotionEnv)
    return env


def control_limit(robot: str) -> float:
    return 0.4 if robot.startswith("humanoid") else 1.0


class Pair:
    """Our batch and Gymnasium's environments, always put into the same states."""

    def __init__(self, name: str, robot: str) -> None:
        self.env = make(name)
        self.peer = GymnasiumRobots(robot, NUM_ENVS)
        self._rng = np.random.default_rng(0)

    def restart(self, ids: np.ndarray) -> None:
        rest, still = self.peer.rest
        position = rest + self._rng.uniform(-0.1, 0.1, (len(ids), len(rest)))
        velocity = still + 0.1 * self._rng.standard_normal((len(ids), len(still)))
        ours = self.env.set_state(ids, position, velocity)
        for row, index in enumerate(ids):
            theirs = self.peer.set_state(int(index), position[row], velocity[row])
            assert np.array_equal(ours[index], theirs)


def test_every_family_whose_tasks_differ_in_the_reward_is_compared() -> None:
    here = {name for name, family in FAMILIES.items() if family.spec.varies == "reward"}
    assert set(REWARD_FAMILIES) == here - {"point"}
    assert set(STANDARD.values()) == set(ROBOTS) - {"humanoid-v4"}


@pytest.mark.parametrize("name", REWARD_FAMILIES)
def test_equals_gymnasium_over_500_random_steps(name: str) -> None:
    """Observation, reward and termination, with every reward recomputed from Gymnasium's velocity.

    Every published number of these families rests on Gymnasium's dynamics; an error in frame
    skip, in which velocity counts or in how an episode starts would show here and nowhere else.
    The reward is the same bit for bit, but for the two robots with a contact cost, which we
    subtract after the control cost while Gymnasium adds both costs first.
    """
    robot, tasks, reward = REWARD_FAMILIES[name]
    pair = Pair(name, robot)
    pair.env.set_tasks(tasks)
    pair.restart(np.arange(NUM_ENVS))
    rng = np.random.default_rng(1)
    num_ended = 0
    for t in range(NUM_STEPS):
        action = rng.uniform(-1.0, 1.0, (NUM_ENVS, pair.env.action_dim))
        control = action if control_limit(robot) == 1.0 else action * control_limit(robot)
        ours, theirs = pair.env.step(action), pair.peer.step(control)
        assert np.array_equal(ours.observation, theirs["observation"]), f"{t=}"
        assert np.array_equal(ours.terminated, theirs["terminated"]), f"{t=}"
        wanted = [
            reward(task, {key: value[index] for key, value in theirs.items()}, control[index])
            for index, task in enumerate(tasks)
        ]
        if "contact" in ours.terms:
            np.testing.assert_allclose(ours.reward, wanted, rtol=0, atol=1e-13)
        else:
            assert np.array_equal(ours.reward, wanted), f"{t=}"
        num_ended += int(ours.terminated.sum())
        again = ours.terminated | (np.arange(NUM_ENVS) == (t // 100) % NUM_ENVS) & (t % 100 == 99)
        pair.restart(np.flatnonzero(again))
    assert (num_ended >= 2) == (robot not in NEVER_ENDS), f"{num_ended=}"


@pytest.mark.parametrize("name", STANDARD)
def test_with_usual_dynamics_the_reward_is_gymnasiums_own(name: str) -> None:
    """Multipliers of one: weights, healthy reward and contact cost of version 5, unchanged."""
    robot = STANDARD[name]
    pair = Pair(name, robot)
    pair.env.set_tasks([(1.0,)] * NUM_ENVS)
    pair.restart(np.arange(NUM_ENVS))
    rng = np.random.default_rng(1)
    num_ended, contact = 0, 0.0
    for t in range(NUM_STEPS):
        action = rng.uniform(-1.0, 1.0, (NUM_ENVS, pair.env.action_dim))
        control = action if control_limit(robot) == 1.0 else action * control_limit(robot)
        ours, theirs = pair.env.step(action), pair.peer.step(control)
        assert np.array_equal(ours.observation, theirs["observation"]), f"{t=}"
        assert np.array_equal(ours.terminated, theirs["terminated"]), f"{t=}"
        if "contact" in ours.terms:
            assert np.array_equal(ours.terms["contact"], theirs["contact"]), f"{t=}"
            np.testing.assert_allclose(ours.reward, theirs["reward"], rtol=0, atol=1e-13)
            contact = min(contact, ours.terms["contact"].min())
        else:
            assert np.array_equal(ours.reward, theirs["reward"]), f"{t=}"
        num_ended += int(ours.terminated.sum())
        pair.restart(np.flatnonzero(ours.terminated))
    assert (num_ended >= 2) == (robot not in NEVER_ENDS), f"{num_ended=}"
    assert (contact < -1e-3) == (robot in {"ant", "humanoid"})


@pytest.mark.parametrize(
    ("name", "column", "values"),
    [
        # Which generalised position crosses a border of health, slowly in both directions.
        ("ant-vel", 2, np.linspace(0.1, 1.1, 101)),
        ("humanoid-vel", 2, np.linspace(0.9, 2.1, 121)),
        ("walker2d-vel", 1, np.linspace(0.7, 2.1, 141)),
        ("walker2d-vel", 2, np.linspace(-1.1, 1.1, 221)),
        ("hopper-vel", 1, np.linspace(0.6, 1.4, 81)),
        ("hopper-vel", 2, np.linspace(-0.3, 0.3, 121)),
        ("hopper-vel", 4, np.linspace(-102.0, 102.0, 103)),
    ],
)
def test_episodes_end_where_gymnasium_ends_them(name: str, column: int, values: np.ndarray) -> None:
    pair = Pair(name, REWARD_FAMILIES[name][0])
    pair.env.set_tasks([(0.0,)] * NUM_ENVS)
    rest, still = pair.peer.rest
    ended = []
    for start in values:
        position = np.tile(rest, (NUM_ENVS, 1))
        position[:, column] = start
        velocity = np.tile(still, (NUM_ENVS, 1))
        velocity[:, 0 if column > 2 else column] = [-1.0, 1.0]
        pair.env.set_state(np.arange(NUM_ENVS), position, velocity)
        for index in range(NUM_ENVS):
            pair.peer.set_state(index, position[index], velocity[index])
        action = np.zeros((NUM_ENVS, pair.env.action_dim))
        ours, theirs = pair.env.step(action), pair.peer.step(action)
        assert np.array_equal(ours.terminated, theirs["terminated"]), f"{start=}"
        ended.append(ours.terminated.copy())
    assert 2 <= np.sum(ended) <= NUM_ENVS * len(values) - 2


@pytest.mark.parametrize("name", REWARD_FAMILIES)
def test_episodes_start_as_gymnasium_starts_them(name: str) -> None:
    """The same generator gives the same noise around the same rest position, bit for bit."""
    robot = REWARD_FAMILIES[name][0]
    num_observations, noise, is_gaussian = ROBOTS[robot]
    env, peer = make(name), GymnasiumRobots(robot, NUM_ENVS)
    seeds = [11, 12]
    everyone = np.ones(NUM_ENVS, dtype=np.bool_)
    observation = env.reset(everyone, [np.random.default_rng(seed) for seed in seeds])
    assert np.array_equal(observation, peer.reset(seeds))
    assert observation.shape == (NUM_ENVS, num_observations)
    assert np.abs(env.physics.position - env.physics.initial_position).max() <= noise
    assert (np.abs(env.physics.velocity).max() > noise) == is_gaussian


@pytest.mark.parametrize("name", ["halfcheetah-vel", "ant-vel", "hopper-vel", "humanoid-vel"])
def test_action_scale_is_division_and_clipping_by_hand(name: str) -> None:
    """Dynamics and control cost both see the scaled action; otherwise the knob changes the task."""
    scaled, plain = make(name, action_scale=10.0), make(name)
    rng = np.random.default_rng(2)
    for env in (scaled, plain):
        env.set_tasks([(1.0,)] * NUM_ENVS)
        rngs = [np.random.default_rng([3, index]) for index in range(NUM_ENVS)]
        env.reset(np.ones(NUM_ENVS, dtype=np.bool_), rngs)
    num_clipped = 0
    for _ in range(50):
        action = rng.normal(0.0, 8.0, (NUM_ENVS, scaled.action_dim))
        by_hand = np.minimum(np.maximum(action / 10.0, -1.0), 1.0)
        num_clipped += int((np.abs(action) > 10.0).sum())
        ours, theirs = scaled.step(action), plain.step(by_hand)
        assert np.array_equal(ours.observation, theirs.observation)
        assert np.array_equal(ours.reward, theirs.reward)
        family = get_family(name)
        controls = by_hand * control_limit(REWARD_FAMILIES[name][0])
        cost = family.spec.control_weight * np.square(controls).sum(1)
        np.testing.assert_allclose(ours.terms["control"], -cost, rtol=1e-12)
    assert num_clipped > 0


class EvenlySpaced(np.random.Generator):
    """Draws the midpoints of a grid, whose means are those of the uniform distribution."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low: float, high: float, shape: tuple[int, int]) -> np.ndarray:  # type: ignore[override]
        assert shape[1] == 1
        return (low + (high - low) * (np.arange(shape[0]) + 0.5) / shape[0])[:, None]


@pytest.mark.parametrize("name", REWARD_FAMILIES)
def test_the_bound_is_the_best_of_all_fixed_velocities(name: str) -> None:
    """Reports draw this line as what no policy without adaptation exceeds, on either split."""
    family = get_family(name)
    robot, _, reward = REWARD_FAMILIES[name]
    healthy = {"walker2d": 1.0, "hopper": 1.0, "ant": 1.0, "humanoid": 5.0}.get(robot, 0.0)
    sideways = (0.0, 1.0) if family.spec.num_parameters == 2 else (0.0,)
    for split in (family.train, family.test):
        tasks = split.sample(EvenlySpaced(), 200)
        mean_rewards = []
        for velocity in [
            (speed, side) for speed in np.linspace(-2.0, 4.0, 13) for side in sideways
        ]:
            seen = {
                "velocity": np.array(velocity),
                "survive": healthy,
                "contact": 0.0,
                "terminated": False,
                "observation": np.zeros(84),
            }
            mean_rewards.append(np.mean([reward(task, seen, np.zeros(6)) for task in tasks]))
        assert max(mean_rewards) == pytest.approx(family.bound_per_step, abs=1e-9)
    assert family.no_adaptation_bound(100) == pytest.approx(100 * family.bound_per_step)


def test_no_bound_is_claimed_where_none_is_known() -> None:
    for family in FAMILIES.values():
        assert (family.bound_per_step is None) == (family.spec.varies == "dynamics")
        assert (family.no_adaptation_bound(100) is None) == (family.bound_per_step is None)
