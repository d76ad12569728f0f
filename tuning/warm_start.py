"""Rows of an earlier sweep from which a new one's searcher learns; they are no trials of it."""

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
    """What of an earlier table begins the studies of a new sweep.

    Attributes:
        path: The table.
        rows: Those that are points of the new space, under ids that no trial of a sweep has.
        num_read: Rows of the table.
    """

    path: Path
    rows: tuple[Trial, ...]
    num_read: int

    @classmethod
    def of(cls, path: Path, plan: SweepPlan) -> "WarmStart":
        """Read a table, and take what a sweep can learn from.

        A row is taken if what training received is a point of the sweep's first space, whatever its
        seed: also one of a sweep that searched other knobs. One that was lost tells nothing.

        Args:
            path: A ``trials.jsonl``, or the folder of a sweep.
            plan: Of the new sweep.

        Raises:
            FormatError: If another version wrote it.
            ValueError: If there is no such table, a row of it has a score that does not compare
                with the sweep's, which the message names, or none can be taken.
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
                f"the {len(read)} rows of {path} is one; search where that sweep did, with its "
                "other settings, or leave it out"
            )
        return cls(path, tuple(rows), len(read))

    def line(self) -> str:
        """What to say before the start."""
        return (
            f"warm start: {len(self.rows)} of {self.num_read} rows of {self.path} are points of "
            "the search space; the searcher learns from them, and they count as no trials"
        )

    def keep(self, folder: Path, sweep: str) -> None:
        """Copy the rows to the folder of the new sweep, before its plan is there.

        Args:
            folder: Of the sweep.
            sweep: Its id.
        """
        path = folder / WARM_ROWS
        path.unlink(missing_ok=True)  # of a start that was killed before it wrote its plan
        table = TrialTable(path, sweep)
        for row in self.rows:
            table.append(row)


def kept_warm_rows(
    plan: SweepPlan, folder: Path, *, say: Callable[[str], None]
) -> tuple[Trial, ...]:
    """The rows with which a sweep began, as they were copied to its folder.

    Args:
        plan: Of the sweep.
        folder: Where it is kept.
        say: Is told if some of them are gone.

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
            "began; rounds that are still to begin are searched without the others"
        )
    return rows


def _table(path: Path) -> Path:
    if path.is_dir():
        path /= ROWS
    if path.suffix == ".csv":
        raise ValueError(
            f"`--warm-start` must be a {ROWS}, or the folder that holds one, but got {path}: a CSV "
            "says what was searched, and not whether task, evaluation and other settings were these"
        )
    if not path.is_file():
        raise ValueError(
            f"there is no table at {path}; give `--warm-start` a {ROWS}, or the folder of a sweep"
        )
    return path


def _check_compares(row: Trial, plan: SweepPlan, path: Path) -> None:
    """Refuse a row whose score means something else than one of the sweep."""
    base = plan.base()
    first = ("algorithm", "env.task")  # on which the others may depend
    for knob, here in sorted(base.knobs().items(), key=lambda pair: pair[0] not in first):
        if knob == "seed" or why_not_searched(knob, base) is None:
            continue
        if (there := row.config.get(knob)) != here:
            raise _not_comparable(row, path, knob, there, here)
    # A trial that was trained to its end was judged last at the whole of its budget.
    is_whole = row.state is TrialState.COMPLETE
    if row.judged_at > plan.max_env_steps or (is_whole and row.judged_at != plan.max_env_steps):
        raise _not_comparable(row, path, "max_env_steps", row.judged_at, plan.max_env_steps)


def _not_comparable(
    row: Trial, path: Path, what: str, there: KnobValue | None, here: KnobValue
) -> ValueError:
    return ValueError(
        f"`--warm-start` must name a sweep whose scores compare with this one's, but `{what}` is "
        f"{there!r} for {row.trial_id} of {path} and {here!r} here; make them equal, or leave it "
        "out"
    )


def _point(row: Trial, space: SearchSpace) -> dict[str, KnobValue] | None:
    """The point of the space that training received; None if it was none."""
    point: dict[str, KnobValue] = {}
    while waiting := [knob for knob in space.active_knobs(point) if knob not in point]:
        if not row.config.keys() >= set(waiting):
            return None
        point |= {knob: row.config[knob] for knob in waiting}
    if not space.contains(point):
        return None
    here = space.configure(point).knobs()
    return point if {**row.config, "seed": 0} == {**here, "seed": 0} else None
