"""Results of the GPU script: rows, verdicts and files; nothing is measured here."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmrl.files import replace_file
from ssmrl.strict_json import json_text, json_value

COLUMNS = ("part", "what", "value", "unit", "goal", "verdict", "note")


@dataclass(frozen=True)
class Row:
    """One number, or why there is none.

    Attributes:
        part: Part of the script it belongs to.
        what: What was measured, in words that stand alone.
        value: The number; None if there is none.
        unit: Its unit.
        goal: Goal it is compared with, or None.
        at_most: Whether the goal is an upper limit.
        must: Whether the script fails if the goal is missed, as for checks.
        trouble: Why it was not measured: ``failed``, ``not run`` or ``not on this device``; empty
            if it was measured.
        note: Circumstances of the measurement.
    """

    part: str
    what: str
    value: float | None = None
    unit: str = ""
    goal: float | None = None
    at_most: bool = False
    must: bool = False
    trouble: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal. A row without a value misses any goal.

        Example:
            >>> Row("check", "error", 1e-12, goal=1e-10, at_most=True).met
            True
        """
        if self.goal is None or self.trouble:
            return None
        if self.value is None:
            return False
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, the trouble, or nothing."""
        return self.trouble or ("" if self.met is None else "met" if self.met else "missed")

    @property
    def wanted(self) -> str:
        """The goal in words."""
        if self.goal is None:
            return ""
        return f"{'<=' if self.at_most else '>='} {self.goal:g}"

    @property
    def is_failure(self) -> bool:
        """Whether the script must end with exit code 1 because of it."""
        return self.trouble == "failed" or (self.must and self.met is False)

    def to_json(self) -> str:
        """The row as one line of JSON."""
        return json_text(dataclasses.asdict(self))

    @classmethod
    def of_json(cls, text: str) -> "Row":
        """The inverse of ``to_json``."""
        return cls(**json_value(text, "a row"))


class Record:
    """The rows so far, written to disk each time one is added.

    Args:
        folder: Folder of ``gpu.csv`` and ``gpu.json``; it is made.
        about: Facts that all rows share: requested device, limit, versions.

    Attributes:
        rows: Rows in the order in which they came.
        path: Path of the CSV; the JSON is beside it.

    Raises:
        FileExistsError: If either file exists: measurements are not overwritten.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.rows: list[Row] = []
        self._about = about
        self.path, self._json = folder / "gpu.csv", folder / "gpu.json"
        if there := [str(path) for path in (self.path, self._json) if path.exists()]:
            raise FileExistsError(
                f"{' and '.join(there)} must not be there yet; move away what was measured, or "
                "choose another `--output`"
            )
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, row: Row) -> None:
        """Add a row to both files."""
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for each in self.rows:
            value = "" if each.value is None else f"{each.value:.6g}"
            cells = (value, each.unit, each.wanted, each.verdict, each.note)
            writer.writerow([each.part, each.what, *cells])
        replace_file(self.path, text.getvalue())
        rows = [dataclasses.asdict(each) | {"verdict": each.verdict} for each in self.rows]
        replace_file(self._json, json_text(self._about | {"rows": rows}, indent=1) + "\n")


def table(rows: Sequence[Row], title: str) -> str:
    """All rows for a terminal, under the device's name."""
    width = max([len(row.what) for row in rows], default=0)
    lines, part = [title, f"  {'':<{width}}  {'goal':>10}  {'got':>10}"], ""
    for row in rows:
        if row.part != part:
            part = row.part
            lines.append(part)
        got = "" if row.value is None else number(row.value)
        text = f"  {row.what:<{width}}  {row.wanted:>10}  {got:>10} {row.unit:<12}"
        lines.append(f"{text} {row.verdict:<7} {row.note}".rstrip())
    return "\n".join(lines)


def number(value: float) -> str:
    """A number for a terminal.

    Example:
        >>> number(12345.6), number(0.00012345), number(-30.04)
        ('12,346', '0.000123', '-30')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
