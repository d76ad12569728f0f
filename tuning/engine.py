"""A sweep from its first round to its conclusion; it holds the slow imports."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cluster.auth_token import TokenError
from cluster.own_modules import MissingModuleError, check_modules
from cluster.session import StartError, num_gpus, session
from cluster.shared_folder import NotSharedError, check_shared
from ssmrl.checkpoint import own_parts
from ssmrl.files import aside
from ssmrl.import_path import is_import_path
from ssmrl.knobs import KnobValue
from ssmrl.train_log import LogKind
from tuning.conclusion import conclude, next_until_shown
from tuning.driver import run_trials
from tuning.ending import LostError
from tuning.folder.interruption import hear_signals
from tuning.kept_rounds import Decide, kept_rounds
from tuning.placement import GpuError, Placement
from tuning.plan import SweepPlan, TooFewCpusError
from tuning.planned_points import planned_points
from tuning.progress import Progress
from tuning.rounds import first_number, is_verdict, next_round
from tuning.row_keeper import METRIC
from tuning.search.searcher import StudySearcher, repair_journal
from tuning.spaces.ranges import Choice, range_text
from tuning.table.round_log import Round
from tuning.table.trial import Trial, TrialTable
from tuning.trial_memory import Avoided, trial_need
from tuning.warm_start import kept_warm_rows

START_ERRORS = (
    ConnectionError,
    GpuError,
    MissingModuleError,
    NotSharedError,
    StartError,
    TokenError,
    TooFewCpusError,
)
"""Errors that appear only when Ray is started or joined; each says in a line what to do."""


class DamagedError(LostError):
    """A file of the sweep cannot be read; the message names it and the line."""


def run_sweep(
    plan: SweepPlan,
    folder: Path,
    *,
    address: str | None,
    num_cpus: int,
    dashboard: bool = False,
    quiet: bool,
    command: str,
    placement: Placement,
    confirm: bool = False,
    log: LogKind | None = None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Search round after round, compare, report.

    Args:
        plan: Plan of the sweep.
        folder: Folder of the sweep; an existing sweep is resumed.
        address: Ray cluster to join; None starts a private one.
        num_cpus: Cores that a private cluster may use.
        dashboard: Whether to print the dashboard's address; a private cluster has one only then.
        quiet: Whether to leave stdout to the result.
        command: Command line that makes this sweep.
        placement: Devices on which trials learn.
        confirm: Whether to train more seeds while no difference of winner and default is shown.
        log: Additional log of the trials' evaluations; None for none.
        say: Prints a line.

    Returns:
        The summary of ``conclude``.

    Raises:
        DamagedError: If a file of the folder cannot be read.
        TooFewCpusError: If the cluster cannot hold the trials.
        GpuError: If the cluster has no GPUs for the trials.
        ConnectionError: If there is no cluster at the address.
        TokenError: If a private cluster cannot require a token.
        NotSharedError: If nodes of the cluster do not see the folder.
        MissingModuleError: If a node cannot import a module of the user's own.
    """
    sweep = Sweep(plan, folder, log=log, say=say)
    decide: Decide = partial(next_until_shown, folder) if confirm else next_round
    if confirm or not sweep.is_finished():
        with session(
            address, num_cpus=num_cpus, dashboard=dashboard, gpus=placement.gpus, say=say
        ) as found_cpus:
            cpus = ready(plan, folder, address=address, found_cpus=found_cpus, say=say)
            placement = on_cluster(plan, placement, say=say)
            began, num_before = time.monotonic(), len(sweep.table.rows)
            while (this := sweep.begin_round(decide)) is not None:
                sweep.run_round(this, num_cpus=cpus, placement=placement, quiet=quiet)
                if not (sweep.is_complete(this) and sweep.has_time):
                    break
            if rows := sweep.table.rows[num_before:]:
                say(frame_line(rows, time.monotonic() - began, plan.max_concurrent))
    return conclude(plan, folder, sweep.table, rounds=sweep.rounds, command=command, say=say)


def frame_line(rows: Sequence[Trial], seconds: float, at_once: int) -> str:
    """A line on the overhead beside training and evaluation: starts, choices, waiting at the end.

    Args:
        rows: The trials that were run.
        seconds: Wall-clock time of all of them [s].
        at_once: Number of concurrent trials.

    Example:
        >>> from tuning.table.trial import TrialState
        >>> rows = [Trial(f"t{n}", n, TrialState.PRUNED, 1.0, {}, seconds=9.0) for n in range(4)]
        >>> frame_line(rows, 20.0, 2)
        '4 trials in 20 s, 36 s of training and evaluation, 2 at once: 1.00 s a trial beside that'
    """
    trained = sum(row.seconds for row in rows)
    beside = max(0.0, seconds * min(at_once, len(rows)) - trained) / len(rows)
    trials = f"{len(rows)} {'trial' if len(rows) == 1 else 'trials'}"
    return (
        f"{trials} in {seconds:,.0f} s, {trained:,.0f} s of training and evaluation, {at_once} at "
        f"once: {beside:.2f} s a trial beside that"
    )


def ready(
    plan: SweepPlan,
    folder: Path,
    *,
    address: str | None,
    found_cpus: int,
    say: Callable[[str], None],
) -> int:
    """Check that the trials can run here; Ray must be running.

    A private Ray that is too small is refused; its trials share all of its cores. A cluster that
    was joined may grow on demand; each trial gets what it requests.

    Args:
        plan: Plan of the sweep.
        folder: Folder of the sweep.
        address: Address of the joined cluster; None for a private one.
        found_cpus: Number of CPUs that Ray has.
        say: Prints a line.

    Returns:
        Number of CPUs of all concurrent trials together.

    Raises:
        TooFewCpusError: If a private Ray cannot hold the trials.
        NotSharedError: If nodes of the cluster do not see the folder.
        MissingModuleError: If a node cannot import a module of the user's own.
    """
    if address is None:
        plan.check_cpus(found_cpus)
        return found_cpus
    check_shared(folder)
    check_modules(_own_parts(plan))
    needed = math.ceil(plan.max_concurrent * plan.cpus_per_trial())
    if needed > found_cpus:
        say(
            f"the trials need {needed} CPUs, the cluster has {found_cpus}: some wait until it grows"
        )
    return needed


def _own_parts(plan: SweepPlan) -> list[str]:
    """The import paths in the base configuration and among the options of Choices, sorted."""
    tried = [r.options for r in plan.limits().ranges.values() if isinstance(r, Choice)]
    values = {str(value) for options in tried for value in options if is_import_path(value)}
    return sorted({*own_parts(plan.base()), *values})


def on_cluster(plan: SweepPlan, placement: Placement, *, say: Callable[[str], None]) -> Placement:
    """The placement with each trial's GPUs, once Ray is running; a private Ray's stays as planned.

    Args:
        plan: Plan of the sweep.
        placement: Planned placement.
        say: Prints a line.

    Raises:
        GpuError: If a cluster has no GPUs for the trials, and none can come.
    """
    if placement.gpus is not None:
        return placement
    now, most = num_gpus()
    placement = placement.joined(plan, now, most)
    say(f"each trial has {placement.share:g} of a GPU; the cluster has {now}, and can have {most}")
    return placement


class Sweep:
    """A sweep on the disk: its table, its rounds and its studies.

    Args:
        plan: Plan of the sweep.
        folder: Folder of the sweep.
        log: Additional log of the trials' evaluations; None for none.
        say: Prints a line.
        restore: Function that decides a lost round of a study again; None for a sweep.

    Raises:
        DamagedError: If a file of the folder cannot be read.
        LostError: If lost records cannot be rebuilt.
    """

    def __init__(
        self,
        plan: SweepPlan,
        folder: Path,
        *,
        log: LogKind | None = None,
        say: Callable[[str], None],
        restore: Decide | None = None,
    ) -> None:
        self._plan, self._folder, self._log_kind, self._say = plan, folder, log, say
        self._mend_journal(folder / "optuna.journal")  # here, before Ray starts, not in a round
        try:
            self.table = TrialTable(folder / "trials.jsonl", plan.sweep_id)
            self._warm = kept_warm_rows(plan, folder, say=say)
            self._log = kept_rounds(plan, folder, self.table.rows, restore=restore, say=say)
        except ValueError as error:
            repair = f"`ssmrl doctor {folder} --repair` keeps every good record"
            raise DamagedError(f"{error}; {repair}") from error
        self._deadline = time.monotonic() + plan.time_budget_s

    def _mend_journal(self, path: Path) -> None:
        """Set a damaged journal aside: it is rebuilt from the rows, which hold all that it does."""
        try:
            repair_journal(path)
        except ValueError as error:
            kept = path.replace(aside(path))
            self._say(f"{error} It was moved to {kept.name}, and is rebuilt from the rows.")

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The rounds so far."""
        return self._log.rounds

    def is_complete(self, this: Round) -> bool:
        """Whether all trials of a round have their rows."""
        return sum(row.round == this.number for row in self.table.rows) >= this.num_trials

    @property
    def has_time(self) -> bool:
        """Whether time budget is left; without it, no round is started."""
        return time.monotonic() < self._deadline

    def is_finished(self) -> bool:
        """Whether no round is left to start or to finish."""
        is_open = bool(self.rounds) and not self.is_complete(self.rounds[-1])
        return not is_open and next_round(self._plan, self.rounds, self.table.rows) is None

    def begin_round(self, decide: Decide) -> Round | None:
        """The round to work on: the last one if trials of it are missing, or a new one.

        Args:
            decide: Function that returns a new round, or None for none, like ``next_round``.
        """
        if self.rounds and not self.is_complete(self.rounds[-1]):
            return self.rounds[-1]
        this = decide(self._plan, self.rounds, self.table.rows)
        if this is None:
            return None
        self._log.append(this)
        if self._plan.rounds > 1:
            self._say(f"round {this.number}: {this.num_trials} trials, space by {this.author}")
        if is_verdict(self._plan, this):
            self._say(f"judging: {this.num_trials} trials with fresh seeds")
        for move in this.moves:
            self._say(
                f"  {move.kind} {move.knob}: {range_text(move.old)} -> {range_text(move.new)}"
            )
            self._say(f"    since {move.statistic}")
        return this

    def run_round(self, this: Round, *, num_cpus: int, placement: Placement, quiet: bool) -> None:
        """Run the missing trials of a round; Ray must be running."""
        plan = self._plan
        if (left_s := self._deadline - time.monotonic()) <= 0:
            return
        hear_signals()
        threads = max(1, int(num_cpus // (plan.max_concurrent * plan.cpus_per_trial())))
        with Progress(
            num_trials=max(plan.num_samples, first_number(self.table.rows, this) + this.num_trials),
            max_env_steps=plan.max_env_steps * plan.seeds_per_trial,
            earlier=self.table.rows,
            best=self.table.best(plan.rounds),
            time_budget_s=left_s,
            quiet_stdout=quiet,
        ) as progress:
            num_spared: Counter[str] = Counter()
            while run_trials(
                plan,
                this,
                self._folder,
                self.table,
                self.searcher(this, progress.note),
                progress,
                time_budget_s=left_s,
                num_physics_threads=threads,
                placement=placement,
                num_spared=num_spared,
                log=self._log_kind,
            ):
                left_s = max(1.0, self._deadline - time.monotonic())

    def searcher(self, this: Round, say: Callable[[str], None] | None = None) -> StudySearcher:
        """The searcher of a round; it continues where an earlier process stopped.

        Args:
            this: The round.
            say: Prints a line if points above some size are no longer tried; by default the
                sweep's own ``say``.
        """
        plan, rows = self._plan, self.table.rows
        before = [row for row in rows if row.round < this.number]
        return StudySearcher(
            this.space,
            name=plan.searcher,
            seed=plan.seed,
            storage_path=self._folder / "optuna.journal",
            study_name=self._study_name(this),
            metric=METRIC,
            initial_points=planned_points(plan, this, before, self._warm),
            imports=[*self._warm, *before],
            first_number=first_number(rows, this),
            resume=True,
            recorded=[row for row in rows if row.round == this.number],
            is_avoided=Avoided(self._need_of, lambda: self.table.rows, say or self._say),
        )

    def _need_of(self, point: Mapping[str, KnobValue]) -> int:
        return trial_need(self._plan.base(), point, self._plan.seeds_per_trial)

    def _study_name(self, this: Round) -> str:
        """The study's name, from the sweep's id: its folder may be copied or renamed."""
        return f"{self._plan.sweep_id or self._folder.name}-r{this.number}"
