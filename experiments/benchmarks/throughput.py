"""``python -m experiments.benchmarks.throughput``: whole meta-training against raw physics.

It is no learning result: it trains one seed, only long enough to measure the speed.
"""

import csv
import resource
import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from cluster.algorithm import MAML, MAMLConfig
from cluster.session import session
from experiments.benchmarks.raw_physics import ANT, HALF_CHEETAH, HUMANOID, RawPhysics
from experiments.folder_option import mounted
from ssmrl.command_line import command_app
from ssmrl.config import TrainConfig

NUM_RAW_MEASUREMENTS = 5
RAW_STEPS = 40
ROBOTS = {robot.task.partition("-")[0]: robot for robot in (HALF_CHEETAH, ANT, HUMANOID)}

app = command_app()


@app.command()
def throughput(
    task: Annotated[str, typer.Option(help="Task family.")] = "halfcheetah-vel",
    method: Annotated[
        str, typer.Option(help="Sequence model: ssm, lstm, gru, transformer or mlp.")
    ] = "mlp",
    env_steps: Annotated[int, typer.Option(min=1, help="Budget [env steps].")] = 10_000_000,
    output: Annotated[
        Path,
        typer.Option(help="Folder of the CSV.", callback=mounted),
    ] = Path("experiments/results"),
) -> None:
    """Train with 40 tasks x 20 episodes x 100 steps; print env steps/s, raw rate and memory."""
    config = TrainConfig.for_task(task, "promp").with_knobs({"policy.method": method})
    raw = [raw_rate(config)]
    with session():
        algorithm = MAMLConfig().training(train_config=config).build_algo()
        rows = _train(algorithm, env_steps, raw, config)
        algorithm.stop()
    path = output / f"throughput-{task}-{method}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    _summarise(rows, raw, path)


def raw_rate(config: TrainConfig) -> float:
    """Env steps/s of ``mujoco.batch`` alone, all lanes of a meta-batch at once, random actions."""
    robot = ROBOTS.get(config.env.task.partition("-")[0])
    if robot is None:
        raise typer.BadParameter(
            f"{config.env.task} has no raw physics to compare with; tasks of these robots have: "
            f"{', '.join(ROBOTS)}",
            param_hint="--task",
        )
    num_envs: int = config.meta.num_tasks * config.meta.num_episodes
    physics = RawPhysics(robot.model, num_envs, num_threads=0)
    shape = (RAW_STEPS, num_envs, robot.make_env(1, 1).action_dim)
    controls = np.random.default_rng(0).uniform(-0.3, 0.3, shape)
    started = time.perf_counter()
    physics.play(controls)
    return RAW_STEPS * num_envs / (time.perf_counter() - started)


def _train(
    algorithm: MAML, env_steps: int, raw: list[float], config: TrainConfig
) -> list[dict[str, float]]:
    meta = config.meta
    per_iteration = (
        meta.num_tasks * meta.num_episodes * config.env.horizon * (meta.num_inner_steps + 1)
    )
    num_iterations = -(-env_steps // per_iteration)
    rows = []
    for iteration in range(num_iterations):
        started = time.perf_counter()
        result = algorithm.train()["env_runners"]
        seconds = time.perf_counter() - started
        rows.append(
            {
                "env_steps": (iteration + 1) * per_iteration,
                "seconds": round(seconds, 4),
                "sample_seconds": round(float(result["sample_seconds"]), 4),
                "update_seconds": round(float(result["update_seconds"]), 4),
                "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "return_before": round(float(result["return_before"]), 3),
                "return_after": round(float(result["return_after"]), 3),
            }
        )
        if (iteration + 1) % max(1, num_iterations // (NUM_RAW_MEASUREMENTS - 1)) == 0:
            raw.append(raw_rate(config))
        typer.echo(
            f"{rows[-1]['env_steps']:>11,} env steps, {per_iteration / seconds:8,.0f}/s, "
            f"peak memory {rows[-1]['peak_memory_mib']:.0f} MiB, "
            f"return {rows[-1]['return_before']:.1f} -> {rows[-1]['return_after']:.1f}"
        )
    return rows


def _summarise(rows: list[dict[str, float]], raw: list[float], path: Path) -> None:
    total = sum(row["seconds"] for row in rows)
    rate = rows[-1]["env_steps"] / total
    floor = statistics.median(raw)
    memory = [row["peak_memory_mib"] for row in rows]
    settled = memory[len(memory) // 10]
    typer.echo(f"whole iterations   {rate:10,.0f} env steps/s")
    typer.echo(f"raw physics        {floor:10,.0f} env steps/s, median of {len(raw)}")
    typer.echo(f"ratio              {rate / floor:10.2f}")
    for part in ("sample_seconds", "update_seconds"):
        typer.echo(f"{part:<18} {sum(row[part] for row in rows) / total:10.1%} of the time")
    typer.echo(
        f"peak memory        {settled:10.0f} MiB after a tenth, {memory[-1]:.0f} MiB at the end "
        f"({memory[-1] / settled - 1:+.1%})"
    )
    typer.echo(f"rows in {path}")


if __name__ == "__main__":
    app()
