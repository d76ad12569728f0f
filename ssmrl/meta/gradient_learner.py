"""Meta-training of policies that adapt by gradient: collect rollouts, then make a meta-update."""

import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.device import CPU
from ssmrl.learner import Learner, Metrics
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.meta.learner import MetaLearner
from ssmrl.models.actor import GaussianActor
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.evaluate import REPORTED_STEPS
from ssmrl.rollout.play import Collect, Mode, Play
from ssmrl.rollout.returns import episode_return
from ssmrl.types import Params


class GradientLearner(Learner):
    """The ``Learner`` of every algorithm that adapts by gradient steps.

    Args:
        config: Configuration; its seed decides everything except the collected rollouts.
        actor: Policy to train in place; a new one if left out.
        device: Device of the meta-updates; the actor moves there.
    """

    knows_nothing_at_first = True

    def __init__(
        self,
        config: TrainConfig,
        actor: GaussianActor | None = None,
        device: torch.device = CPU,
    ) -> None:
        meta = config.meta
        self._config = config
        actor = (initial_actor(config) if actor is None else actor).to(device)
        self._learner = MetaLearner(actor, config)
        self.iteration = 0
        self.env_steps_per_iteration = meta.env_steps_per_iteration(config.env.horizon)
        self.num_episodes = meta.num_inner_steps + 1
        self.num_reported_episodes = max(*REPORTED_STEPS, meta.num_inner_steps) + 1

    def iterate(self, collect: Collect) -> Metrics:
        """Collect one meta-batch and make one meta-update."""
        meta, started = self._config.meta, time.perf_counter()
        assignment = train_assignment(self._config, self.iteration)
        play = Play(assignment, meta.num_episodes, self.num_episodes, Mode.EXPLORE)
        trajectories = collect(self.params(), play)
        sampled = time.perf_counter()
        statistics = self._learner.update(trajectories[:-1], trajectories[-1])
        self.iteration += 1
        return Metrics(
            self.iteration,
            self.iteration * self.env_steps_per_iteration,
            float(episode_return(trajectories[0]).mean()),
            float(episode_return(trajectories[-1]).mean()),
            sampled - started,
            time.perf_counter() - sampled,
            statistics,
        )

    def params(self) -> Params:
        """The meta-parameters, on the CPU."""
        return {name: value.cpu() for name, value in self._learner.params().items()}

    def tensors(self) -> dict[str, Tensor]:
        """Meta-parameters and the optimiser's state."""
        return self._learner.state()

    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Resume; there is no replay buffer, so the folder is not read."""
        self._learner.load_state(tensors)
        self.iteration = iteration

    def save_experience(self, folder: Path) -> None:
        """Do nothing: each meta-batch is learnt from only once."""

    def prune_experience(self, folder: Path) -> None:
        """Do nothing: no experience is saved."""
