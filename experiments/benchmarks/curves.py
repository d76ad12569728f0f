"""Learning curves as files: written, read and drawn."""

import csv
import io
import itertools
from pathlib import Path
from typing import TypeAlias

from ssmrl.config import METHODS, TrainConfig
from ssmrl.envs.families import get_family

COLUMNS = (
    "env_steps",
    "return_before",
    "return_after",
    "seconds",
    "held_out_before",
    "held_out_after",
    "held_out_shuffled",
)

CurveRow: TypeAlias = dict[str, float]
"""One iteration of one seed; values that were not measured have no key."""


def curve_text(rows: list[CurveRow]) -> str:
    """A curve as CSV; values that were not measured are left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        values = (row.get(name) for name in COLUMNS[1:])
        rounded = ("" if value is None else f"{value:.4f}" for value in values)
        writer.writerow([int(row["env_steps"]), *rounded])
    return text.getvalue()


def read_curve(path: Path) -> list[CurveRow]:
    """The inverse of ``curve_text``: empty cells are missing keys."""
    with path.open(newline="") as file:
        return [
            {name: float(cell) for name, cell in row.items() if cell}
            for row in csv.DictReader(file)
        ]


def draw_curves(task: str, folder: Path) -> Path:
    """Draw every curve of a task found in a folder, one band per label.

    Raises:
        ValueError: If there is no curve.
        KeyError: If the task is unknown.
    """
    from experiments.plots import Curve, learning_curves

    family = get_family(task)
    paths = sorted(folder.glob(f"learning-{task}-*-seed*.csv"), key=_label_and_seed)
    # One task's name may begin with another's: the next word must be a method.
    paths = [p for p in paths if p.stem.removeprefix(f"learning-{task}-").split("-")[0] in METHODS]
    if not paths:
        raise ValueError(f"there is no curve of {task} in {folder}")
    curves = []
    for label, group in itertools.groupby(paths, key=lambda path: _label_and_seed(path)[0]):
        seeds = [[row for row in read_curve(path) if "return_after" in row] for path in group]
        for column, style in (("return_after", "-"), ("return_before", ":")):
            x = [row["env_steps"] for row in min(seeds, key=len)]
            y = [[row[column] for row in rows[: len(x)]] for rows in seeds]
            name = f"{label.removeprefix(f'learning-{task}-')}, {column.removeprefix('return_')}"
            curves.append(Curve(f"{name} ({len(seeds)} seeds)", x, y, style))
    bound = family.no_adaptation_bound(TrainConfig.for_task(task, "promp").env.horizon)
    return learning_curves(
        folder / f"learning-{task}.png", curves, title=task, bound=bound, y_label="return"
    )


def _label_and_seed(path: Path) -> tuple[str, int]:
    label, _, seed = path.stem.rpartition("-seed")
    return label, int(seed)
