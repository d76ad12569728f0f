"""``python -m experiments.quick_benchmark``: learn to adapt a model of CartPole and Pendulum.

It is supervised, without a policy: actions are random, and the model predicts the next observation.
A task is a draw of masses, lengths and forces; adapting means to infer them from a few windows of
experience. It is no evidence for reinforcement learning, only a check that all parts work together.
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

if not __package__:
    # Run as a script: the root replaces this folder, whose modules would shadow the stdlib's.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
import typer
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import SyncVectorEnv
from torch import Tensor

from ssmrl import SSM, AdaptationConfig, Adapter, Environment, MetaMAML
from ssmrl.command_line import command_app
from ssmrl.shared_options import JsonOption
from ssmrl.strict_json import json_text

# Hidden variables of a task, uniform in these ranges; each contains the standard value.
PHYSICS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    # Half the pole's length [m], the pole's mass [kg], the force of a push [N].
    "CartPole-v1": {"length": (0.25, 1.0), "masspole": (0.05, 0.5), "force_mag": (5.0, 20.0)},
    # Gravity [m/s^2], the rod's mass [kg] and length [m].
    "Pendulum-v1": {"g": (5.0, 15.0), "m": (0.5, 2.0), "l": (0.5, 1.5)},
}
NUM_LANES = 4  # parallel episodes of a task


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark.

    Attributes:
        num_epochs: Passes over the training tasks.
        state_dim: State size of the model [reals].
        hidden_dim: Width of its layers.
        inner_lr: Learning rate of the adaptation in meta-training.
        outer_lr: Adam's learning rate.
        adapt_lr: Learning rate of the adaptation on held-out tasks.
        num_adapt_steps: Adaptation steps, in meta-training and on held-out tasks.
        num_train_tasks: Tasks to train on.
        num_test_tasks: Held-out tasks.
        num_windows: Support windows of each task, and as many query windows.
        window: Length of a window [env steps].
        meta_batch: Tasks per meta-update.
        seed: Random seed of everything.
    """

    num_epochs: int = 20
    state_dim: int = 16
    hidden_dim: int = 32
    inner_lr: float = 0.1
    outer_lr: float = 0.003
    adapt_lr: float = 0.1
    num_adapt_steps: int = 3
    num_train_tasks: int = 128
    num_test_tasks: int = 40
    num_windows: int = 8
    window: int = 8
    meta_batch: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """Mean squared errors of the next observation on held-out tasks, in its own units.

    Attributes:
        env_name: The environment.
        loss_before: Error of the meta-trained model.
        loss_after: Error of the model adapted to each task.
        loss_reduction_percent: Reduction of the error by adapting [%].
        loss_of_next_equals_current: Error of predicting no change, on the same data.
        loss_of_next_equals_current_standard: The same with the environment's standard physics.
        beats_next_equals_current: Whether the adapted model is better than predicting no change.
        num_rolled_back: Held-out tasks whose adaptation was rolled back.
    """

    env_name: str
    loss_before: float
    loss_after: float
    loss_reduction_percent: float
    loss_of_next_equals_current: float
    loss_of_next_equals_current_standard: float
    beats_next_equals_current: bool
    num_rolled_back: int


@dataclass(frozen=True)
class Windows:
    """Pieces of experience without a reset inside: ``N`` tasks, ``B`` windows, ``T`` steps.

    Attributes:
        observation: ``(N, B, T + 1, O)``.
        action: ``(N, B, T, A)``; a discrete action is one-hot.
    """

    observation: np.ndarray
    action: np.ndarray

    def change(self) -> np.ndarray:
        """Change of the observation in each step, ``(N, B, T, O)``."""
        return np.diff(self.observation, axis=2)

    def model_input(self) -> np.ndarray:
        """Observation and action, ``(N, B, T, I)``."""
        return np.concatenate([self.observation[:, :, :-1], self.action], axis=-1)


def draw_physics(env_name: str, num_tasks: int, rng: np.random.Generator) -> list[dict[str, float]]:
    """The hidden variables of each task."""
    ranges = PHYSICS[env_name]
    return [
        {name: float(rng.uniform(low, high)) for name, (low, high) in ranges.items()}
        for _ in range(num_tasks)
    ]


def set_physics(environment: Environment, tasks: list[dict[str, float]]) -> None:
    """Give each task's physics to ``NUM_LANES`` consecutive lanes."""
    vector_env = environment.vector_env
    if not isinstance(vector_env, SyncVectorEnv):
        raise TypeError(f"lanes must be separate environments, but got {vector_env}")
    for lane, each in enumerate(vector_env.envs):
        simulation: Any = each.unwrapped
        for name, value in tasks[lane // NUM_LANES].items():
            if not hasattr(simulation, name):
                raise KeyError(f"{simulation} has no {name!r}; its physics cannot be set")
            setattr(simulation, name, value)
        if hasattr(simulation, "polemass_length"):  # CartPole stores derived values, too
            simulation.total_mass = simulation.masscart + simulation.masspole
            simulation.polemass_length = simulation.masspole * simulation.length


def collect(
    env_name: str,
    tasks: list[dict[str, float]],
    num_windows: int,
    window: int,
    rng: np.random.Generator,
) -> Windows:
    """Take random actions until each task has its windows."""
    num_envs = NUM_LANES * len(tasks)
    observations: list[list[np.ndarray]] = [[] for _ in range(num_envs)]
    actions: list[list[np.ndarray]] = [[] for _ in range(num_envs)]
    found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in tasks]
    with Environment(env_name, num_envs, seed=int(rng.integers(2**31))) as environment:
        set_physics(environment, tasks)
        observation = environment.reset()
        while min(len(windows) for windows in found) < num_windows:
            action, encoded = _random_action(environment, rng)
            following, _, _, info = environment.step(action)
            for lane in range(num_envs):
                if info["first"][lane]:
                    observations[lane], actions[lane] = [], []
                    continue
                observations[lane].append(observation[lane])
                actions[lane].append(encoded[lane])
                if len(actions[lane]) == window:
                    piece = np.stack([*observations[lane], following[lane]])
                    found[lane // NUM_LANES].append((piece, np.stack(actions[lane])))
                    observations[lane], actions[lane] = [], []
            observation = following
    kept = [windows[:num_windows] for windows in found]
    return Windows(
        np.array([[piece for piece, _ in windows] for windows in kept]),
        np.array([[played for _, played in windows] for windows in kept]),
    )


def _random_action(
    environment: Environment, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Uniform actions ``(B, ...)``, and their encoding for the model, ``(B, A)``."""
    space = environment.vector_env.single_action_space
    if isinstance(space, Discrete):
        choice = rng.integers(0, environment.action_dim, environment.batch_size)
        return choice, np.eye(environment.action_dim, dtype=np.float32)[choice]
    assert isinstance(space, Box)
    shape = (environment.batch_size, environment.action_dim)
    action = rng.uniform(space.low, space.high, shape).astype(np.float32)
    return action, action


class Scale:
    """Standardises inputs and changes by statistics of the training tasks, per component."""

    def __init__(self, windows: Windows) -> None:
        axes = (0, 1, 2)
        inputs, change = windows.model_input(), windows.change()
        self.input_mean = inputs.mean(axes)
        self.input_std = inputs.std(axes) + 1e-6
        self.change_std = change.std(axes) + 1e-6

    def pairs(self, windows: Windows) -> tuple[Tensor, Tensor]:
        """Model inputs and targets, ``(N, B, T, I)`` and ``(N, B, T, O)``."""
        x = (windows.model_input() - self.input_mean) / self.input_std
        y = windows.change() / self.change_std
        return torch.from_numpy(x).float(), torch.from_numpy(y).float()

    def error(self, output: Tensor, target: Tensor) -> float:
        """Mean squared error of the next observation, in its own units."""
        scale = torch.from_numpy(self.change_std).float()
        return float(((output - target) * scale).square().mean())


def benchmark(env_name: str, settings: Settings) -> Result:
    """Meta-train on some physics, adapt to others, and compare with predicting no change.

    Raises:
        KeyError: If ``env_name`` is not in ``PHYSICS``.
    """
    if env_name not in PHYSICS:
        raise KeyError(f"unknown environment {env_name!r}; known are: {', '.join(PHYSICS)}")
    rng = np.random.default_rng(settings.seed)
    counts = settings.num_windows * 2, settings.window
    train_tasks = draw_physics(env_name, settings.num_train_tasks, rng)
    test_tasks = draw_physics(env_name, settings.num_test_tasks, rng)
    train = collect(env_name, train_tasks, *counts, rng)
    test = collect(env_name, test_tasks, *counts, rng)
    standard = collect(env_name, [{}] * 8, *counts, rng)
    scale = Scale(train)
    model = meta_train(*scale.pairs(train), settings, rng)
    before, after, num_rolled_back = adapt(model, scale, test, settings)
    unchanged = float(np.square(test.change()[:, settings.num_windows :]).mean())
    return Result(
        env_name=env_name,
        loss_before=before,
        loss_after=after,
        loss_reduction_percent=100.0 * (before - after) / before,
        loss_of_next_equals_current=unchanged,
        loss_of_next_equals_current_standard=float(np.square(standard.change()).mean()),
        beats_next_equals_current=after < unchanged,
        num_rolled_back=num_rolled_back,
    )


def meta_train(x: Tensor, y: Tensor, settings: Settings, rng: np.random.Generator) -> SSM:
    """Meta-train a state space model.

    Args:
        x: ``(N, B, T, I)``; the first half of the windows is the support, the second the query.
        y: ``(N, B, T, O)``.
        settings: Sizes and learning rates.
        rng: Generator of the tasks' order.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed % 2**64)  # torch takes 64 bits
        model = SSM(settings.state_dim, x.shape[-1], y.shape[-1], settings.hidden_dim)
    maml = MetaMAML(model, settings.inner_lr, settings.outer_lr, grad_clip_norm=10.0)
    half = settings.num_windows
    for epoch in range(settings.num_epochs):
        losses = []
        order = rng.permutation(len(x)).tolist()
        for start in range(0, len(order), settings.meta_batch):
            chosen = order[start : start + settings.meta_batch]
            tasks = [(x[n, :half], y[n, :half], x[n, half:], y[n, half:]) for n in chosen]
            losses.append(maml.meta_update(tasks, num_steps=settings.num_adapt_steps))
        typer.echo(
            f"  epoch {epoch + 1}/{settings.num_epochs}: meta-loss {np.mean(losses):.4f}", err=True
        )
    return model


def adapt(
    model: SSM, scale: Scale, windows: Windows, settings: Settings
) -> tuple[float, float, int]:
    """Mean error on the query windows before and after adapting to each task's support windows.

    Returns:
        Both errors, and the number of tasks whose adaptation was rolled back.
    """
    x, y = scale.pairs(windows)
    adapter = Adapter(model, AdaptationConfig(settings.adapt_lr, settings.num_adapt_steps))
    half, before, after, num_rolled_back = settings.num_windows, [], [], 0
    for inputs, targets in zip(x, y, strict=True):
        adapter.reset()
        before.append(scale.error(adapter.predict(inputs[half:])[0], targets[half:]))
        _, steps_taken = adapter.update_step(inputs[:half], targets[:half])
        num_rolled_back += steps_taken < settings.num_adapt_steps
        after.append(scale.error(adapter.predict(inputs[half:])[0], targets[half:]))
    return float(np.mean(before)), float(np.mean(after)), num_rolled_back


def describe(result: Result, settings: Settings) -> str:
    """The result as text, beside the baseline of predicting no change."""
    copying = '"next = current"'
    verdict = (
        f"The adapted model beats {copying}."
        if result.beats_next_equals_current
        else f"The adapted model does not beat {copying}: it has learnt nothing useful."
    )
    lines = [
        f"{result.env_name}: mean squared error of the next observation, "
        f"{settings.num_test_tasks} held-out tasks",
        f"  {copying:<32}{result.loss_of_next_equals_current:10.5f}"
        f"   ({result.loss_of_next_equals_current_standard:.3f} with the standard physics)",
        f"  {'before adaptation':<32}{result.loss_before:10.5f}",
        f"  {f'after {settings.num_adapt_steps} adaptation steps':<32}{result.loss_after:10.5f}",
        f"  loss reduction by adapting: {result.loss_reduction_percent:.1f} % "
        f"({result.num_rolled_back} tasks rolled back)",
        f"  {verdict}",
    ]
    return "\n".join(lines)


app = command_app(
    # Accept --env_name for --env-name.
    context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
)


@app.command()
def main(
    *,
    env_name: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(PHYSICS)}; both by default.")
    ] = None,
    num_epochs: Annotated[int, typer.Option(min=0, help="Passes over the tasks.")] = 20,
    state_dim: Annotated[int, typer.Option(min=2, help="State size [reals]; even.")] = 16,
    hidden_dim: Annotated[int, typer.Option(min=1, help="Width of the layers.")] = 32,
    inner_lr: Annotated[float, typer.Option(help="Inner learning rate, training.")] = 0.1,
    outer_lr: Annotated[float, typer.Option(help="Adam's learning rate.")] = 0.003,
    adapt_lr: Annotated[float, typer.Option(help="Inner learning rate, testing.")] = 0.1,
    num_adapt_steps: Annotated[int, typer.Option(min=0, help="Adaptation steps.")] = 3,
    num_train_tasks: Annotated[int, typer.Option(min=1, help="Tasks to train on.")] = 128,
    num_test_tasks: Annotated[int, typer.Option(min=1, help="Held-out tasks.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Meta-train a model of each environment, adapt it to other physics, print the errors."""
    if env_name is not None and env_name not in PHYSICS:
        raise typer.BadParameter(f"{env_name!r} is none of {', '.join(PHYSICS)}")
    settings = Settings(
        num_epochs=num_epochs,
        state_dim=state_dim,
        hidden_dim=hidden_dim,
        inner_lr=inner_lr,
        outer_lr=outer_lr,
        adapt_lr=adapt_lr,
        num_adapt_steps=num_adapt_steps,
        num_train_tasks=num_train_tasks,
        num_test_tasks=num_test_tasks,
        seed=seed,
    )
    torch.set_num_threads(1)  # the tensors are tiny: more threads would wait for each other
    results = []
    for name in PHYSICS if env_name is None else (env_name,):
        typer.echo(f"{name}: collecting", err=True)
        results.append(benchmark(name, settings))
        if not as_json:
            typer.echo(describe(results[-1], settings))
    if as_json:
        typer.echo(
            json_text({"settings": asdict(settings), "results": [asdict(r) for r in results]})
        )


if __name__ == "__main__":
    app()
