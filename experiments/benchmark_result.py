"""Result of one method and seed of the serious benchmark, as a file and in numbers."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from experiments.benchmarks.curves import CurveRow
from experiments.statistics import crossed_interval, trimmed_mean
from ssmrl.config import TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.files import replace_file
from ssmrl.format import FORMAT, check_format
from ssmrl.strict_json import json_object, json_text

REPORTED_STEPS = (0, 1, 2, 3, 5)
"""Adaptation steps after which a policy is tested."""
TEST_DRAW = 1
"""Draw of the held-out tasks in the test; searches use draw 0."""

_FIRST_COLUMNS = ("env_steps", "return_before", "return_after", "seconds")


class ResultError(ValueError):
    """A file is not a result of the serious benchmark, or it was damaged."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; the ends are None if the interval is unknown."""

    middle: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class BenchmarkResult:
    """One method with one seed, meta-trained and tested on held-out tasks.

    Attributes:
        config: Configuration that was trained.
        preset: Name of the policy's size; None if its width was given.
        device: Device of the meta-updates.
        num_parameters: Number of the policy's parameters.
        curve: One row per meta-iteration.
        task_returns: Return on each held-out task, by number of adaptation steps.

    Raises:
        ValueError: If there is no curve, or numbers of the curve or the test are missing or not
            finite.
    """

    config: TrainConfig
    preset: str | None
    device: str
    num_parameters: int
    curve: tuple[CurveRow, ...]
    task_returns: Mapping[int, tuple[float, ...]]

    def __post_init__(self) -> None:
        if not self.curve:
            raise ValueError("`curve` must have a row per meta-iteration, but is empty")
        for number, row in enumerate(self.curve, start=1):
            if missing := [name for name in _FIRST_COLUMNS if name not in row]:
                raise ValueError(f"row {number} of `curve` lacks {', '.join(missing)}")
            _check_finite(f"row {number} of `curve`", list(row.values()))
        if tuple(self.task_returns) != REPORTED_STEPS:
            raise ValueError(
                f"`task_returns` must be of {list(REPORTED_STEPS)} adaptation steps, but is of "
                f"{list(self.task_returns)}"
            )
        for num_steps, values in self.task_returns.items():
            _check_finite(f"the returns after {num_steps} adaptation steps", values)
            if len(values) != self.config.evaluation.num_tasks:
                raise ValueError(
                    f"there must be a return for each of {self.config.evaluation.num_tasks} "
                    f"held-out tasks, but after {num_steps} adaptation steps there are "
                    f"{len(values)}"
                )

    @property
    def method(self) -> str:
        """The sequence model."""
        return str(self.config.policy.method)

    @property
    def num_iterations(self) -> int:
        """Number of meta-iterations."""
        return len(self.curve)

    @property
    def env_steps(self) -> int:
        """Length of the training [env steps]."""
        return int(self.curve[-1]["env_steps"])

    @property
    def seconds(self) -> float:
        """Duration of the training [s]."""
        return sum(row["seconds"] for row in self.curve)

    @property
    def no_adaptation_bound(self) -> float | None:
        """Mean return over tasks that no policy without adaptation exceeds; None if unknown."""
        config = self.config.env
        return get_family(config.task).no_adaptation_bound(config.horizon)

    def command(self) -> str:
        """Command that reproduces this result, without its output folder."""
        config = self.config
        sizes: dict[str, Any] = {"preset": self.preset}
        if self.preset is None:
            sizes = {"hidden-dim": config.policy.hidden_dim}
            if self.method == "ssm":
                sizes["state-dim"] = config.policy.state_dim
        flags = {
            "task": config.env.task,
            "method": self.method,
            "epochs": self.num_iterations,
            **sizes,
            "seed": config.seed,
            "num-tasks": config.meta.num_tasks,
            "num-episodes": config.meta.num_episodes,
            "num-test-tasks": config.evaluation.num_tasks,
            "inner-lr": config.meta.inner_lr,
            "outer-lr": config.meta.outer_lr,
            "device": self.device,
        }
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        return shlex.join(["python", "-m", "experiments.serious_benchmark", *words])

    def to_json(self) -> str:
        """The result as indented JSON, with values derived from it."""
        tests = []
        for num_steps, values in self.task_returns.items():
            row: dict[str, Any] = {"num_steps": num_steps}
            for name, trim in (("interquartile_mean", 0.25), ("mean", 0.0)):
                estimated = estimate([self], num_steps, trim=trim)
                row[name] = estimated.middle
                row[f"{name}_interval"] = [estimated.low, estimated.high]
            tests.append(row | {"task_returns": list(values)})
        content = {
            "format": FORMAT,
            "task": self.config.env.task,
            "method": self.method,
            "seed": self.config.seed,
            "preset": self.preset,
            "device": self.device,
            "num_parameters": self.num_parameters,
            "env_steps": self.env_steps,
            "seconds": self.seconds,
            "no_adaptation_bound": self.no_adaptation_bound,
            "command": self.command(),
            "config": self.config.knobs(),
            "test": tests,
            "curve": list(self.curve),
        }
        return json_text(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of ``to_json``.

        Raises:
            ResultError: If the text is not a complete result.
        """
        try:
            content = json_object(text, "it")
            check_format(content.get("format"), "it")
            return cls(
                config=_config(content["config"]),
                preset=content["preset"],
                device=content["device"],
                num_parameters=int(content["num_parameters"]),
                curve=tuple(
                    {name: float(value) for name, value in row.items()} for row in content["curve"]
                ),
                task_returns={
                    row["num_steps"]: tuple(float(value) for value in row["task_returns"])
                    for row in content["test"]
                },
            )
        except KeyError as error:
            raise ResultError(f"it lacks {error.args[0]!r}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise ResultError(str(error)) from error

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        replace_file(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            ResultError: If it is not a complete result; the message names the file.
            OSError: If it cannot be read.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (ResultError, UnicodeDecodeError) as error:
            raise ResultError(
                f"{path} is not a whole result of the serious benchmark: {error}; "
                "move it away and run the benchmark again"
            ) from error


def estimate(results: Sequence[BenchmarkResult], num_steps: int, *, trim: float = 0.25) -> Estimate:
    """Interquartile mean, or mean, of the returns of all seeds on all held-out tasks.

    All seeds are tested on the same tasks. With one seed the interval is over its tasks alone and
    says nothing about other seeds.

    Args:
        results: Results of one method, one per seed.
        num_steps: Adaptation steps.
        trim: Share of the returns that is left out at each end: 0.25 for the interquartile mean, 0
            for the mean, which the no-adaptation bound limits.
    """
    scores = np.array([result.task_returns[num_steps] for result in results])
    low, high = crossed_interval(scores, trim=trim) or (None, None)
    return Estimate(float(trimmed_mean(scores.ravel(), trim)), low, high)


def _config(knobs: Mapping[str, Any]) -> TrainConfig:
    try:
        return TrainConfig.of_knobs(knobs, "its config")
    except KeyError as error:
        raise ValueError(error.args[0]) from error


def _check_finite(what: str, values: Sequence[float]) -> None:
    if bad := [index for index, value in enumerate(values) if not math.isfinite(value)]:
        raise ValueError(f"{what} must be finite, but those at {bad} are not")
