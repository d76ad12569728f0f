"""Plain twins of the batched simulations: a loop over one ``MjData`` each, and Gymnasium's own.

MuJoCo's warnings about the age of the model files are silenced, or it would print them and write
a log file for every model that is loaded here.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
import mujoco
import numpy as np
from mujoco import MjLogConfig

from ssmrl.envs.physics import load_model


@contextmanager
def quiet_mujoco() -> Iterator[None]:
    """Neither print MuJoCo's warnings nor write them to a file."""
    usual, quiet = MjLogConfig.get(), MjLogConfig.get()
    quiet.logto_console = quiet.logto_file = False
    MjLogConfig.set(quiet)
    try:
        yield
    finally:
        MjLogConfig.set(usual)


class PlainPhysics:
    """The plain twin of ``BatchedPhysics``: one ``MjData`` per simulation, stepped in a loop."""

    def __init__(self, robot: str, num_simulations: int, frame_skip: int) -> None:
        self.model = load_model(robot)
        self._data = [mujoco.MjData(self.model) for _ in range(num_simulations)]
        self._frame_skip = frame_skip

    def set_state(self, index: int, position: np.ndarray, velocity: np.ndarray) -> None:
        data = self._data[index]
        mujoco.mj_resetData(self.model, data)
        data.qpos[:], data.qvel[:] = position, velocity
        mujoco.mj_forward(self.model, data)

    def step(self, control: np.ndarray) -> None:
        for data, inputs in zip(self._data, control, strict=True):
            data.ctrl[:] = inputs
            for _ in range(self._frame_skip):
                mujoco.mj_step(self.model, data)
            mujoco.mj_rnePostConstraint(self.model, data)

    def derived(self, field: str) -> np.ndarray:
        return np.stack([getattr(data, field).ravel() for data in self._data])

    @property
    def position(self) -> np.ndarray:
        return np.stack([data.qpos for data in self._data])

    @property
    def velocity(self) -> np.ndarray:
        return np.stack([data.qvel for data in self._data])

    def body_position(self, body: str) -> np.ndarray:
        return np.stack([data.body(body).xpos for data in self._data])


# Gymnasium's own environments, with their own weights.
GYMNASIUM: dict[str, tuple[str, dict[str, Any]]] = {
    "halfcheetah": ("HalfCheetah-v5", {}),
    "ant": ("Ant-v5", {"include_cfrc_ext_in_observation": False}),
    "hopper": ("Hopper-v5", {}),
    "walker2d": ("Walker2d-v5", {}),
    "humanoid": ("Humanoid-v5", {}),
    "humanoid-v4": ("Humanoid-v4", {}),
}


class GymnasiumRobots:
    """Several of Gymnasium's own environments of one robot, stepped in a loop.

    With ``models``, each plays on its own model instead of the robot's usual one.
    """

    def __init__(
        self, robot: str, num_envs: int, models: Sequence[mujoco.MjModel] | None = None
    ) -> None:
        name, arguments = GYMNASIUM[robot]
        with quiet_mujoco(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # version 4 is said to be old
            self._envs: list[Any] = [
                gymnasium.make(name, **arguments).unwrapped for _ in range(num_envs)
            ]
        for env, model in zip(self._envs, models or [], strict=models is not None):
            env.model, env.data = model, mujoco.MjData(model)

    @property
    def rest(self) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity around which Gymnasium starts episodes."""
        return self._envs[0].init_qpos.copy(), self._envs[0].init_qvel.copy()

    def reset(self, seeds: list[int]) -> np.ndarray:
        """Start episodes as Gymnasium does; returns the observations."""
        return np.stack(
            [env.reset(seed=seed)[0] for env, seed in zip(self._envs, seeds, strict=True)]
        )

    def set_state(self, index: int, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Start an episode as ``reset`` does, but in a given state; returns the observation."""
        env = self._envs[index]
        mujoco.mj_resetData(env.model, env.data)
        env.set_state(position, velocity)
        observation: np.ndarray = env._get_obs()
        return observation

    def step(self, action: np.ndarray) -> dict[str, np.ndarray]:
        """What Gymnasium returns, and what its ``info`` says, stacked."""
        results = [env.step(each) for env, each in zip(self._envs, action, strict=True)]
        infos = [result[4] for result in results]
        return {
            "observation": np.stack([result[0] for result in results]),
            "reward": np.array([result[1] for result in results]),
            "terminated": np.array([result[2] for result in results]),
            "velocity": np.array(
                [[info["x_velocity"], info.get("y_velocity", 0.0)] for info in infos]
            ),
            "contact": np.array([info.get("reward_contact", 0.0) for info in infos]),
            "survive": np.array([info.get("reward_survive", 0.0) for info in infos]),
        }
