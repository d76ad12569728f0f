"""MuJoCo's plain batched stepping, the floor under every rollout; not part of the engine.

Only this file and ``ssmrl.envs.physics`` import MuJoCo: measuring against the library must not go
through our own code.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from mujoco import MjLogConfig
from mujoco.batch import Batch

from ssmrl.config import EnvConfig
from ssmrl.envs.batched_env import BatchedEnv
from ssmrl.envs.families import get_family
from ssmrl.envs.locomotion import LocomotionEnv
from ssmrl.envs.physics import load_model


@dataclass(frozen=True)
class RobotCase:
    """A robot of the benchmarks.

    Attributes:
        name: Name in the rows.
        model: File name of its model.
        task: Task family with this robot.
        gymnasium_id: Id of Gymnasium's own environment of it.
        control_limit: Actuator input that an action of ``env.action_scale`` stands for.
    """

    name: str
    model: str
    task: str
    gymnasium_id: str
    control_limit: float = 1.0

    @property
    def action_per_control(self) -> float:
        """Factor from an actuator input to an action of the batched environment."""
        return get_family(self.task).action_scale / self.control_limit

    def make_env(self, num_envs: int, num_threads: int) -> LocomotionEnv:
        """The family's batched environment with tasks drawn from seed 0."""
        family = get_family(self.task)
        config = EnvConfig(self.task, family.horizon, family.action_scale)
        env: BatchedEnv = family.make_env(
            num_envs, config.horizon, config.action_scale, num_threads
        )
        assert isinstance(env, LocomotionEnv), "every robot's family is a locomotion one"
        tasks = family.sample_train(np.random.default_rng(0), num_envs)
        env.set_tasks([task.parameters for task in tasks])
        return env


HALF_CHEETAH = RobotCase("HalfCheetah", "half_cheetah", "halfcheetah-vel", "HalfCheetah-v5")
ANT = RobotCase("Ant", "ant", "ant-vel", "Ant-v5")
HUMANOID = RobotCase("Humanoid", "humanoid", "humanoid-dir-2d", "Humanoid-v5", 0.4)
FRAME_SKIP = 5
"""Physics steps per env step, the same for all three."""


def generators(num_envs: int, seed: int = 0) -> list[np.random.Generator]:
    """One generator per simulation, equal for equal arguments."""
    streams = np.random.SeedSequence(seed).spawn(num_envs)
    return [np.random.default_rng(stream) for stream in streams]


@contextmanager
def without_advice() -> Iterator[None]:
    """Silence MuJoCo's advice to the models' makers while a peer loads its robots."""
    usual, quiet = MjLogConfig.get(), MjLogConfig.get()
    quiet.logto_console = quiet.logto_file = False
    MjLogConfig.set(quiet)
    try:
        yield
    finally:
        MjLogConfig.set(usual)


class RawPhysics:
    """``mujoco.batch`` with nothing around it.

    Args:
        model: File name of a robot's model.
        num_simulations: ``B``.
        num_threads: Threads that step.

    Attributes:
        position: Generalised positions, ``(B, nq)`` float64, a live view.
    """

    def __init__(self, model: str, num_simulations: int, num_threads: int) -> None:
        self._batch = Batch(load_model(model), nsim=num_simulations, nthread=num_threads)
        self._ids = np.arange(num_simulations)
        self._control = self._batch.bind("ctrl")
        self.position: np.ndarray = self._batch.bind("qpos")
        self._velocity: np.ndarray = self._batch.bind("qvel")
        self._start = self.position.copy(), self._velocity.copy()

    def set_state(
        self, position: Float[np.ndarray, "B nq"], velocity: Float[np.ndarray, "B nv"]
    ) -> None:
        """Set the state of every simulation; ``play`` may restart lanes from it."""
        self._start = position, velocity
        self._restart(self._ids)

    def play(
        self,
        controls: Float[np.ndarray, "T B A"],
        restarts: Sequence[Int[np.ndarray, " K"]] | None = None,
    ) -> None:
        """Advance every simulation by one env step per row of ``controls``.

        Args:
            controls: Actuator inputs.
            restarts: Simulations that go back to their start before each step. A fallen robot costs
                more than a standing one, so a floor under episodes that end must let them end.
        """
        for t, control in enumerate(controls):
            if restarts is not None and len(restarts[t]):
                self._restart(restarts[t])
            self._control[:] = control
            self._batch.step(nstep=FRAME_SKIP)

    def _restart(self, ids: Int[np.ndarray, " K"]) -> None:
        position, velocity = self._start
        self._batch.reset(ids, stage=0)
        self.position[ids] = position[ids]
        self._velocity[ids] = velocity[ids]
        self._batch.forward(ids)
