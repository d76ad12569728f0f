"""Robots that run, each simulation with its own hidden task.

Observation, dynamics, start and end of episodes are those of Gymnasium's v5 environments.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from ssmrl.envs.batched_env import BatchedEnv, Camera, Step
from ssmrl.envs.dynamics import Dynamics, VariedModel
from ssmrl.envs.physics import BatchedPhysics
from ssmrl.envs.rewards import Motion, Reward, add_up
from ssmrl.envs.robots import Robot


class LocomotionEnv(BatchedEnv):
    """``B`` robots, each with its own hidden task.

    Args:
        robot: The robot.
        reward: Reward of a step.
        num_envs: Number of simulations, ``B``.
        horizon: Steps until truncation [env steps].
        action_scale: The actuators receive ``clip(action / action_scale, -1, 1)``, times the
            robot's limit.
        num_threads: Threads of the physics; 0 means all cores.
        dynamics: Constants of the model that the tasks multiply; None if the tasks differ in their
            reward.

    Attributes:
        physics: The bare simulations.
    """

    def __init__(
        self,
        robot: Robot,
        reward: Reward,
        num_envs: int,
        horizon: int,
        action_scale: float,
        num_threads: int,
        dynamics: Dynamics | None = None,
    ) -> None:
        self._robot = robot
        self._reward = reward
        sees_contacts = "cfrc_ext" in dict(robot.derived)
        self.physics = BatchedPhysics(
            robot.model,
            num_envs,
            frame_skip=robot.frame_skip,
            num_threads=num_threads,
            contact_forces=sees_contacts or reward.contact_weight > 0.0,
        )
        self._horizon = horizon
        self._action_scale = action_scale
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._parameters = np.zeros((num_envs, 1))
        self._varied = VariedModel(self.physics, dynamics) if dynamics is not None else None
        self._place = _tracker(self.physics, robot)
        self._contact_force = self.physics.derived("cfrc_ext") if reward.contact_weight else None
        self._seen = [
            self.physics.position[:, robot.num_hidden_positions :],
            self.physics.velocity,
            *(self.physics.derived(field)[:, skip:] for field, skip in robot.derived),
        ]
        self.num_envs = num_envs
        self.observation_dim = sum(part.shape[1] for part in self._seen)
        self.action_dim = self.physics.control_dim

    def set_tasks(self, parameters: Sequence[tuple[float, ...]]) -> None:
        """Set the hidden variables of each robot."""
        self._parameters = np.asarray(parameters, dtype=np.float64).reshape(self.num_envs, -1)
        if self._varied is not None:
            self._varied.multiply(self._parameters)

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
            if self._robot.gaussian_start:
                velocity[row] = noise * rng.standard_normal(num_velocities)
            else:
                velocity[row] = rng.uniform(-noise, noise, num_velocities)
        return self.set_state(ids, position, velocity)

    def set_state(
        self, ids: np.ndarray, position: np.ndarray, velocity: np.ndarray
    ) -> Float[np.ndarray, "B O"]:
        """Start episodes in given states; returns every simulation's observation."""
        self.physics.set_state(ids, position, velocity)
        self._elapsed[ids] = 0
        return self._observation()

    def step(self, action: Float[np.ndarray, "B A"]) -> Step:
        """Advance every robot by one env step; a MuJoCo error terminates the episode."""
        control = np.clip(action / self._action_scale, -1.0, 1.0)
        if self._robot.control_limit != 1.0:
            control *= self._robot.control_limit
        before = self._place()
        failed = self.physics.step(control)
        velocity = (self._place() - before) / self.physics.dt
        healthy = self._healthy()
        effort = np.sum(np.square(control), axis=1)
        motion = Motion(velocity, effort, healthy, self._contact_cost())
        terms = self._reward.terms(self._parameters, motion)
        self._elapsed += 1
        return Step(
            observation=self._observation(),
            reward=add_up(terms),
            terminated=failed | ~healthy,
            truncated=self._elapsed >= self._horizon,
            terms=terms,
            motion=motion,
        )

    def camera(self) -> Camera:
        """A function that draws a robot from the model's camera that follows it."""
        return self.physics.camera()

    def _contact_cost(self) -> np.ndarray:
        if self._contact_force is None:
            return np.zeros(self.num_envs)
        return self._reward.contact_cost(self._contact_force)

    def _observation(self) -> np.ndarray:
        parts = self._seen
        if self._robot.velocity_limit is not None:
            limit = self._robot.velocity_limit
            parts = [parts[0], np.clip(parts[1], -limit, limit), *parts[2:]]
        return np.concatenate(parts, axis=1)

    def _healthy(self) -> np.ndarray:
        if self._robot.healthy is None:
            return np.ones(self.num_envs, dtype=np.bool_)
        return self._robot.healthy(self.physics.position, self.physics.velocity)


def _tracker(physics: BatchedPhysics, robot: Robot) -> Callable[[], np.ndarray]:
    """A function that returns a copy of the positions [m] whose velocity counts, ``(B, D)``."""
    if robot.tracked == "root":
        root = physics.position[:, :1]
        return root.copy
    if robot.tracked == "torso":
        torso = physics.body_position("torso")[:, :2]
        return torso.copy
    # A live view, so that it shows masses changed by the tasks.
    mass = physics.own_model_field("body_mass")
    place = physics.derived("xipos").reshape(physics.position.shape[0], -1, 3)

    def mass_center() -> np.ndarray:
        # Summed in Gymnasium's order, so that results are bit-identical.
        moment = np.einsum("nb,nbj->nj", mass, place)
        center: np.ndarray = (moment / mass.sum(axis=1, keepdims=True))[:, :2]
        return center

    return mass_center
