"""Meta-training by gradient: collect along the adaptation, then a meta-update."""

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
    """Any algorithm that adapts by gradient steps, at work on a configuration.

    Args:
        config: Its seed decides everything but what is collected.
        actor: Trained in place; a fresh one if left out.
        device: Where the meta-updates are computed; the actor moves there.
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
        """One meta-batch and one meta-update."""
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
        """Go on; nothing is learnt from twice, so the folder is not read."""
        self._learner.load_state(tensors)
        self.iteration = iteration

    def save_experience(self, folder: Path) -> None:
        """Nothing: each meta-batch is learnt from once."""

    def prune_experience(self, folder: Path) -> None:
        """Nothing is kept."""
