"""The plan of a sweep: all its settings, checked before anything starts."""

import os
import secrets
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from ssmrl.config import TrainConfig, check_method
from ssmrl.format import FORMAT, FormatError, check_format
from ssmrl.knob_words import parsed_settings
from ssmrl.meta.algorithms import DEFAULT_ALGORITHM, get_algorithm
from ssmrl.strict_json import json_object, json_text, json_value
from ssmrl.unknown_name import UnknownNameError
from tuning.experience_memory import check_replays, replay_need
from tuning.plan_defaults import BY_KIND, TIME_BUDGET_S, PlanDefaults
from tuning.search.searchers import check_searcher
from tuning.spaces.iteration_length import iteration_lengths
from tuning.spaces.space import SearchSpace, default_limits, default_space
from tuning.spaces.space_file import SpaceFile, load_space_file

SCHEDULERS = ("asha", "none")

_OTHERWISE = (  # fields without a flag of the same name, or not always with one
    *("space_file", "space_path", "settings", "warm_start", "num_warm_rows"),
    *("sweep_id", "trial_seconds"),
)
_BY_KIND: Any = None  # not given: the algorithm's PlanDefaults


class TooFewCpusError(ValueError):
    """The plan needs more CPUs than there are; the message shows the sum."""


@dataclass(frozen=True)
class SweepPlan:
    """Everything that decides which trials a sweep makes; kept as ``config.json``.

    Attributes:
        task: Task family.
        method: Sequence model.
        algorithm: Learning algorithm, one of ``ALGORITHMS``.
        num_samples: Number of trials in total. The last ones confirm and judge the best; the rounds
            share the others evenly.
        max_env_steps: Budget of a trial [env steps].
        trial_seconds: Requested time of a trial on this machine, from which the budget was
            computed [s]; None if the budget was given.
        time_budget_s: Time budget of the training [s].
        max_concurrent: Number of concurrent trials.
        num_env_runners: Remote rollout actors of a trial; 0 samples in the trial's process.
        cpus_per_runner: Share of a CPU that Ray reserves for each of those actors.
        num_learners: Remote learners that share the meta-updates of a trial; 0 computes them in
            its process.
        searcher: Searcher that chooses the points.
        scheduler: Scheduler that stops trials early.
        seed: Random seed of the searcher and of every trial.
        rounds: Number of rounds; between two rounds the search space moves.
        seeds_per_trial: Runs of a trial, with ``seed`` and the seeds after it.
        num_confirmed: Number of the best configurations that are trained again at the end, with
            fresh seeds, before the winner is named.
        num_fresh_seeds: Number of unused seeds with which the winner and the default are each
            trained at the very end; only these are compared.
        retries: Number of restarts, without progress in between, of a trial whose process dies,
            from its last checkpoint; one that shows no sign of life is restarted once.
        space_file: Search space, and limits of its moves; by default around the task's defaults.
        space_path: Path of the space file.
        settings: Knobs with other values than the task's defaults, each ``KNOB=VALUE``.
        warm_start: Path of the rows of an earlier sweep; empty if there are none.
        num_warm_rows: Number of those rows that its searchers learn from.
        sweep_id: Id that every row of the sweep carries; empty before the sweep begins.

    Trials, budget, scheduler, confirmation and fresh seeds default to the algorithm's
    ``PlanDefaults``.

    Raises:
        KeyError: If task, method, algorithm, searcher or scheduler are not known; the message lists
            those that are.
        ValueError: If a number is outside its range, iterations differ in length and the longest
            exceeds the budget, or the algorithm must infer what differs between the tasks of a
            family in which that cannot be inferred.
    """

    task: str
    method: str = "ssm"
    algorithm: str = DEFAULT_ALGORITHM
    num_samples: int = _BY_KIND
    max_env_steps: int = _BY_KIND
    trial_seconds: float | None = None
    time_budget_s: float = TIME_BUDGET_S
    max_concurrent: int = 1
    num_env_runners: int = 0
    cpus_per_runner: float = 1.0
    num_learners: int = 0
    searcher: str = "tpe"
    scheduler: str = _BY_KIND
    seed: int = 0
    rounds: int = 1
    seeds_per_trial: int = 1
    num_confirmed: int = _BY_KIND
    num_fresh_seeds: int = _BY_KIND
    retries: int = 2
    space_file: SpaceFile | None = None
    space_path: str = ""
    settings: tuple[str, ...] = ()
    warm_start: str = ""
    num_warm_rows: int = 0
    sweep_id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", tuple(self.settings or ()))
        check_method(self.method)
        self._fill_in(BY_KIND[get_algorithm(self.algorithm).kind])
        check_searcher(self.searcher)
        _check_known("scheduler", self.scheduler, SCHEDULERS)
        for name in ("num_samples", "max_env_steps", "max_concurrent", "rounds", "seeds_per_trial"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, but got {getattr(self, name)}")
        for name in (
            "num_env_runners",
            "num_learners",
            "seed",
            "num_confirmed",
            "num_fresh_seeds",
            "retries",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, but got {getattr(self, name)}")
        for name in ("time_budget_s", "trial_seconds", "cpus_per_runner"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"`{name}` must be positive, but got {value}")
        if sum(self.trials_of_rounds()) < self.rounds:
            raise ValueError(
                f"each of the {self.rounds} rounds must have a trial, but of {self.num_samples} "
                f"trials {self.num_kept_back} are for confirming and judging the best; raise "
                "`--num-samples`, or lower `--rounds` or `--num-confirmed` or `--num-fresh-seeds`"
            )
        num_tasks = getattr(self.base().meta, "num_tasks", None)
        if num_tasks is not None and self.num_learners > num_tasks:
            raise ValueError(
                f"`num_learners` must not exceed `meta.num_tasks`, but got {self.num_learners} and "
                f"{num_tasks}: a learner without a task learns nothing"
            )
        if self.adapts_by_memory:
            _check_inferable(self.base())
        shortest, longest = iteration_lengths(self.space())
        if shortest < longest > self.max_env_steps:
            raise ValueError(
                f"`max_env_steps` must hold an iteration of every point, but got "
                f"{self.max_env_steps}, and they take {shortest} to {longest} env steps: some "
                "points would train longer than others; raise it, or search shorter iterations"
            )
        _check_flags_count(self)

    def _fill_in(self, defaults: PlanDefaults) -> None:
        given = {field.name for field in fields(self) if getattr(self, field.name) is not None}
        chosen: dict[str, Any] = {
            name: getattr(defaults, name)
            for name in ("num_samples", "max_env_steps", "scheduler")
            if name not in given
        }
        num_samples = chosen.get("num_samples", self.num_samples)
        for name in ("num_confirmed", "num_fresh_seeds"):
            if name not in given:
                chosen[name] = getattr(defaults, name)(num_samples)
        for name, value in chosen.items():
            object.__setattr__(self, name, value)

    @property
    def adapts_by_memory(self) -> bool:
        """Whether a memory infers the hidden task variable, which only training sees."""
        return get_algorithm(self.algorithm).kind == "memory"

    @property
    def num_verdict_trials(self) -> int:
        """Number of verdict trials of the winner, and as many of the default."""
        return -(-self.num_fresh_seeds // self.seeds_per_trial)

    @property
    def num_kept_back(self) -> int:
        """Number of trials that confirm or judge; fewer are run if the winner is the default."""
        return self.num_confirmed + 2 * self.num_verdict_trials

    def base(self) -> TrainConfig:
        """The default configuration, which is also the first trial."""
        if self.space_file is not None:
            return self.space_file.space.base
        base = TrainConfig.for_task(self.task, self.algorithm)
        own = BY_KIND[get_algorithm(self.algorithm).kind].base
        known = base.knobs()
        return base.with_knobs(
            {knob: value for knob, value in own.items() if knob in known}
            | {"policy.method": self.method, "seed": self.seed}
            | parsed_settings(self.settings)
        )

    def begun(self) -> "SweepPlan":
        """The same plan with a new id, for a sweep that is recorded for the first time."""
        return replace(self, sweep_id=secrets.token_hex(8))

    def within(self, path: Path) -> "SweepPlan":
        """The same plan with the space of a file.

        Raises:
            ValueError: If the file is no space for this task, or its base and ``settings`` give a
                knob different values; one sentence says why.
        """
        space_file = load_space_file(path, replace(self, space_file=None).base())
        based = space_file.space.base.with_knobs(wanted := parsed_settings(self.settings))
        if based != space_file.space.base:
            raise ValueError(
                f"`--set` and the base of {path} must agree, but differ in one of "
                f"{', '.join(wanted)}; leave it out of one of the two"
            )
        return replace(self, space_file=space_file, space_path=str(path))

    def space(self) -> SearchSpace:
        """The search space of the first round."""
        return self.space_file.space if self.space_file else default_space(self.base())

    def limits(self) -> SearchSpace:
        """The limits that no round's space may leave."""
        return self.space_file.limits if self.space_file else default_limits(self.base())

    def trials_of_rounds(self) -> list[int]:
        """Number of trials of each round; the earlier rounds get the remainder."""
        num_searched = self.num_samples - self.num_kept_back
        return [
            (num_searched + self.rounds - 1 - number) // self.rounds
            for number in range(self.rounds)
        ]

    def first_seed(self, repetition: int) -> int:
        """The first seed of a trial of a configuration, by how many trials of it came before.

        Args:
            repetition: 0 for the first trial; each repetition has its own seeds.
        """
        return self.seed + repetition * self.seeds_per_trial

    def sized(self, max_concurrent: int | None, num_cpus: int | None) -> "SweepPlan":
        """The same plan with the requested number of concurrent trials, or as many as fit the CPUs.

        Args:
            max_concurrent: Requested number; None takes as many as fit.
            num_cpus: CPUs of a private Ray; None for a cluster, which runs one trial at a time
                unless more are requested.

        Raises:
            TooFewCpusError: If the requested number does not fit.
        """
        fitting = 1 if num_cpus is None else max(1, int(num_cpus // self.cpus_per_trial()))
        plan = replace(self, max_concurrent=fitting if max_concurrent is None else max_concurrent)
        if num_cpus is not None:
            plan.check_cpus(num_cpus)
        return plan

    def cpus_per_trial(self) -> float:
        """CPUs of a trial: one for itself, one per learner, and those of its rollout actors."""
        return 1 + self.cpus_per_runner * self.num_env_runners + self.num_learners

    def check_cpus(self, num_cpus: int) -> None:
        """Check that the concurrent trials fit the CPUs.

        Raises:
            TooFewCpusError: If they need more than there are.
        """
        needed = self.max_concurrent * self.cpus_per_trial()
        share = "" if self.cpus_per_runner == 1 else f" x {self.cpus_per_runner:g}"
        if needed > num_cpus:
            raise TooFewCpusError(
                f"`--max-concurrent {self.max_concurrent}` trials x (1 + {self.num_env_runners} "
                f"env runners{share} + {self.num_learners} learners) need {needed:g} CPUs, but "
                f"there are {num_cpus}; lower `--max-concurrent`, `--num-env-runners` or "
                "`--num-learners`"
            )

    def check_replays(self, available: int | None) -> None:
        """Check that the replay buffers of concurrent trials fit the memory.

        Args:
            available: Available memory [bytes]; None if unknown.

        Raises:
            TooLittleMemoryError: If they do not fit; the message shows the sum.
        """
        check_replays(self.base(), self.max_concurrent, available, num_seeds=self.seeds_per_trial)

    def flags(self) -> list[str]:
        """The command-line flags that make this plan."""
        pairs = [(field.name, getattr(self, field.name)) for field in fields(self)]
        flags = [
            word
            for name, value in pairs
            if name not in _OTHERWISE
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        flags += [word for setting in self.settings for word in ("--set", setting)]
        flags += ["--warm-start", self.warm_start] if self.warm_start else []
        return [*flags, "--space", self.space_path] if self.space_path else flags

    def to_json(self) -> str:
        """The plan, its base, its space and its limits, as indented JSON."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        content["space_file"] = self.space_file is not None
        return json_text({"format": FORMAT} | content | self._written(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, what: str = "a plan") -> Self:
        """The inverse of ``to_json``.

        Args:
            text: A JSON object.
            what: Name of what was read, for the message.

        Raises:
            FormatError: If it has another format.
            ValueError: If the text is not a plan, or was written with other defaults.
        """
        try:
            content = json_object(text, what)
            check_format(content.pop("format", None), what)
            written = {name: content.pop(name) for name in ("base", "space", "limits")}
            if content.pop("space_file"):
                base = TrainConfig.of_knobs(written["base"])
                space, limits = (
                    SearchSpace.from_json(json_text(written[name]), base)
                    for name in ("space", "limits")
                )
                content["space_file"] = SpaceFile(space, limits)
            plan = cls(**content)
        except FormatError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"a plan must be as this version writes it, but is not: {error.args[0]}; start a "
                "new sweep"
            ) from error
        if written != plan._written():
            raise ValueError(
                "this sweep was made with other defaults or another search space than this "
                "version's, so its trials would not compare; start a new one"
            )
        return plan

    def _written(self) -> dict[str, Any]:
        return {
            "base": self.base().knobs(),
            "space": json_value(self.space().to_json()),
            "limits": json_value(self.limits().to_json()),
        }


def _check_inferable(base: TrainConfig) -> None:
    """Check that a memory can infer what differs between the tasks, and that its replay is valid.

    Raises:
        ValueError: If either is not so.
    """
    from ssmrl.context.networks import hidden_code  # torch, which --help need not wait for

    hidden_code(base)
    replay_need(base)


def _check_flags_count(plan: SweepPlan) -> None:
    """Check that the space file does not change knobs that have a flag, such as ``--seed``.

    For example, the seeds of repeated points are counted from that flag.
    """
    base = plan.base().knobs()
    flagged = TrainConfig.for_task(plan.task, plan.algorithm).with_knobs(
        {"policy.method": plan.method, "seed": plan.seed}
    )
    flags = {
        "env.task": "task",
        "policy.method": "method",
        "algorithm": "algorithm",
        "seed": "seed",
    }
    for knob, flag in flags.items():
        if base[knob] != (expected := flagged.knobs()[knob]):
            raise ValueError(
                f"`{knob}` must be set by `--{flag}` alone, but is {base[knob]!r} in the space "
                f"file and {expected!r} by the flag; leave it out of the file's `base`"
            )


def _check_known(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UnknownNameError(f"unknown {what} {name!r}; the {what}s are: {', '.join(known)}")


def usable_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
