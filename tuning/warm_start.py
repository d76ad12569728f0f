"""Rows of an earlier sweep from which a new one's searcher learns; they are not its trials."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ssmrl.config import KnobValue
from tuning.plan import SweepPlan
from tuning.spaces.space import SearchSpace, why_not_searched
from tuning.table.record_files import ROWS, WARM_ROWS
from tuning.table.trial import LOST, Trial, TrialState, TrialTable


@dataclass(frozen=True)
class WarmStart:
    """Rows of an earlier table with which the studies of a new sweep begin.

    Attributes:
        path: Path of the table.
        rows: Rows that are points of the new space, under ids that no trial of a sweep has.
        num_read: Number of rows of the table.
    """

    path: Path
    rows: tuple[Trial, ...]
    num_read: int

    @classmethod
    def of(cls, path: Path, plan: SweepPlan) -> "WarmStart":
        """Read a table, and take the rows that a sweep can learn from.

        A row is taken if its configuration is a point of the sweep's first space, whatever its seed
        and whichever knobs its own sweep searched. Lost trials are left out.

        Args:
            path: A ``trials.jsonl``, or the folder of a sweep.
            plan: Plan of the new sweep.

        Raises:
            FormatError: If another version wrote the table.
            ValueError: If there is no such table, no row can be taken, or the score of a row does
                not compare with the sweep's; the message names that row.
        """
        path = _table(path)
        read = TrialTable(path).rows
        known = [row for row in read if row.config]
        for row in known:
            _check_compares(row, plan, path)
        rows = []
        for row in known:
            point = _point(row, plan.space())
            if point is not None and row.state not in LOST:
                rows.append(replace(row, trial_id=f"warm-{row.trial_id}", knobs=point))
        if not rows:
            raise ValueError(
                f"`--warm-start` must name a table with points of the search space, but none of "
                f"the {len(read)} rows of {path} is one; search that sweep's space with its other "
                "settings, or leave the flag out"
            )
        return cls(path, tuple(rows), len(read))

    def line(self) -> str:
        """The line printed before the start."""
        return (
            f"warm start: {len(self.rows)} of {self.num_read} rows of {self.path} are points of "
            "the search space; the searcher learns from them, and they do not count as trials"
        )

    def keep(self, folder: Path, sweep: str) -> None:
        """Copy the rows to the folder of the new sweep, before its plan is written.

        Args:
            folder: Folder of the sweep.
            sweep: Id of the sweep.
        """
        path = folder / WARM_ROWS
        path.unlink(missing_ok=True)  # left by a start that was killed before it wrote its plan
        table = TrialTable(path, sweep)
        for row in self.rows:
            table.append(row)


def kept_warm_rows(
    plan: SweepPlan, folder: Path, *, say: Callable[[str], None]
) -> tuple[Trial, ...]:
    """The rows with which a sweep began, from the copy in its folder.

    Args:
        plan: Plan of the sweep.
        folder: Folder of the sweep.
        say: Prints a line if some of them are gone.

    Raises:
        ValueError: If the file is damaged.
    """
    if not plan.num_warm_rows:
        return ()
    path = folder / WARM_ROWS
    rows = TrialTable(path, plan.sweep_id).rows
    if len(rows) < plan.num_warm_rows:
        say(
            f"{path} holds {len(rows)} of the {plan.num_warm_rows} rows with which the sweep "
            "began; rounds that have not started are searched without the others"
        )
    return rows


def _table(path: Path) -> Path:
    if path.is_dir():
        path /= ROWS
    if path.suffix == ".csv":
        raise ValueError(
            f"`--warm-start` must be a {ROWS}, or the folder that holds one, but got {path}: a CSV "
            "holds what was searched, but not the task, the evaluation and the other settings"
        )
    if not path.is_file():
        raise ValueError(
            f"there is no table at {path}; give `--warm-start` a {ROWS}, or the folder of a sweep"
        )
    return path


def _check_compares(row: Trial, plan: SweepPlan, path: Path) -> None:
    """Refuse a row whose score does not compare with the sweep's."""
    base = plan.base()
    first = ("algorithm", "env.task")  # on which the others may depend
    for knob, here in sorted(base.knobs().items(), key=lambda pair: pair[0] not in first):
        if knob == "seed" or why_not_searched(knob, base) is None:
            continue
        if (there := row.config.get(knob)) != here:
            raise _not_comparable(row, path, knob, there, here)
    # A complete trial was last judged at its whole budget.
    is_whole = row.state is TrialState.COMPLETE
    if row.judged_at > plan.max_env_steps or (is_whole and row.judged_at != plan.max_env_steps):
        raise _not_comparable(row, path, "max_env_steps", row.judged_at, plan.max_env_steps)


def _not_comparable(
    row: Trial, path: Path, what: str, there: KnobValue | None, here: KnobValue
) -> ValueError:
    return ValueError(
        f"`--warm-start` must name a sweep whose scores compare with this one's, but `{what}` is "
        f"{there!r} for {row.trial_id} of {path} and {here!r} here; make them equal, or leave the "
        "flag out"
    )


def _point(row: Trial, space: SearchSpace) -> dict[str, KnobValue] | None:
    """The row's configuration as a point of the space; None if it is none."""
    point: dict[str, KnobValue] = {}
    while waiting := [knob for knob in space.active_knobs(point) if knob not in point]:
        if not row.config.keys() >= set(waiting):
            return None
        point |= {knob: row.config[knob] for knob in waiting}
    if not space.contains(point):
        return None
    here = space.configure(point).knobs()
    return point if {**row.config, "seed": 0} == {**here, "seed": 0} else None
