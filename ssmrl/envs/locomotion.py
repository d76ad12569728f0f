"""Robots that run: velocity and direction families on HalfCheetah and Ant.

Observation, dynamics and termination are those of Gymnasium's v5 environments; the rewards are
the meta-RL literature's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from ssmrl.envs.batched_env import BatchedEnv, Step
from ssmrl.envs.physics import BatchedPhysics
from ssmrl.envs.task import Alternating, TaskFamily, UniformInterval

RewardTerms: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], Mapping[str, np.ndarray]]
"""``(parameters (B, P), velocity (B,) [m/s], control (B, A)) -> named terms, each (B,)``."""


@dataclass(frozen=True)
class Robot:
    """What distinguishes one robot from another.

    Attributes:
        model: File name of the model.
        frame_skip: Physics steps per env step.
        num_hidden_positions: Leading generalised positions that the policy does not see.
        tracked_body: Body whose x velocity counts; None takes the root joint's.
        healthy_height: Heights [m] of the root between which the episode goes on, or None.
        reset_noise: Scale of the initial state's noise.
    """

    model: str
    frame_skip: int
    num_hidden_positions: int
    tracked_body: str | None
    healthy_height: tuple[float, float] | None
    reset_noise: float = 0.1


HALF_CHEETAH = Robot("half_cheetah", 5, 1, None, None)
ANT = Robot("ant", 5, 2, "torso", (0.2, 1.0))


class LocomotionEnv(BatchedEnv):
    """``B`` robots, each with its own hidden task.

    Args:
        robot: Which robot.
        reward_terms: The family's reward.
        num_envs: Simulations, ``B``.
        horizon: Steps until truncation [env steps].
        action_scale: The actuators receive ``clip(action / action_scale, -1, 1)``.
        num_threads: Threads of the physics; 0 means all cores.

    Attributes:
        physics: The bare simulations.
    """

    def __init__(
        self,
        robot: Robot,
        reward_terms: RewardTerms,
        num_envs: int,
        horizon: int,
        action_scale: float,
        num_threads: int,
    ) -> None:
        self._robot = robot
        self._reward_terms = reward_terms
        self.physics = BatchedPhysics(
            robot.model, num_envs, frame_skip=robot.frame_skip, num_threads=num_threads
        )
        self._horizon = horizon
        self._action_scale = action_scale
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._parameters = np.zeros((num_envs, 1))
        if robot.tracked_body is None:
            self._x: np.ndarray = self.physics.position[:, 0]
        else:
            self._x = self.physics.body_position(robot.tracked_body)[:, 0]
        num_positions, num_velocities = (
            self.physics.position.shape[1],
            self.physics.velocity.shape[1],
        )
        self.num_envs = num_envs
        self.observation_dim = num_positions - robot.num_hidden_positions + num_velocities
        self.action_dim = self.physics.control_dim

    def set_tasks(self, parameters: Sequence[tuple[float, ...]]) -> None:
        """Give each robot its hidden variables."""
        self._parameters = np.asarray(parameters, dtype=np.float64).reshape(self.num_envs, -1)

    def reset(
        self, mask: Bool[np.ndarray, " B"], generators: Sequence[np.random.Generator]
    ) -> Float[np.ndarray, "B O"]:
        """Start episodes near the model's rest position, as Gymnasium does."""
        ids = np.flatnonzero(mask)
        noise = self._robot.reset_noise
        rest = self.physics.initial_position
        num_velocities = self.physics.velocity.shape[1]
        position = np.empty((len(ids), len(rest)))
        velocity = np.empty((len(ids), num_velocities))
        for row, index in enumerate(ids.tolist()):
            rng = generators[index]
            position[row] = rest + rng.uniform(-noise, noise, len(rest))
            velocity[row] = noise * rng.standard_normal(num_velocities)
        return self.set_state(ids, position, velocity)

    def set_state(
        self, ids: np.ndarray, position: np.ndarray, velocity: np.ndarray
    ) -> Float[np.ndarray, "B O"]:
        """Start episodes in given states; returns every simulation's observation."""
        self.physics.set_state(ids, position, velocity)
        self._elapsed[ids] = 0
        return self._observation()

    def step(self, action: Float[np.ndarray, "B A"]) -> Step:
        """Advance every robot by one env step; where MuJoCo raised an error, it terminates."""
        control = np.clip(action / self._action_scale, -1.0, 1.0)
        before = self._x.copy()
        failed = self.physics.step(control)
        velocity = (self._x - before) / self.physics.dt
        terms = self._reward_terms(self._parameters, velocity, control)
        self._elapsed += 1
        return Step(
            observation=self._observation(),
            reward=np.sum(list(terms.values()), axis=0),
            terminated=failed | ~self._healthy(),
            truncated=self._elapsed >= self._horizon,
            terms=terms,
        )

    def _observation(self) -> np.ndarray:
        seen = self.physics.position[:, self._robot.num_hidden_positions :]
        return np.concatenate([seen, self.physics.velocity], axis=1)

    def _healthy(self) -> np.ndarray:
        if self._robot.healthy_height is None:
            return np.ones(self.num_envs, dtype=np.bool_)
        low, high = self._robot.healthy_height
        height = self.physics.position[:, 2]
        healthy: np.ndarray = np.isfinite(self.physics.position).all(1)
        healthy &= np.isfinite(self.physics.velocity).all(1)
        healthy &= (low <= height) & (height <= high)
        return healthy


def half_cheetah_velocity_terms(
    parameters: np.ndarray, velocity: np.ndarray, control: np.ndarray
) -> dict[str, np.ndarray]:
    """Reward of halfcheetah-vel: minus the velocity error [m/s], minus the control cost."""
    return {
        "velocity": -np.abs(velocity - parameters[:, 0]),
        "control": -0.05 * np.sum(np.square(control), axis=1),
    }


def half_cheetah_direction_terms(
    parameters: np.ndarray, velocity: np.ndarray, control: np.ndarray
) -> dict[str, np.ndarray]:
    """Reward of halfcheetah-dir: velocity [m/s] in the wanted direction, minus the control cost."""
    return {
        "velocity": parameters[:, 0] * velocity,
        "control": -0.05 * np.sum(np.square(control), axis=1),
    }


def ant_velocity_terms(
    parameters: np.ndarray, velocity: np.ndarray, control: np.ndarray
) -> dict[str, np.ndarray]:
    """Reward of ant-vel: one minus the velocity error [m/s], minus control, plus survival.

    The literature's contact cost is absent: with the 27 observations that leave contact forces
    out, Gymnasium's Ant has no contact cost either (its v4 default), and the simulators of most
    published runs reported zero contact forces.
    """
    return {
        "velocity": 1.0 - np.abs(velocity - parameters[:, 0]),
        "control": -0.005 * np.sum(np.square(control), axis=1),
        "survive": np.full_like(velocity, 0.05),
    }


def _family(
    name: str,
    robot: Robot,
    reward_terms: RewardTerms,
    train: UniformInterval | Alternating,
    test: UniformInterval | Alternating,
    bound_per_step: float,
) -> TaskFamily:
    def make_env(
        num_envs: int, horizon: int, action_scale: float, num_threads: int
    ) -> LocomotionEnv:
        return LocomotionEnv(robot, reward_terms, num_envs, horizon, action_scale, num_threads)

    return TaskFamily(name, train, test, make_env, bound_per_step, action_scale=10.0, horizon=100)


# No adaptation, targets uniform on [0, 3]: the best fixed velocity is 1.5, its mean error 0.75.
HALF_CHEETAH_VELOCITY = _family(
    "halfcheetah-vel",
    HALF_CHEETAH,
    half_cheetah_velocity_terms,
    train=UniformInterval(0.0, 3.0),
    test=UniformInterval(0.0, 3.0),
    bound_per_step=-0.75,
)
HALF_CHEETAH_DIRECTION = _family(
    "halfcheetah-dir",
    HALF_CHEETAH,
    half_cheetah_direction_terms,
    train=Alternating(((1.0,), (-1.0,))),
    test=Alternating(((1.0,), (-1.0,))),
    bound_per_step=0.0,
)
ANT_VELOCITY = _family(
    "ant-vel",
    ANT,
    ant_velocity_terms,
    train=UniformInterval(0.0, 3.0),
    test=UniformInterval(0.0, 3.0),
    bound_per_step=1.05 - 0.75,
)
