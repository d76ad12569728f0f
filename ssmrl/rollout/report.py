"""Report of a saved policy's returns on held-out tasks, as a table and as JSON."""

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
        mode: How the policy adapted.
        episode: Number of earlier episodes with the same task.
        steps: First and last env step of the episode that count, from 1.
        env_steps: Env steps seen of the task before them, by gradient in all lanes together, by
            memory in one lane [env steps].
        mean: Mean return over tasks.
        interval: Interval of 95 % over tasks, low and high; None for a single task.
    """

    mode: Mode
    episode: int
    steps: tuple[int, int]
    env_steps: int
    mean: float
    interval: tuple[float, float] | None

    def interval_text(self) -> str:
        """The ends of the interval in brackets; empty if it is unknown."""
        return "" if self.interval is None else "[{:.2f}, {:.2f}]".format(*self.interval)


@dataclass(frozen=True)
class PolicyReport:
    """Returns of a policy on one draw of held-out tasks, or on one given task.

    Attributes:
        config: Configuration of the policy, with the number of tasks and lanes.
        draw: Index of the set of held-out tasks.
        lines: Lines of each episode; by memory also for each mode and each half of an episode.
        blind_return: The best return without adaptation on exactly these tasks; None if unknown.
        no_adaptation_bound: Bound for the family's distribution; None if unknown.
        task: The given task; None if tasks were drawn. It has no bounds, since a policy that knows
            the task needs no adaptation.
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
        """Evaluate a policy on held-out tasks, or on a given one, in this process.

        Args:
            config: Configuration with family, number of tasks and of lanes.
            params: Parameters of the policy.
            draw: Index of the set of held-out tasks and start states.
            task: Task to play instead of held-out ones.
            num_episodes: Episodes per task; by default as many as the player reports.
            num_threads: Threads of the physics; 0 means all cores.
            device: Device on which the policy acts and adapts.

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
        """JSON-compatible data; a number that is not finite becomes None.

        ``returns`` holds the returns of whole adapting episodes by number of earlier episodes.
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
            "blind_return": _finite(self.blind_return),
            "no_adaptation_bound": _finite(self.no_adaptation_bound),
            "training_saw_hidden_variable": self._by_memory,
        } | ({} if self.task is None else {"parameters": list(self.task.parameters)})

    def to_text(self) -> str:
        """The report as lines of text."""
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


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _modes(config: TrainConfig, by_memory: bool) -> list[Mode]:
    if not by_memory:
        return [Mode.USED]
    return [
        mode
        for mode in MODE_WORDS
        if mode is not Mode.OTHER_REWARDS or config.evaluation.num_tasks > 1
    ]


def _lines(trajectories: list[Trajectory], mode: Mode, by_memory: bool) -> list[ReportLine]:
    """One line per whole episode, and by memory two more for its halves."""
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
            # A memory sees its own lane only; a gradient step uses all lanes.
            lanes = 1 if by_memory else num_lanes
            env_steps = lanes * horizon * episode + begin
            mean = found.mean_returns()[index]
            lines.append(
                ReportLine(mode, episode, (begin + 1, end), env_steps, mean, found.interval(index))
            )
    return lines
