"""``python -m experiments.benchmarks.memory_maml``: does MAML inside the memory pay off?

It compares runs of ``memory_learning`` with one adaptation step of the inference model and with
none, at equal CPU seconds. They are tested on the same held-out tasks, and on tasks beyond the
range of training, by return and by error of the memory's estimate of the hidden variable.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from experiments.benchmarks.memory_learning import FIRST_DRAW, parsed_knob
from experiments.folder_option import mounted
from ssmrl.checkpoint import Checkpoint, CheckpointError, check_progress
from ssmrl.command_line import command_app
from ssmrl.config import TrainConfig
from ssmrl.context.adapting_memory import AdaptingMemory
from ssmrl.context.by_memory import MemoryPlayer
from ssmrl.context.inference import inference_inputs
from ssmrl.context.networks import ContextNetworks, hidden_code
from ssmrl.envs.hidden_code import RangeCode
from ssmrl.envs.task import Task
from ssmrl.files import replace_file
from ssmrl.rollout.assignment import Assignment, held_out_assignment
from ssmrl.rollout.play import LocalCollector, Mode, Play
from ssmrl.rollout.returns import episode_return
from ssmrl.rollout.worker import env_shape
from ssmrl.run import checkpoint_path
from ssmrl.student import student_interval
from ssmrl.types import Params, Trajectory

INNER_STEPS = (0, 1)
DRAW = FIRST_DRAW - 1
"""Draw of held-out tasks that no evaluation of a run has used."""
BEYOND = 1.0 / 3.0
"""Tasks beyond the range lie above it, by up to this share of its length."""

app = command_app()


@dataclass(frozen=True)
class Judged:
    """One run on one set of tasks.

    Attributes:
        num_inner_steps: Adaptation steps of the inference model.
        seed: Random seed of the run.
        cpu_seconds: CPU time of its training [CPU s].
        env_steps: Length of its training [env steps].
        tasks: ``within`` the range of training, or ``beyond`` it.
        mean_return: Mean return over tasks, adapting by memory.
        return_se: Standard error of the mean return over tasks.
        error: Distance of the estimate from the hidden variable, mean over the second half of the
            episodes [units of the hidden variable].
    """

    num_inner_steps: int
    seed: int
    cpu_seconds: float
    env_steps: int
    tasks: str
    mean_return: float
    return_se: float
    error: float


def assignments(config: TrainConfig) -> dict[str, Assignment]:
    """Held-out tasks within the range of training, and as many beyond it.

    Raises:
        ValueError: If the family's hidden variable is not one of a range.
    """
    code, within = hidden_code(config), held_out_assignment(config, DRAW)
    if not isinstance(code, RangeCode):
        raise ValueError(
            f"`--task` must have a hidden variable with a range, but is {config.env.task}; "
            "take a velocity, such as halfcheetah-vel"
        )
    rng = np.random.default_rng(DRAW)
    reach = BEYOND * (code.high - code.low)
    values = code.high + reach * (1.0 - rng.random((len(within.tasks), code.dim)))
    tasks = tuple(Task(config.env.task, tuple(row)) for row in values.tolist())
    return {"within": within, "beyond": replace(within, tasks=tasks)}


@torch.no_grad()
def estimates(config: TrainConfig, params: Params, trajectory: Trajectory) -> Tensor:
    """The memory's estimate of the hidden variable before each step of a first episode.

    Returns:
        ``(N, B, T, P)``, in the units of the hidden variable and not clipped to its range.
    """
    networks = ContextNetworks(config, *env_shape(config.env))
    networks.load_state_dict(params, strict=False)
    adapts = config.meta.num_inner_steps > 0
    memory: Any = AdaptingMemory(networks.inference, config) if adapts else networks.inference
    seen = networks.normalised(trajectory.observation)
    action, reward = torch.zeros_like(trajectory.action), torch.zeros_like(trajectory.reward)
    action[:, :, 1:], reward[:, :, 1:] = trajectory.action[:, :, :-1], trajectory.reward[:, :, :-1]
    inputs = inference_inputs(seen, action, reward, trajectory.first).flatten(0, 1)
    hidden, means = memory.init_hidden(len(inputs)), []
    for now in inputs.unbind(1):
        estimate, hidden = memory.step(now, hidden)
        means.append(estimate.mean)
    lanes = trajectory.reward.shape[:2]
    decoded: Tensor = hidden_code(config).decode(torch.stack(means, 1).unflatten(0, lanes))
    return decoded


def judged(config: TrainConfig, saved: Checkpoint) -> list[Judged]:
    """Test a run on both sets of tasks, in the first episode with each task."""
    params, found = MemoryPlayer.params_of(saved.tensors), []
    collect = LocalCollector(config, num_threads=1)
    for name, assignment in assignments(config).items():
        play = Play(assignment, config.evaluation.num_episodes, 1, Mode.USED)
        trajectory = collect(params, play)[0]
        returns = episode_return(trajectory).double().mean(1)
        true = torch.tensor([task.parameters for task in assignment.tasks])[:, None, None]
        half = config.env.horizon // 2
        error = (estimates(config, params, trajectory) - true).abs()[:, :, half:].mean()
        found.append(
            Judged(
                num_inner_steps=config.meta.num_inner_steps,
                seed=config.seed,
                cpu_seconds=saved.progress["cpu_seconds"],
                env_steps=saved.progress["env_steps"],
                tasks=name,
                mean_return=float(returns.mean()),
                return_se=float(returns.std()) / math.sqrt(len(returns)),
                error=float(error),
            )
        )
    return found


def summary(rows: Sequence[Judged]) -> list[str]:
    """A line for each set of tasks and measure: both means, and their difference over seeds."""
    lines = []
    for tasks in dict.fromkeys(row.tasks for row in rows):
        for measure in ("mean_return", "error"):
            none, one = (
                np.array(
                    [
                        getattr(row, measure)
                        for row in sorted(rows, key=lambda row: row.seed)
                        if row.tasks == tasks and row.num_inner_steps == steps
                    ]
                )
                for steps in INNER_STEPS
            )
            interval = student_interval(one - none)
            ends = "no interval" if interval is None else "[{:+.3g}, {:+.3g}]".format(*interval)
            lines.append(
                f"{tasks:<6}  {measure.removeprefix('mean_'):<6}  no step {none.mean():8.3f}  "
                f"one step {one.mean():8.3f}  difference {(one - none).mean():+.3g} {ends}, "
                f"{len(one)} seeds"
            )
    return lines


def table(rows: Sequence[Judged]) -> str:
    """The rows as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Judged))
    for row in rows:
        cells = asdict(row).values()
        writer.writerow(f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells)
    return text.getvalue()


@app.command()
def memory_maml(
    task: Annotated[str, typer.Option(help="Task family.")] = "halfcheetah-vel",
    num_seeds: Annotated[int, typer.Option(min=1, help="Seeds of each setting, from 0.")] = 3,
    knob: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of the runs with a step, for example meta.outer_lr=4e-3."),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(help="Folder of the table.", callback=mounted),
    ] = Path("experiments/results"),
    checkpoints: Annotated[
        Path,
        typer.Option(help="Folder of the runs of `memory_learning`.", callback=mounted),
    ] = Path("runs/memory-learning"),
) -> None:
    """Compare runs with one adaptation step of the inference model with runs without any."""
    torch.set_num_threads(1)
    rows: list[Judged] = []
    try:
        base = TrainConfig.for_task(task)
        assignments(base)
        with_step = dict(parsed_knob(text, base) for text in knob or [])
        configs = [
            base.with_knobs(
                {"seed": seed, "meta.num_inner_steps": steps} | (with_step if steps else {})
            )
            for steps in INNER_STEPS
            for seed in range(num_seeds)
        ]
        runs = [(each, _saved(each, checkpoints, knob or [])) for each in configs]
    except (KeyError, ValueError, TypeError, CheckpointError) as error:
        typer.echo(error.args[0], err=True)
        raise typer.Exit(2) from error
    for config, saved in runs:
        rows.extend(judged(config, saved))
        for row in rows[-2:]:
            typer.echo("  ".join(f"{name} {value}" for name, value in asdict(row).items()))
    path = output / f"memory-maml-{task}.csv"
    output.mkdir(parents=True, exist_ok=True)
    replace_file(path, table(rows))
    typer.echo("\n".join([*summary(rows), f"table in {path}"]))


def _saved(config: TrainConfig, folder: Path, knobs: Sequence[str]) -> Checkpoint:
    steps = config.meta.num_inner_steps
    path = checkpoint_path(folder, config)
    try:
        saved = Checkpoint.load(path)
    except FileNotFoundError:
        flags = f"--task {config.env.task} --seed {config.seed}"
        with_step = (f"meta.num_inner_steps={steps}", *knobs)
        knob = " --label maml" + "".join(f" --knob {each}" for each in with_step) if steps else ""
        raise ValueError(
            f"there is no run with seed {config.seed} and {steps} adaptation steps in {folder}; "
            f"make it: python -m experiments.benchmarks.memory_learning {flags}{knob}"
        ) from None
    check_progress(path, saved.progress, ("cpu_seconds", "env_steps"))
    return saved


if __name__ == "__main__":
    app()
