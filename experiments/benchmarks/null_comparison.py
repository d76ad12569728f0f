"""``python -m experiments.benchmarks.null_comparison``: how often equal configurations differ.

One configuration of ``point`` is trained with many seeds. Groups of them are compared as a sweep
compares its winner with the default: any difference found is a false alarm.
"""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import stdev
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer

from experiments.folder_option import mounted
from ssmrl.command_line import command_app
from ssmrl.config import TrainConfig
from ssmrl.files import replace_file
from ssmrl.rollout.evaluate import judge
from ssmrl.rollout.play import LocalCollector
from ssmrl.run import LocalEngine, TrainingRun
from ssmrl.student import student_factor
from tuning.comparison import compare
from tuning.fresh_returns import FRESH_DRAW, NUM_FRESH_TASKS

SIZES = (3, 6)
MAX_FALSE_ALARMS, MIN_FOUND = 0.07, 0.8
SHIFT = 2.0
"""Deficit of the worse configuration [standard deviations over seeds]."""

app = command_app()


def seed_returns(path: Path, config: TrainConfig, num_seeds: int, env_steps: int) -> list[float]:
    """Mean return on fresh tasks by seed, each saved as soon as it is known.

    Args:
        path: CSV of the returns; seeds that it has are kept.
        config: Configuration to train.
        num_seeds: Number of seeds, from 0.
        env_steps: Length of each training [env steps].

    Raises:
        ValueError: If the CSV holds trainings of another length, or cannot be read.
        RuntimeError: If a seed diverges.
    """
    found = _read(path, env_steps)
    collect = LocalCollector(config, num_threads=1)
    for seed in range(num_seeds):
        if seed in found:
            continue
        this = config.with_knobs({"seed": seed})
        engine = LocalEngine(this, num_threads=1)
        with TemporaryDirectory() as folder:  # a seed takes seconds: no resume
            run = TrainingRun(this, max_env_steps=env_steps, folder=Path(folder), engine=engine)
            while not (row := run.advance()).finished and not row.diverged:
                pass
        if row.diverged:
            raise RuntimeError(f"seed {seed} diverged: {row.reason}")
        params = engine.learner.params()
        returns = judge(this, params, collect, num_episodes=1, draw=FRESH_DRAW).mean_returns()
        found[seed] = returns[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, _text(found, env_steps))
        typer.echo(f"seed {seed}: {returns[0]:.3f}")
    return [found[seed] for seed in range(num_seeds)]


def shares(
    returns: Sequence[float], size: int, num_draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Shares of pairs of groups called different, and of worse groups called worse.

    Args:
        returns: Returns of all seeds.
        size: Seeds of a group; no seed is in both.
        num_draws: Pairs of groups.
        rng: Generator of the pairs.
    """
    alarms = finds = 0
    worse_by = SHIFT * stdev(returns)
    for _ in range(num_draws):
        drawn = rng.permutation(returns)[: 2 * size].tolist()
        one, other = drawn[:size], drawn[size:]
        found = compare(one, other, num_tasks=NUM_FRESH_TASKS)
        alarms += _is_above(found.low) or _is_above(found.high, -1.0)
        worse = [value - worse_by for value in other]
        finds += _is_above(compare(one, worse, num_tasks=NUM_FRESH_TASKS).low)
    return alarms / num_draws, finds / num_draws


def _is_above(end: float | None, sign: float = 1.0) -> bool:
    return end is not None and sign * end > 0.0


def _read(path: Path, env_steps: int) -> dict[int, float]:
    if not path.exists():
        return {}
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = {int(row["seed"]): float(row["return"]) for row in rows}
        lengths = {int(row["env_steps"]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no table of seeds and returns: {error}") from error
    if lengths - {env_steps}:
        raise ValueError(
            f"{path} has trainings of {sorted(lengths)} env steps, but `--env-steps` is "
            f"{env_steps}; give the same, or another `--output`"
        )
    return found


def _text(found: dict[int, float], env_steps: int) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["seed", "env_steps", "return"])
    writer.writerows((seed, env_steps, f"{found[seed]:.6g}") for seed in sorted(found))
    return text.getvalue()


@app.command()
def null_comparison(
    num_seeds: Annotated[
        int, typer.Option("--seeds", min=2 * max(SIZES), help="Seeds to train.")
    ] = 60,
    env_steps: Annotated[int, typer.Option(min=1, help="Budget of each run [env steps].")] = 8000,
    num_draws: Annotated[int, typer.Option("--draws", min=1, help="Pairs of groups.")] = 10_000,
    output: Annotated[
        Path,
        typer.Option(help="CSV of the seeds' returns.", callback=mounted),
    ] = Path("experiments/results/null-comparison.csv"),
) -> None:
    """Train the missing seeds, and compare groups; exit code 1 if a target is missed."""
    import torch

    torch.set_num_threads(1)
    config = TrainConfig.for_task("point").with_knobs(
        {"evaluation.num_tasks": NUM_FRESH_TASKS, "evaluation.num_episodes": 1}
    )
    try:
        returns = seed_returns(output, config, num_seeds, env_steps)
    except (RuntimeError, ValueError) as reason:
        typer.echo(str(reason), err=True)
        raise typer.Exit(2) from reason
    typer.echo(
        f"{num_seeds} seeds: {np.mean(returns):.2f}, standard deviation {stdev(returns):.2f}"
    )
    missed = False
    for size in SIZES:
        alarms, finds = shares(returns, size, num_draws, np.random.default_rng(0))
        error = student_factor(num_draws) * math.sqrt(alarms * (1.0 - alarms) / num_draws)
        typer.echo(
            f"{size} against {size} seeds: {100 * alarms:.1f} % +- {100 * error:.1f} called "
            f"different (at most {100 * MAX_FALSE_ALARMS:g}), {100 * finds:.1f} % of those worse "
            f"by {SHIFT:g} standard deviations found"
            + (f" (at least {100 * MIN_FOUND:g})" if size == max(SIZES) else "")
        )
        missed |= alarms > MAX_FALSE_ALARMS or (size == max(SIZES) and finds < MIN_FOUND)
    raise typer.Exit(int(missed))


if __name__ == "__main__":
    app()
