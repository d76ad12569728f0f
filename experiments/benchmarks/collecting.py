"""Rollouts of a 53 K state space policy against raw physics, RLlib and Stable-Baselines3."""

import numpy as np
import torch

from experiments.benchmarks.harness import Measured, Row, Settings, interleaved_seconds
from experiments.benchmarks.peer_rollouts import RLlibRollouts, StableBaselinesRollouts
from experiments.benchmarks.raw_physics import (
    ANT,
    HALF_CHEETAH,
    HUMANOID,
    RawPhysics,
    RobotCase,
    generators,
)
from ssmrl.config import PolicyConfig, TrainConfig
from ssmrl.envs.families import FAMILIES
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.meta.inner import stack_params
from ssmrl.models.actor import GaussianActor
from ssmrl.rollout.adaptation import collect_once
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.worker import RolloutWorker
from ssmrl.types import Params, Trajectory

SSM_53K = PolicyConfig(method="ssm", state_dim=128, hidden_dim=128)
RAW_TARGETS = {HALF_CHEETAH: 0.6, ANT: 0.85, HUMANOID: 0.85}
RLLIB_TARGETS = {HALF_CHEETAH: 5.0, ANT: 2.0}


class Collection:
    """The timed collection, 40 tasks x 20 episodes x 100 steps, and the raw physics in it.

    Args:
        robot: Robot to simulate.
        settings: Number of threads, and whether to use small sizes.

    Attributes:
        actor: The policy's structure.
        num_lanes: Number of simulations.
        horizon: Steps of each simulation [env steps].
        env_steps: Steps of all simulations [env steps].
    """

    def __init__(self, robot: RobotCase, settings: Settings) -> None:
        sizes = {"meta.num_tasks": 4, "env.horizon": 5} if settings.quick else {"env.horizon": 100}
        base = TrainConfig.for_task(robot.task, "promp")
        self._config = TrainConfig(base.env, SSM_53K, algorithm=base.algorithm).with_knobs(sizes)
        self.num_lanes = self._config.meta.num_tasks * self._config.meta.num_episodes
        self.horizon = self._config.env.horizon
        self.env_steps = self.num_lanes * self.horizon
        self.actor = initial_actor(self._config)
        self._worker = RolloutWorker(self._config.env, settings.num_threads)
        self._assignment = train_assignment(self._config, 0)
        self._params = own_weights(self.actor, len(self._assignment.tasks))
        self._raw = RawPhysics(robot.model, self.num_lanes, settings.num_threads)
        env = robot.make_env(self.num_lanes, settings.num_threads)
        env.reset(np.ones(self.num_lanes, dtype=np.bool_), generators(self.num_lanes))
        self._start = env.physics.position.copy(), env.physics.velocity.copy()
        played = self.collect()
        control = played.action.double() / robot.action_per_control
        later = played.first.clone()
        later[..., 0] = False
        self._restarts = [np.flatnonzero(row) for row in later.flatten(0, 1).T.numpy()]
        limit = robot.control_limit
        by_time = control.clamp(-limit, limit).flatten(0, 1).movedim(1, 0)
        self._controls: np.ndarray = by_time.contiguous().numpy()

    def collect(self) -> Trajectory:
        """Collect once; the trajectory is equal every time."""
        return collect_once(
            self._worker,
            self.actor,
            self._params,
            self._assignment,
            self._config.meta,
            self._config.meta.num_episodes,
        )

    def prepare_raw(self) -> None:
        """Set the raw physics to a start from the same distribution as the collection's."""
        self._raw.set_state(*self._start)

    def play_raw(self) -> None:
        """Replay the collection's actions and restarts, without policy, observation or reward."""
        self._raw.play(self._controls, self._restarts)


def measure(settings: Settings) -> Measured:
    """Time one robot after another; all contestants of a robot are timed in turns."""
    robots = [robot for robot in RAW_TARGETS if robot.task in FAMILIES]
    return Measured([row for robot in robots for row in _robot_rows(robot, settings)])


def own_weights(actor: GaussianActor, num_tasks: int) -> Params:
    """Weights that differ between tasks, as after an adaptation; every leaf ``(N, ...)``."""
    generator = torch.Generator().manual_seed(0)
    params = {name: value.detach() for name, value in actor.named_parameters()}
    return {
        name: value + 1e-3 * torch.randn(value.shape, generator=generator)
        for name, value in stack_params(params, num_tasks).items()
    }


def _robot_rows(robot: RobotCase, settings: Settings) -> list[Row]:
    collection = Collection(robot, settings)
    peers: list[RLlibRollouts | StableBaselinesRollouts] = []
    if robot in RLLIB_TARGETS:
        num_parameters = sum(value.numel() for value in collection.actor.parameters())
        peers = [RLlibRollouts(robot, num_parameters, settings)]
        peers += [StableBaselinesRollouts(robot, num_parameters, settings)]
    seconds = interleaved_seconds(
        {
            "raw": collection.play_raw,
            "ours": collection.collect,
            **{peer.name: peer.collect for peer in peers},
        },
        settings.repeats,
        prepare=lambda name: collection.prepare_raw() if name == "raw" else None,
    )
    rates = {name: collection.env_steps / seconds[name] for name in ("raw", "ours")}
    rows = [
        Row(
            f"{robot.name}: collect with ssm 53 K / raw mujoco.batch, own weights per task",
            rates["ours"] / rates["raw"],
            target=RAW_TARGETS[robot],
            note=f"{rates['ours']:,.0f} against {rates['raw']:,.0f} env steps/s, "
            f"{collection.num_lanes} lanes of {collection.horizon} steps",
        )
    ]
    for peer in peers:
        rate = peer.env_steps / seconds[peer.name]
        rows.append(
            Row(
                f"{robot.name}: collect with ssm 53 K / {peer.name}",
                rates["ours"] / rate,
                target=RLLIB_TARGETS[robot] if isinstance(peer, RLlibRollouts) else None,
                note=f"{rates['ours']:,.0f} against {rate:,.0f} env steps/s; {peer.description}",
            )
        )
        peer.close()
    return rows
