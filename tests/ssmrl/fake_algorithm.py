"""A third kind of adaptation, and what learns it: no part of the library knows of it.

It acts by a constant displacement; after each episode it leans towards the better half of its
lanes, and training moves the constant.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ssmrl.adaptation.adaptation import Adaptation, Decision
from ssmrl.config import TrainConfig
from ssmrl.device import CPU
from ssmrl.learner import Learner, Metrics
from ssmrl.meta.algorithms import Algorithm
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.play import Collect, Mode, Play
from ssmrl.rollout.returns import episode_return
from ssmrl.types import Params, Trajectory

_HERE = "tests.ssmrl.fake_algorithm"


@dataclass(frozen=True)
class LeaningSettings:
    """Lanes per task and tasks of an iteration."""

    num_lanes: int = 8
    num_tasks: int = 3


@dataclass(frozen=True)
class LeaningPolicy:
    """How far an action explores."""

    spread: float = 0.5


class Leaning(Adaptation[Tensor]):
    """Its state is where each task leans, ``(N, A)``."""

    def __init__(self, start: Tensor, spread: float, adapts: bool) -> None:
        self._start, self._spread, self._adapts = start, spread, adapts

    def begin(self, num_tasks: int, num_lanes: int) -> Tensor:
        return self._start.expand(num_tasks, -1)

    def act(
        self, observation: Tensor, first: Tensor, noise: Tensor, state: Tensor
    ) -> tuple[Decision, Tensor]:
        drawn = noise[..., :1].sign() * self._spread * torch.ones_like(noise)
        return Decision(state.unsqueeze(1) + drawn, torch.zeros(first.shape)), state

    def observe(self, action: Tensor, reward: Tensor, state: Tensor) -> Tensor:
        return state

    def end_of_episode(self, trajectory: Trajectory, state: Tensor) -> Tensor:
        if not self._adapts:
            return state
        best = episode_return(trajectory).argmax(1)
        mean_action = trajectory.action.mean(2)
        return mean_action[torch.arange(len(best)), best]


class LeaningPlayer:
    """Makes the policy of a start."""

    keeps_motion = False
    num_reported_episodes = 3

    def __init__(self, config: TrainConfig) -> None:
        self._spread: float = config.policy.spread

    def adaptation(self, params: Params, play: Play) -> Leaning:
        return Leaning(params["start"], self._spread, play.mode is not Mode.OFF)

    def initial_params(self) -> Params:
        return {"start": torch.zeros(2)}

    @staticmethod
    def params_of(tensors: Mapping[str, Tensor]) -> Params:
        return {"start": tensors["start"]}


class LeaningLearner(Learner):
    """Moves the start a little towards what its tasks leant to."""

    knows_nothing_at_first = True

    def __init__(self, config: TrainConfig, device: torch.device = CPU) -> None:
        assert device == CPU
        self._config, self._start = config, torch.zeros(2)
        lanes = config.meta.num_tasks * config.meta.num_lanes
        self.iteration, self.num_episodes, self.num_reported_episodes = 0, 2, 3
        self.env_steps_per_iteration = lanes * 2 * config.env.horizon

    def iterate(self, collect: Collect) -> Metrics:
        meta = self._config.meta
        assignment = train_assignment(self._config, self.iteration, meta.num_tasks)
        played = collect(self.params(), Play(assignment, meta.num_lanes, 2, Mode.EXPLORE))
        self._start = self._start + 0.01 * (played[-1].action.mean((0, 1, 2)) - self._start)
        self.iteration += 1
        returns = [float(episode_return(each).mean()) for each in played]
        env_steps = self.iteration * self.env_steps_per_iteration
        return Metrics(self.iteration, env_steps, *returns, 0.0, 0.0, {})

    def params(self) -> Params:
        return {"start": self._start}

    def tensors(self) -> dict[str, Tensor]:
        return {"start": self._start.clone()}

    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        self._start, self.iteration = tensors["start"].clone(), iteration

    def save_experience(self, folder: Path) -> None:
        pass

    def prune_experience(self, folder: Path) -> None:
        pass


LEANING = Algorithm(
    "leaning",
    "memory",
    f"{_HERE}:LeaningSettings",
    f"{_HERE}:LeaningPolicy",
    f"{_HERE}:LeaningLearner",
    f"{_HERE}:LeaningPlayer",
)
