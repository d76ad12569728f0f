"""The plan of a training run: checked before anything starts, and saved as JSON."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ssmrl.config import TrainConfig
from ssmrl.format import FORMAT, check_format
from ssmrl.knob_words import parsed_settings
from ssmrl.meta.algorithms import DEFAULT_ALGORITHM
from ssmrl.run import NUM_EVALUATIONS, check_budget
from ssmrl.saved_start import SavedStart
from ssmrl.strict_json import json_object, json_text

DEFAULT_ENV_STEPS = 200_000

PLAN = "config.json"
"""File name of the plan, in the folder of a run."""


@dataclass(frozen=True)
class Wishes:
    """Options of a command line; None for an option that was not used.

    Attributes:
        task: Task family.
        algorithm: Learning algorithm.
        method: Sequence model.
        seed: Random seed.
        knobs: Knob values, each ``KNOB=VALUE``.
        max_env_steps: Budget [env steps].
        max_cpu_seconds: Budget instead of env steps [CPU s].
        num_evaluations: Number of evaluations, at equal shares of the budget.
        num_seeds: Number of seeds trained at once, counted from ``seed``.
        checkpoint: Checkpoint with the initial networks.
    """

    task: str | None = None
    algorithm: str | None = None
    method: str | None = None
    seed: int | None = None
    knobs: tuple[str, ...] = ()
    max_env_steps: int | None = None
    max_cpu_seconds: float | None = None
    num_evaluations: int | None = None
    num_seeds: int | None = None
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Origin:
    """Checkpoint with the initial networks of a run.

    Attributes:
        path: Path as on the command line.
        sha256: SHA-256 of the file.
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class TrainPlan:
    """Everything that a run depends on; kept as ``config.json``.

    Attributes:
        config: Training configuration.
        max_env_steps: Budget [env steps]; None if the budget is in seconds.
        max_cpu_seconds: Budget of training without evaluations [CPU s]; None if the budget is in
            env steps.
        num_evaluations: Number of evaluations, at equal shares of the budget.
        num_seeds: Number of seeds trained at once, counted from the configuration's.
        origin: Checkpoint with the initial networks; None for networks initialised by the seed.

    Raises:
        ValueError: If there is not exactly one budget, a number is not positive, or several seeds
            have a budget of CPU seconds or start with saved networks.
    """

    config: TrainConfig
    max_env_steps: int | None
    max_cpu_seconds: float | None
    num_evaluations: int
    num_seeds: int = 1
    origin: Origin | None = None

    def __post_init__(self) -> None:
        check_budget(self.max_env_steps, self.max_cpu_seconds, self.num_evaluations)
        if self.num_seeds < 1:
            raise ValueError(f"`--num-seeds` must be at least 1, but got {self.num_seeds}")
        if self.num_seeds > 1 and self.max_env_steps is None:
            raise ValueError(
                f"`--seconds` must be left out with --num-seeds {self.num_seeds}: CPU seconds of a "
                "single seed are not measured; use --env-steps"
            )
        if self.num_seeds > 1 and self.origin is not None:
            raise ValueError(
                f"`--num-seeds` must be left out with --from, but got {self.num_seeds}: start one "
                "run for each --seed"
            )

    def of_seeds(self) -> list["TrainPlan"]:
        """The plan of each seed, as of a run of that seed alone."""
        seeds = range(self.config.seed, self.config.seed + self.num_seeds)
        return [
            replace(self, config=replace(self.config, seed=seed), num_seeds=1) for seed in seeds
        ]

    @classmethod
    def of(cls, wishes: Wishes, start: SavedStart | None = None) -> "TrainPlan":
        """The plan of a new run.

        Args:
            wishes: Options of the command line.
            start: Checkpoint to start with; its task, algorithm and knobs are the defaults.

        Raises:
            KeyError: If a task or a knob is unknown.
            TypeError: If a knob's value has the wrong type.
            ValueError: If another option is invalid; the message names it.
        """
        changed: dict[str, Any] = {"policy.method": wishes.method, "seed": wishes.seed}
        changed = {knob: value for knob, value in changed.items() if value is not None}
        changed |= parsed_settings(wishes.knobs)
        max_env_steps = wishes.max_env_steps
        if max_env_steps is None and wishes.max_cpu_seconds is None:
            max_env_steps = DEFAULT_ENV_STEPS
        num_evaluations = wishes.num_evaluations
        return cls(
            _config(wishes, changed, start),
            max_env_steps,
            wishes.max_cpu_seconds,
            NUM_EVALUATIONS if num_evaluations is None else num_evaluations,
            1 if wishes.num_seeds is None else wishes.num_seeds,
            None if start is None else Origin(str(start.path), start.sha256),
        )

    def resumed(self, wishes: Wishes) -> "TrainPlan":
        """This plan, with the budget and evaluations of a command line if it has any.

        Raises:
            ValueError: If the command line changes anything else.
        """
        given = (wishes.task, wishes.algorithm, wishes.method, wishes.seed, wishes.knobs or None)
        if any(value is not None for value in (*given, wishes.num_seeds, wishes.checkpoint)):
            raise ValueError(
                "`--resume` keeps the run's own settings; leave out --task, --algorithm, "
                "--method, --seed, --num-seeds, --from and --set, or start a new run under another "
                "--name"
            )
        plan = self
        if wishes.max_env_steps is not None or wishes.max_cpu_seconds is not None:
            budget = (wishes.max_env_steps, wishes.max_cpu_seconds)
            plan = replace(plan, max_env_steps=budget[0], max_cpu_seconds=budget[1])
        if wishes.num_evaluations is not None:
            plan = replace(plan, num_evaluations=wishes.num_evaluations)
        return plan

    def to_json(self) -> str:
        """Indented JSON, with every knob."""
        content = {
            "format": FORMAT,
            "max_env_steps": self.max_env_steps,
            "max_cpu_seconds": self.max_cpu_seconds,
            "num_evaluations": self.num_evaluations,
            "config": self.config.knobs(),
        }
        if self.num_seeds > 1:
            content["num_seeds"] = self.num_seeds
        if self.origin is not None:
            content[_FROM] = asdict(self.origin)
        return json_text(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, what: str) -> "TrainPlan":
        """The inverse of ``to_json``.

        Raises:
            FormatError: If the text has another format version.
            KeyError: If a knob is unknown.
            TypeError: If a value has the wrong type.
            ValueError: If the text is not the plan of a run.
        """
        content = json_object(text, what)
        check_format(content.get("format"), what)
        wanted = {"format", "max_env_steps", "max_cpu_seconds", "num_evaluations", "config"}
        if content.keys() - {"num_seeds", _FROM} != wanted:
            raise ValueError(
                f"{what} must hold {sorted(wanted)}, but holds {sorted(content)}: it is not the "
                "plan of an `ssmrl train` run; use the --name of such a run"
            )
        del content["format"]
        config = TrainConfig.of_knobs(content.pop("config"), what)
        origin = _origin(content.pop(_FROM, None), what)
        return cls(config, **content, origin=origin)


_FROM = "from"


def _origin(content: Any, what: str) -> Origin | None:
    if content is None:
        return None
    is_whole = isinstance(content, dict) and content.keys() == {"path", "sha256"}
    if not (is_whole and all(isinstance(value, str) for value in content.values())):
        raise ValueError(f"`from` in {what} must be a path and a SHA-256, but is {content!r}")
    return Origin(**content)


def _config(wishes: Wishes, changed: dict[str, Any], start: SavedStart | None) -> TrainConfig:
    if start is not None:
        return start.configured(changed, task=wishes.task, algorithm=wishes.algorithm)
    if wishes.task is None:
        raise ValueError("`--task` is missing; name a task family, for example --task ant-vel")
    config = TrainConfig.for_task(wishes.task, wishes.algorithm or DEFAULT_ALGORITHM)
    return config.with_knobs(changed)
