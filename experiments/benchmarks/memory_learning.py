"""``python -m experiments.benchmarks.memory_learning``: return by memory over CPU time.

It trains one seed on one core, and evaluates on fresh held-out tasks after equal shares of CPU
time, in four ways: memory used, switched off, fed the rewards of another task's lane, and the
hidden variable given. ``--blind`` trains a blind twin: the same learner without the hidden
variable.
"""

import csv
import io
import math
import time
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import torch
import typer

from experiments.benchmarks.curves import read_curve
from experiments.benchmarks.memory_returns import (
    Returns,
    read_returns,
    returns_path,
    summary,
    write_returns,
)
from experiments.folder_option import mounted
from ssmrl.checkpoint import Checkpoint, CheckpointError, check_progress
from ssmrl.command_line import command_app
from ssmrl.config import TrainConfig
from ssmrl.context.learner import ContextLearner
from ssmrl.context.networks import hidden_code
from ssmrl.envs.families import get_family
from ssmrl.envs.hidden_code import HiddenCode
from ssmrl.envs.rewards import Array
from ssmrl.files import replace_file
from ssmrl.knobs import typed
from ssmrl.meta.diverged import DivergedError
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.rollout.play import LocalCollector, Mode, Play
from ssmrl.rollout.returns import episode_return
from ssmrl.run import LocalEngine, checkpoint_path
from ssmrl.student import student_interval

MODES = {
    "used": Mode.USED,
    "off": Mode.OFF,
    "other_rewards": Mode.OTHER_REWARDS,
    "given": Mode.GIVEN,
}
COLUMNS = (
    "cpu_seconds",
    "env_steps",
    *(f"{name}{suffix}" for name in MODES for suffix in ("", "_se")),
    "fell",
    "blind_return",
    "evaluation_cpu_seconds",
)
_PROGRESS = ("iterations", "rows", "returns", "cpu_seconds", "env_steps")
# First draw of a run's evaluation tasks: searches use 0, and final comparisons of sweeps 1.
FIRST_DRAW = 100

app = command_app()


class NoCode(HiddenCode):
    """Encodes all tasks alike: only the best policy for all of them can be learnt.

    Args:
        dim: Size of the code.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def encode(self, parameters: Array) -> Array:
        """Zeros, as from a memory that is switched off."""
        return 0.0 * parameters[..., [0] * self.dim]

    def decode(self, code: Array) -> Array:
        """Raise: the code holds no information."""
        raise ValueError("a code that says nothing cannot be decoded")


class MemoryLearningRun:
    """A run whose length is the CPU time of its training; evaluations do not count.

    Args:
        config: Configuration of an algorithm that adapts by memory.
        curve: CSV of the curve, rewritten after each evaluation.
        returns: CSV of the curve's returns on each task, with the memory used; for a blind twin,
            with it switched off.
        checkpoints: Folder of checkpoint and experience.
        blind: Whether to keep the hidden variable from the learner, which is then evaluated only
            with its memory switched off.

    Raises:
        FileExistsError: If there is a curve without a checkpoint: it would be overwritten.
        CheckpointError: If checkpoint or experience is damaged.
    """

    def __init__(
        self,
        config: TrainConfig,
        curve: Path,
        returns: Path,
        checkpoints: Path,
        *,
        blind: bool = False,
    ) -> None:
        self._config, self.curve, self._returns_path = config, curve, returns
        self._modes = {"off": Mode.OFF} if blind else MODES
        self._path = checkpoint_path(checkpoints, config)
        self._engine = LocalEngine(config, num_threads=1)
        if blind:
            self._engine.learner = ContextLearner(config, code=NoCode(hidden_code(config).dim))
        self._collect = LocalCollector(config, num_threads=1)
        self.rows: list[dict[str, float]] = []
        self._returns: list[Returns] = []
        self.cpu_seconds, self.env_steps = 0.0, 0
        try:
            saved = Checkpoint.load(self._path)
        except FileNotFoundError:
            if curve.exists():
                raise FileExistsError(
                    f"there is a curve at {curve}, but no checkpoint at {self._path} to "
                    "resume from; move the curve away or choose another `--output`"
                ) from None
            return
        progress = saved.progress
        check_progress(self._path, progress, _PROGRESS)
        self._engine.load(saved.tensors, progress["iterations"], self._experience)
        self.rows, self.cpu_seconds = list(progress["rows"]), progress["cpu_seconds"]
        self._returns = [np.array(returns) for returns in progress["returns"]]
        self.env_steps = int(progress["env_steps"])

    @property
    def _experience(self) -> Path:
        return self._path.with_suffix(".replay")

    def train(self, cpu_seconds: float) -> None:
        """Train until this CPU time was spent on training since the start [s]."""
        while self.cpu_seconds < cpu_seconds:
            started = time.process_time()
            self.env_steps = self._engine.iterate().env_steps
            self.cpu_seconds += time.process_time() - started

    def judge(self) -> dict[str, float]:
        """Evaluate, append a row, and save the state."""
        started = time.process_time()
        assignment = held_out_assignment(self._config, FIRST_DRAW + len(self.rows))
        lanes, episodes = self._config.evaluation.num_episodes, self._config.meta.episodes_per_task
        row: dict[str, float] = {"cpu_seconds": self.cpu_seconds, "env_steps": self.env_steps}
        for name, mode in self._modes.items():
            play = Play(assignment, lanes, episodes, mode)
            trajectories = self._collect(self._engine.learner.params(), play)
            by_episode = torch.stack(
                [episode_return(each).double().mean(1) for each in trajectories]
            )
            # The mean over the episodes of a meta-episode.
            returns = by_episode.mean(0)
            row[name] = float(returns.mean())
            row[f"{name}_se"] = float(returns.std() / math.sqrt(len(returns)))
            if name == next(iter(self._modes)):
                fell = trajectories[-1].terminated.any(-1).double().mean()
                row["fell"] = float(fell)
                self._returns.append(by_episode.numpy())
        family, horizon = get_family(self._config.env.task), self._config.env.horizon
        blind = family.blind_return([task.parameters for task in assignment.tasks], horizon)
        if blind is not None:
            row["blind_return"] = blind
        row["evaluation_cpu_seconds"] = time.process_time() - started
        self.rows.append(row)
        self.save()
        self.curve.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.curve, _csv(self.rows))
        write_returns(self._returns_path, self._returns)
        return row

    def save(self) -> None:
        """Save what is needed to resume."""
        learner = self._engine.learner
        learner.save_experience(self._experience)
        progress: dict[str, Any] = {
            "rows": self.rows,
            "returns": [returns.tolist() for returns in self._returns],
            "cpu_seconds": self.cpu_seconds,
            "env_steps": self.env_steps,
            "iterations": learner.iteration,
        }
        Checkpoint(self._config, self._engine.tensors(), progress).save(self._path)
        learner.prune_experience(self._experience)


def draw(task: str, label: str, folder: Path) -> Path:
    """Draw all seeds with a label: a line for each of ``MODES``, and one for the blind return.

    All seeds are cut to the length of the shortest.
    """
    from experiments.plots import Curve, learning_curves

    seeds = _seeds(task, label, folder)
    num_rows = len(seeds[0])
    x = [sum(rows[i]["cpu_seconds"] for rows in seeds) / len(seeds) for i in range(num_rows)]
    curves = [
        Curve(name, x, [[row[column] for row in rows] for rows in seeds], style)
        for column, (name, style) in _LINES.items()
        if all(column in row for rows in seeds for row in rows)
    ]
    return learning_curves(
        folder / f"{_stem(task, label)}.png",
        curves,
        title=f"{task}, {label}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}",
        bound=None,
        x_label="CPU seconds of one core",
        y_label="return on fresh held-out tasks",
    )


def over_seeds(task: str, label: str, folder: Path) -> list[str]:
    """Results of all seeds with a label in a folder, a line for each evaluation.

    A line has the mean return over seeds and tasks in each of ``MODES``. The one with memory used,
    or a blind twin's only one, has Student's interval over the seeds. If the returns on each task
    are kept, its interquartile mean over seeds and tasks follows.
    """
    seeds, lines = _seeds(task, label, folder), []
    returns = _returns(task, label, folder)
    for number, rows in enumerate(zip(*seeds, strict=True)):
        mean = {name: fmean(row[name] for row in rows) for name in rows[0]}
        judged = next(name for name in MODES if name in mean)
        interval = student_interval([row[judged] for row in rows])
        ends = "" if interval is None else " [{:.2f}, {:.2f}]".format(*interval)
        parts = [
            f"{name} {mean[name]:.2f}{ends if name == judged else ''}"
            for name in (*MODES, "blind_return")
            if name in mean
        ]
        lines.append(
            f"{mean['cpu_seconds']:.0f} CPU s, {mean['env_steps']:,.0f} env steps, {len(rows)} "
            f"{'seed' if len(rows) == 1 else 'seeds'}: {', '.join(parts)}"
        )
        kept = [by_number[number] for by_number in returns if number in by_number]
        if len(kept) == len(rows):
            lines[-1] += f"; {summary(kept)}"
    return lines


def _returns(task: str, label: str, folder: Path) -> list[dict[int, Returns]]:
    """Per-task returns of each seed whose file has them."""
    return [
        read_returns(p) for p in sorted(folder.glob(returns_path(folder, task, label, "*").name))
    ]


def _seeds(task: str, label: str, folder: Path) -> list[list[dict[str, float]]]:
    """Rows of all seeds, cut to the length of the shortest."""
    seeds = [read_curve(p) for p in sorted(folder.glob(f"{_stem(task, label)}-seed*.csv"))]
    num_rows = min(map(len, seeds))
    return [rows[:num_rows] for rows in seeds]


_LINES = {
    "given": ("given the hidden variable", ":"),
    "used": ("by memory", "-"),
    "off": ("memory switched off", "-"),
    "other_rewards": ("another task's rewards", "-"),
    "blind_return": ("best blind return on these tasks", "--"),
}


def _stem(task: str, label: str) -> str:
    return f"memory-learning-{task}-{label}"


def _csv(rows: list[dict[str, float]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = (row.get(name) for name in COLUMNS)
        writer.writerow(["" if cell is None else f"{cell:.6g}" for cell in cells])
    return text.getvalue()


@app.command()
def memory_learning(  # noqa: PLR0917  # one parameter a flag
    task: Annotated[str, typer.Option(help="Task family.")] = "ant-vel",
    seconds: Annotated[float, typer.Option(help="CPU time of training [s].")] = 600.0,
    every: Annotated[float, typer.Option(help="CPU time between evaluations [s].")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the training.")] = 0,
    knob: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, for example meta.episodes_per_task=2.")
    ] = None,
    label: Annotated[str, typer.Option(help="Label in the name of the curve's file.")] = "default",
    blind: Annotated[
        bool, typer.Option("--blind", help="Keep the hidden variable from the learner.")
    ] = False,
    output: Annotated[
        Path,
        typer.Option(help="Folder of the curve.", callback=mounted),
    ] = Path("experiments/results"),
    checkpoints: Annotated[
        Path, typer.Option(help="Folder of checkpoints and experience.", callback=mounted)
    ] = Path("runs/memory-learning"),
) -> None:
    """Train one seed on one core, and write its curve; the same command resumes it."""
    torch.set_num_threads(1)
    try:
        base = TrainConfig.for_task(task).with_knobs({"seed": seed})
        config = base.with_knobs(dict(parsed_knob(text, base) for text in knob or []))
        if blind:
            config = config.with_knobs({"meta.own_estimate": 1.0})  # no lane receives it
        if not 0.0 < every <= seconds:
            raise ValueError(f"`0 < --every <= --seconds` must hold, but got {every}, {seconds}")
    except (KeyError, ValueError, TypeError) as error:
        typer.echo(error.args[0], err=True)
        raise typer.Exit(2) from error
    curve = output / f"{_stem(task, label)}-seed{seed}.csv"
    folder = checkpoints / "blind" if blind else checkpoints
    try:
        run = MemoryLearningRun(
            config, curve, returns_path(output, task, label, seed), folder, blind=blind
        )
    except (FileExistsError, CheckpointError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    try:
        while run.cpu_seconds < seconds:
            run.train(min(seconds, every * (len(run.rows) + 1)))
            row = run.judge()
            typer.echo("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
    except DivergedError as error:
        typer.echo(f"diverged: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo("\n".join(over_seeds(task, label, output)))
    typer.echo(f"curve in {run.curve}, figure in {draw(task, label, output)}")


def parsed_knob(text: str, base: TrainConfig) -> tuple[str, Any]:
    """Parse ``NAME=VALUE`` into a knob and its value, of the knob's type.

    Raises:
        KeyError: If there is no such knob.
        ValueError: If the value does not fit the knob.
    """
    name, _, value = text.partition("=")
    base.check_known(name)
    kind = type(base.knobs()[name])
    return name, typed(name, value.lower() in ("true", "1") if kind is bool else kind(value), kind)


if __name__ == "__main__":
    app()
