"""A tiny configuration, and results of it that nobody trained for; no tests."""

from experiments.benchmark_result import REPORTED_STEPS, BenchmarkResult
from ssmrl.config import TrainConfig


def tiny_config(method: str = "mlp", seed: int = 0) -> TrainConfig:
    return TrainConfig.for_task("point", "promp").with_knobs(
        {
            "seed": seed,
            "policy.method": method,
            "policy.hidden_dim": 8,
            "meta.num_tasks": 3,
            "meta.num_episodes": 4,
            "meta.outer_lr": 3e-3,
            "evaluation.num_tasks": 5,
            "evaluation.num_episodes": 4,
        }
    )


def tiny_result(config: TrainConfig, *, offset: float = 0.0) -> BenchmarkResult:
    """Made up: the return after ``k`` steps on task ``i`` is ``offset + 10 k + i``."""
    row = {"env_steps": 480.0, "return_before": -20.0, "return_after": -19.0, "seconds": 0.5}
    return BenchmarkResult(
        config=config,
        preset=None,
        device="cpu",
        num_parameters=99,
        curve=(row, row | {"env_steps": 960.0}),
        task_returns={
            k: tuple(offset + 10.0 * k + i for i in range(config.evaluation.num_tasks))
            for k in REPORTED_STEPS
        },
    )
