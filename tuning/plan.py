"""What a sweep will do, checked before anything starts."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ssmrl.config import METHODS, TrainConfig
from tuning.space import SearchSpace, default_space

SEARCHERS = ("tpe", "random", "qmc")
SCHEDULERS = ("asha", "none")

# Sizes that let a trial on Ant learn visibly in a minute on one core: many small meta-batches
# instead of few large ones, and steps to match.
_SMALL_META_BATCH = {
    "meta.num_tasks": 10,
    "meta.num_episodes": 4,
    "meta.outer_lr": 3e-3,
    "evaluation.num_tasks": 20,
    "evaluation.num_episodes": 4,
}


class TooFewCpusError(ValueError):
    """The plan needs more CPUs than there are; the message does the sum."""


@dataclass(frozen=True)
class SweepPlan:
    """Everything that decides which trials a sweep makes; kept as ``config.json``.

    Attributes:
        task: Task family.
        method: Sequence model.
        num_samples: Trials in all.
        max_env_steps: Budget of a trial [env steps].
        time_budget_s: Search no longer than this [s].
        max_concurrent: Trials at once.
        num_env_runners: Remote rollout actors of a trial; 0 samples in the trial's process.
        searcher: How points are chosen.
        scheduler: How trials are stopped early.
        seed: Of the searcher and of every trial.

    Raises:
        KeyError: If task, method, searcher or scheduler are not known; the message lists those
            that are.
        ValueError: If a number is outside its range.
    """

    task: str
    method: str = "ssm"
    num_samples: int = 10
    max_env_steps: int = 300_000
    time_budget_s: float = 480.0
    max_concurrent: int = 1
    num_env_runners: int = 0
    searcher: str = "tpe"
    scheduler: str = "asha"
    seed: int = 0

    def __post_init__(self) -> None:
        _check_known("method", self.method, METHODS)
        _check_known("searcher", self.searcher, SEARCHERS)
        _check_known("scheduler", self.scheduler, SCHEDULERS)
        for name in ("num_samples", "max_env_steps", "max_concurrent"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, but got {getattr(self, name)}")
        for name in ("num_env_runners", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, but got {getattr(self, name)}")
        if not self.time_budget_s > 0:
            raise ValueError(f"`time_budget_s` must be positive, but got {self.time_budget_s}")
        self.space()

    def base(self) -> TrainConfig:
        """The default configuration, which is also the first trial."""
        return TrainConfig.for_task(self.task).with_knobs(
            {**_SMALL_META_BATCH, "policy.method": self.method, "seed": self.seed}
        )

    def space(self) -> SearchSpace:
        """Where the sweep searches."""
        return default_space(self.base())

    def cpus_per_trial(self) -> int:
        """One for the trial and one for each of its rollout actors."""
        return 1 + self.num_env_runners

    def check_cpus(self, num_cpus: int) -> None:
        """See that the trials fit.

        Raises:
            TooFewCpusError: If they need more than there are.
        """
        needed = self.max_concurrent * self.cpus_per_trial()
        if needed > num_cpus:
            raise TooFewCpusError(
                f"`--max-concurrent {self.max_concurrent}` trials x (1 + {self.num_env_runners} "
                f"env runners) need {needed} CPUs, but there are {num_cpus}; lower "
                "`--max-concurrent` or `--num-env-runners`"
            )

    def flags(self) -> list[str]:
        """The command-line flags that make this plan."""
        pairs = asdict(self).items()
        return [
            word for name, value in pairs for word in (f"--{name.replace('_', '-')}", str(value))
        ]

    def to_json(self) -> str:
        """The plan, its base and its space, as indented JSON."""
        content = asdict(self) | {
            "base": self.base().knobs(),
            "space": json.loads(self.space().to_json()),
        }
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of ``to_json``.

        Raises:
            ValueError: If the text is not a plan, or was written with other defaults.
        """
        content: dict[str, Any] = json.loads(text)
        written = {"base": content.pop("base"), "space": content.pop("space")}
        plan = cls(**content)
        now = {"base": plan.base().knobs(), "space": json.loads(plan.space().to_json())}
        if written != now:
            raise ValueError(
                "this sweep was made with other defaults or another search space than this "
                "version's, so its trials would not compare; start a new one"
            )
        return plan


def _check_known(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise KeyError(f"unknown {what} {name!r}; the {what}s are: {', '.join(known)}")


def sweep_folder(storage: Path, name: str) -> Path:
    """Where a sweep of this name is kept.

    Raises:
        ValueError: If the name could lead out of the storage folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            f"`--name` must be letters, digits, `.`, `_` and `-`, starting with a letter or "
            f"digit, but got {name!r}"
        )
    return storage / name
