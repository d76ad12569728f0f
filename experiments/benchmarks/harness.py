"""Interleaved timing, and rows of measured numbers and targets, for all benchmarks."""

import csv
import gc
import io
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssmrl.files import replace_file

COLUMNS = ("what", "value", "unit", "target", "met", "note")


@dataclass(frozen=True)
class Settings:
    """How thoroughly to measure.

    Attributes:
        quick: Whether only to check that everything works; the numbers are then worthless.
        num_repeats: Timed repeats of every contestant.
        num_threads: Threads of matrix products and physics, ours and the peers'.
        memory_iterations: Meta-iterations over which memory may not grow.
    """

    quick: bool = False
    num_repeats: int = 9
    num_threads: int = 2
    memory_iterations: int = 200

    @property
    def repeats(self) -> int:
        """Timed repeats, few when quick."""
        return 2 if self.quick else self.num_repeats


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        what: What was measured, in words that stand alone.
        value: The number.
        unit: Its unit; ``x`` is a ratio.
        target: Target it is compared with, or None.
        at_most: Whether the target is an upper limit.
        note: Circumstances of the measurement.
    """

    what: str
    value: float
    unit: str = "x"
    target: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target. A NaN misses any target."""
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    @property
    def share(self) -> float | None:
        """The number in units of its target, inverted for an upper limit: 1 or more meets it."""
        if self.target is None:
            return None
        return self.target / self.value if self.at_most else self.value / self.target

    @property
    def wanted(self) -> str:
        """The target in words."""
        if self.target is None:
            return ""
        return f"{'<=' if self.at_most else '>='} {self.target:g}"

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or nothing."""
        return "" if self.met is None else "met" if self.met else "missed"


@dataclass(frozen=True)
class Measured:
    """Results of a benchmark.

    Attributes:
        rows: Its numbers; those with a target first.
        lines: Durations [s] by length [steps], by name, if it measured their growth.
    """

    rows: list[Row]
    lines: Mapping[str, Mapping[int, float]] = field(default_factory=dict)


def interleaved_seconds(
    contestants: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    num_warmups: int = 1,
    prepare: Callable[[str], object] | None = None,
) -> dict[str, float]:
    """Median duration of each contestant, run in turns: A B A B.

    Other load on the machine then affects all of them alike, so ratios of medians are meaningful.

    Args:
        contestants: Calls to time, by name.
        repeats: Timed turns of each.
        num_warmups: Untimed turns of each before.
        prepare: Called with the contestant's name before each of its turns, untimed.

    Returns:
        Medians [s], by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    gc.collect()
    for turn in range(num_warmups + repeats):
        for name, play in contestants.items():
            if prepare is not None:
                prepare(name)
            started = time.perf_counter()
            play()
            elapsed = time.perf_counter() - started
            if turn >= num_warmups:
                seconds[name].append(elapsed)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(rows: Sequence[Row]) -> str:
    """Rows for a terminal: target, got, met or missed."""
    width = max([len(row.what) for row in rows], default=0)
    lines = [f"  {'':<{width}}  {'target':>10}  {'got':>12}"]
    for row in rows:
        got = f"{row.value:,.0f}" if abs(row.value) >= 1000 else f"{row.value:.3g}"
        text = f"  {row.what:<{width}}  {row.wanted:>10}  {got:>12} {row.unit:<12} {row.verdict:<7}"
        lines.append(f"{text} {row.note}".rstrip())
    return "\n".join(lines)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a benchmark's CSV atomically: a file that exists is complete."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([row.what, f"{row.value:.6g}", row.unit, row.wanted, row.verdict, row.note])
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.getvalue())


def read_rows(path: Path) -> list[Row]:
    """The inverse of ``write_rows``, up to rounding."""
    with path.open(newline="") as file:
        return [
            Row(
                what=cells["what"],
                value=float(cells["value"]),
                unit=cells["unit"],
                target=float(cells["target"].split()[1]) if cells["target"] else None,
                at_most=cells["target"].startswith("<="),
                note=cells["note"],
            )
            for cells in csv.DictReader(file)
        ]
