"""What a training run will do, checked before anything starts, and how it is written down."""

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
"""The file of a run's plan, in its folder."""


@dataclass(frozen=True)
class Wishes:
    """What a command line asked for; None is what it left open.

    Attributes:
        task: Task family.
        algorithm: What learns.
        method: Sequence model.
        seed: Of all randomness.
        knobs: Each ``KNOB=VALUE``.
        max_env_steps: Budget [env steps].
        max_cpu_seconds: Budget in its place [CPU s].
        num_evaluations: At equal shares of the budget.
        num_seeds: Seeds that are trained at once, counted from ``seed``.
        checkpoint: Whose networks it begins with.
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
    """Where the networks come from that a run begins with.

    Attributes:
        path: As it was given.
        sha256: Of the file.
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class TrainPlan:
    """Everything that a run depends on; kept as ``config.json``.

    Attributes:
        config: What is trained.
        max_env_steps: Budget [env steps]; None if it is one of seconds.
        max_cpu_seconds: Budget of training, evaluations apart [CPU s]; None if it is one of env
            steps.
        num_evaluations: At equal shares of the budget.
        num_seeds: Seeds that are trained at once, counted from the configuration's.
        origin: Where the networks come from that it begins with; None if they are those of its
            seed.

    Raises:
        ValueError: If there is not exactly one budget, a number is not positive, or several seeds
            have a budget of CPU seconds or begin with saved networks.
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
                f"`--seconds` must be left out with --num-seeds {self.num_seeds}: no seed has CPU "
                "seconds of its own; use --env-steps"
            )
        if self.num_seeds > 1 and self.origin is not None:
            raise ValueError(
                f"`--num-seeds` must be left out with --from, but got {self.num_seeds}: start one "
                "run for each --seed"
            )

    def of_seeds(self) -> list["TrainPlan"]:
        """The plan of each seed, as if it were alone."""
        seeds = range(self.config.seed, self.config.seed + self.num_seeds)
        return [
            replace(self, config=replace(self.config, seed=seed), num_seeds=1) for seed in seeds
        ]

    @classmethod
    def of(cls, wishes: Wishes, start: SavedStart | None = None) -> "TrainPlan":
        """The plan of a new run.

        Args:
            wishes: What was asked for.
            start: What it begins with; its settings are those of what was left open.

        Raises:
            KeyError: If a task or a knob is unknown.
            TypeError: If a knob's value has another type.
            ValueError: If anything else cannot be; the message names it.
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
        """This plan, with another budget where one is asked for.

        Raises:
            ValueError: If something else is asked for.
        """
        given = (wishes.task, wishes.algorithm, wishes.method, wishes.seed, wishes.knobs or None)
        if any(value is not None for value in (*given, wishes.num_seeds, wishes.checkpoint)):
            raise ValueError(
                "`--resume` goes on with the run's own settings; leave out --task, --algorithm, "
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
            FormatError: If it is of another format.
            KeyError: If a knob is unknown.
            TypeError: If a value has another type.
            ValueError: If it is not the plan of a run.
        """
        content = json_object(text, what)
        check_format(content.get("format"), what)
        wanted = {"format", "max_env_steps", "max_cpu_seconds", "num_evaluations", "config"}
        if content.keys() - {"num_seeds", _FROM} != wanted:
            raise ValueError(
                f"{what} must hold {sorted(wanted)}, but holds {sorted(content)}: it is not that "
                "of a run of `ssmrl train`; give the --name of one"
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
        raise ValueError("`--task` is missing: which task family? For example --task ant-vel")
    config = TrainConfig.for_task(wishes.task, wishes.algorithm or DEFAULT_ALGORITHM)
    return config.with_knobs(changed)
