"""Per-task returns behind a curve of ``memory_learning``: written, read and summarised."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from experiments.statistics import crossed_interval, trimmed_mean
from ssmrl.files import replace_file

QUARTER = 0.25

Returns: TypeAlias = Float[np.ndarray, "episodes tasks"]
"""Returns of one evaluation, by episode of the meta-episode and by task."""


def returns_path(folder: Path, task: str, label: str, seed: int | str) -> Path:
    """Path of a run's returns; the seed may be a glob pattern."""
    return folder / f"memory-returns-{task}-{label}-seed{seed}.csv"


def write_returns(path: Path, evaluations: Sequence[Returns]) -> None:
    """Write the returns of all evaluations of a run, a line for each return."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("evaluation", "episode", "task", "return"))
    for number, returns in enumerate(evaluations):
        for place, value in np.ndenumerate(returns):
            writer.writerow((number, *place, f"{value:.6g}"))
    replace_file(path, text.getvalue())


def read_returns(path: Path) -> dict[int, Returns]:
    """Returns by number of the evaluation; a file may lack evaluations of the curve.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    found: dict[int, dict[tuple[int, int], float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            place = int(row["episode"]), int(row["task"])
            found.setdefault(int(row["evaluation"]), {})[place] = float(row["return"])
    tables = {}
    for number, returns in found.items():
        shape = tuple(last + 1 for last in max(returns))
        tables[number] = np.array([returns[place] for place in np.ndindex(shape)]).reshape(shape)
    return tables


def interquartile(seeds: Sequence[Returns]) -> tuple[float, tuple[float, float] | None]:
    """Interquartile mean over seeds and tasks, each a mean over episodes, and its interval."""
    scores = np.stack(seeds).mean(1)
    return float(trimmed_mean(scores.ravel(), QUARTER)), crossed_interval(scores, trim=QUARTER)


def summary(seeds: Sequence[Returns]) -> str:
    """Summary of an evaluation of all seeds on the same tasks.

    Returns:
        Interquartile mean over seeds and tasks with the interval over both; with several episodes
        per task, also the mean of each episode.
    """
    by_episode = np.stack(seeds)
    middle, interval = interquartile(seeds)
    ends = "" if interval is None else " [{:.2f}, {:.2f}]".format(*interval)
    line = f"interquartile mean {middle:.2f}{ends} over seeds and tasks"
    if by_episode.shape[1] > 1:
        line += f", by episode {', '.join(f'{mean:.2f}' for mean in by_episode.mean((0, 2)))}"
    return line
