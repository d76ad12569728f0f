"""``python -m experiments.benchmarks.stable_baselines``: Stable-Baselines3 on our Gymnasium ids.

PPO and SAC train with their own defaults, on a new task in each episode. This shows that they run,
not that they adapt: without memory they can at best reach the best return without adaptation. It is
no comparison with our own learners.
"""

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
import typer

from experiments.folder_option import mounted
from ssmrl.command_line import command_app, refuse
from ssmrl.envs.families import get_family
from ssmrl.envs.registration import gymnasium_id
from ssmrl.files import replace_file

FAMILIES = ("halfcheetah-vel", "point")
ALGORITHMS = ("PPO", "SAC")
NUM_TASKS = 20

app = command_app()


@dataclass(frozen=True)
class Trained:
    """One algorithm on one family.

    Attributes:
        env: Gymnasium's id of the family.
        algorithm: Algorithm of Stable-Baselines3.
        version: Version of Stable-Baselines3.
        seed: Random seed of the training.
        env_steps: Length of the training [env steps].
        cpu_seconds: CPU time of the training [CPU s].
        before: Mean return on held-out tasks before training, one episode each, acting by the mean.
        after: The same after training, on the same tasks.
        blind: The best mean return without adaptation on exactly these tasks.
        bound: The same in expectation over all tasks.
    """

    env: str
    algorithm: str
    version: str
    seed: int
    env_steps: int
    cpu_seconds: float
    before: float
    after: float
    blind: float | None
    bound: float | None


def held_out_tasks(family: str) -> list[tuple[float, ...]]:
    """Hidden variables of the held-out tasks, the same for all."""
    return get_family(family).test.sample(np.random.default_rng(0), NUM_TASKS)


def mean_return(model: Any, family: str) -> float:
    """Mean return over one episode per held-out task, without exploration.

    Args:
        model: Model of Stable-Baselines3, whose ``predict`` acts.
        family: Name of the family.
    """
    env, returns = gymnasium.make(gymnasium_id(family), split="test"), []
    for index, parameters in enumerate(held_out_tasks(family)):
        observation, _ = env.reset(seed=index, options={"parameters": parameters})
        earned, ended = 0.0, False
        while not ended:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            earned += float(reward)
            ended = terminated or truncated
        returns.append(earned)
    return float(np.mean(returns))


def trained(library: Any, name: str, family: str, env_steps: int, seed: int) -> Trained:
    """Train with the algorithm's own settings, and evaluate before and after.

    Args:
        library: The module ``stable_baselines3``.
        name: Name of the algorithm.
        family: Name of the family.
        env_steps: Least length of the training; PPO completes its rollout [env steps].
        seed: Random seed of the training.
    """
    env = gymnasium.make(gymnasium_id(family), num_episodes_per_trial=1)
    model = getattr(library, name)("MlpPolicy", env, seed=seed, device="cpu")
    before = mean_return(model, family)
    started = time.process_time()
    model.learn(env_steps)
    known, horizon = get_family(family), get_family(family).horizon
    return Trained(
        env=gymnasium_id(family),
        algorithm=name,
        version=library.__version__,
        seed=seed,
        env_steps=model.num_timesteps,
        cpu_seconds=time.process_time() - started,
        before=before,
        after=mean_return(model, family),
        blind=known.blind_return(held_out_tasks(family), horizon),
        bound=known.no_adaptation_bound(horizon),
    )


def table(rows: Sequence[Trained]) -> str:
    """The rows as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Trained))
    for row in rows:
        cells = asdict(row).values()
        writer.writerow(f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells)
    return text.getvalue()


@app.command()
def stable_baselines(
    ppo_env_steps: Annotated[
        int, typer.Option(min=1, help="Budget of each PPO run [env steps].")
    ] = 30_000,
    sac_env_steps: Annotated[
        int, typer.Option(min=1, help="Budget of each SAC run [env steps].")
    ] = 5_000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of all runs.")] = 0,
    output: Annotated[
        Path,
        typer.Option(help="Folder of the table.", callback=mounted),
    ] = Path("experiments/results"),
) -> None:
    """Train PPO and SAC of Stable-Baselines3 on two families by their Gymnasium ids."""
    try:
        library: Any = import_module("stable_baselines3")
    except ModuleNotFoundError as error:
        if error.name != "stable_baselines3":
            raise
        refuse("Stable-Baselines3 is not installed; run `pip install 'ssmrl[bench]'`")
    import torch

    torch.set_num_threads(1)
    rows: list[Trained] = []
    steps = dict(zip(ALGORITHMS, (ppo_env_steps, sac_env_steps), strict=True))
    output.mkdir(parents=True, exist_ok=True)
    for name in ALGORITHMS:
        for family in FAMILIES:
            rows.append(trained(library, name, family, steps[name], seed))
            replace_file(output / "stable-baselines.csv", table(rows))
            typer.echo("  ".join(f"{key} {value}" for key, value in asdict(rows[-1]).items()))


if __name__ == "__main__":
    app()
