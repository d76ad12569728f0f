"""What a saved policy does on held-out tasks, as a table and as JSON; not how it is printed."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ssmrl.config import TrainConfig
from ssmrl.device import CPU
from ssmrl.envs.families import get_family
from ssmrl.envs.task import Task
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.rollout.assignment import held_out_assignment, one_task_assignment
from ssmrl.rollout.evaluate import REPORTED_STEPS, Evaluation
from ssmrl.rollout.play import LocalCollector, Mode, Play
from ssmrl.rollout.returns import step_rewards
from ssmrl.types import Params, Trajectory

MODE_WORDS = {
    Mode.USED: "memory used",
    Mode.OFF: "memory switched off",
    Mode.OTHER_REWARDS: "fed the rewards of another task",
    Mode.GIVEN: "hidden variable given, which no test can know",
}


@dataclass(frozen=True)
class ReportLine:
    """The return of an episode, or of a part of it, over all held-out tasks.

    Attributes:
        mode: What became of what the policy could learn.
        episode: Episodes with the same task before this one.
        steps: Its first and last env step that count, from 1.
        env_steps: Seen of the task before the first of them, all lanes together [env steps].
        mean: Over tasks.
        interval: Of 95 %, over tasks, low and high; None for a single task.
    """

    mode: Mode
    episode: int
    steps: tuple[int, int]
    env_steps: int
    mean: float
    interval: tuple[float, float] | None

    def interval_text(self) -> str:
        """Its ends in brackets; nothing where it is not known."""
        return "" if self.interval is None else "[{:.2f}, {:.2f}]".format(*self.interval)


@dataclass(frozen=True)
class PolicyReport:
    """How well a policy does on one draw of held-out tasks, or on one given task.

    Attributes:
        config: What was judged, with the number of tasks and lanes.
        draw: Which set of held-out tasks.
        lines: Episode by episode; by memory also for each mode and each half of an episode.
        blind_return: The best return without adaptation on exactly these tasks; None if unknown.
        no_adaptation_bound: That of the family's law; None if unknown.
        task: The one that was given; None if tasks were drawn. It has no bounds: who knew it would
            need no adaptation.
    """

    config: TrainConfig
    draw: int
    lines: tuple[ReportLine, ...]
    blind_return: float | None
    no_adaptation_bound: float | None
    task: Task | None = None

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        params: Params,
        *,
        draw: int = 0,
        task: Task | None = None,
        num_episodes: int | None = None,
        num_threads: int = 0,
        device: torch.device = CPU,
    ) -> "PolicyReport":
        """Play held-out tasks, or a given one, in this process.

        Args:
            config: Family, number of tasks and of lanes.
            params: Of the policy.
            draw: Which set of held-out tasks, and of start states.
            task: Which to play instead of those.
            num_episodes: With one task; as many as the player reports if left out.
            num_threads: Threads of the physics; 0 means all cores.
            device: Where the policy acts and adapts.

        Raises:
            ValueError: If ``num_episodes`` is not positive.
        """
        if num_episodes is not None and num_episodes < 1:
            raise ValueError(f"`num_episodes` must be at least 1, but got {num_episodes}")
        by_memory = get_algorithm(config.algorithm).kind == "memory"
        if task is None:
            assignment = held_out_assignment(config, draw)
        else:
            config = config.with_knobs({"evaluation.num_tasks": 1})
            assignment = one_task_assignment(task, draw)
        family, horizon = get_family(config.env.task), config.env.horizon
        collect = LocalCollector(config, num_threads, device)
        reported = get_algorithm(config.algorithm).player_type()(config).num_reported_episodes
        lines = []
        for mode in _modes(config, by_memory):
            lanes = config.evaluation.num_episodes
            play = Play(assignment, lanes, num_episodes or reported, mode)
            lines += _lines(collect(params, play), mode, by_memory)
        shown = [
            line
            for line in lines
            if by_memory or num_episodes is not None or line.episode in REPORTED_STEPS
        ]
        parameters = np.array([task.parameters for task in assignment.tasks])
        return cls(
            config,
            draw,
            tuple(shown),
            family.blind_return(parameters, horizon) if task is None else None,
            family.no_adaptation_bound(horizon) if task is None else None,
            task,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data. ``returns`` are those of whole episodes, adapting, by episodes before.

        A number that is not finite, which JSON does not have, is None.
        """
        whole = (1, self.config.env.horizon)
        returns = {
            str(line.episode): _finite(line.mean)
            for line in self.lines
            if line.mode is Mode.USED and line.steps == whole
        }
        lines = [
            {
                "mode": line.mode.value,
                "episode": line.episode,
                "first_step": line.steps[0],
                "last_step": line.steps[1],
                "env_steps": line.env_steps,
                "return": _finite(line.mean),
                "low": None if line.interval is None else _finite(line.interval[0]),
                "high": None if line.interval is None else _finite(line.interval[1]),
            }
            for line in self.lines
        ]
        return {
            "task": self.config.env.task,
            "algorithm": self.config.algorithm,
            "draw": self.draw,
            "num_tasks": self.config.evaluation.num_tasks,
            "num_lanes": self.config.evaluation.num_episodes,
            "returns": returns,
            "lines": lines,
            "blind_return": self.blind_return,
            "no_adaptation_bound": self.no_adaptation_bound,
            "training_saw_hidden_variable": self._by_memory,
        } | ({} if self.task is None else {"parameters": list(self.task.parameters)})

    def to_text(self) -> str:
        """Lines to be read."""
        if self.task is None:
            what = f"{self.config.evaluation.num_tasks} held-out tasks, draw {self.draw}"
        else:
            what = f"the task {self.task.words()}, seed {self.draw}"
        lines = [f"{self.config.env.task}: {what}"]
        lines += self._by_mode() if self._by_memory else self._steps()
        if self.no_adaptation_bound is not None:
            lines.append(f"  no policy without adaptation exceeds {self.no_adaptation_bound:.2f}")
        if self.blind_return is not None:
            lines.append(f"  blind return, on exactly these tasks: {self.blind_return:.2f}")
        if self._by_memory:
            lines.append("  training saw the hidden variable, which a test does not")
        return "\n".join(lines)

    @property
    def _by_memory(self) -> bool:
        return get_algorithm(self.config.algorithm).kind == "memory"

    def _steps(self) -> list[str]:
        return [
            f"  after {line.episode} adaptation steps: {line.mean:9.2f}  "
            f"{line.interval_text()}  ({line.env_steps:,} env steps with the task)"
            for line in self.lines
        ]

    def _by_mode(self) -> list[str]:
        interval = "95 % interval over tasks" if self.task is None else ""
        lines = [f"  {'':32}{'env steps seen':>15}{'return':>11}  {interval}".rstrip()]
        mode = None
        for line in self.lines:
            if line.mode is not mode:
                mode = line.mode
                lines.append(f"  {MODE_WORDS[mode]}")
            is_whole = line.steps == (1, self.config.env.horizon)
            name = f"  episode {line.episode + 1}"
            if not is_whole:
                name = f"    its steps {line.steps[0]} to {line.steps[1]}"
            numbers = f"{line.env_steps:>15,}{line.mean:>11.2f}  {line.interval_text()}"
            lines.append(f"  {name:<32}{numbers}".rstrip())
        return lines


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _modes(config: TrainConfig, by_memory: bool) -> list[Mode]:
    if not by_memory:
        return [Mode.USED]
    return [
        mode
        for mode in MODE_WORDS
        if mode is not Mode.OTHER_REWARDS or config.evaluation.num_tasks > 1
    ]


def _lines(trajectories: list[Trajectory], mode: Mode, by_memory: bool) -> list[ReportLine]:
    """For each episode one of the whole, and by memory two of its halves."""
    num_lanes, horizon = trajectories[0].reward.shape[1:]
    half = horizon // 2
    parts = [(0, horizon), *([(0, half), (half, horizon)] if by_memory and half else [])]
    lines = []
    for episode, trajectory in enumerate(trajectories):
        rewards = step_rewards(trajectory)
        found = Evaluation.of_returns(
            torch.stack([rewards[..., begin:end].sum(-1) for begin, end in parts]), 0
        )
        for index, (begin, end) in enumerate(parts):
            # A memory knows what its own lane saw; a gradient step, what all lanes did.
            lanes = 1 if by_memory else num_lanes
            env_steps = lanes * horizon * episode + begin
            mean = found.mean_returns()[index]
            lines.append(
                ReportLine(mode, episode, (begin + 1, end), env_steps, mean, found.interval(index))
            )
    return lines
