"""Checks that a device computes what the CPU does, and a replayed graph what it captured."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from experiments.benchmarks.gpu_part import Job, Tell
from experiments.benchmarks.gpu_rows import Row
from ssmrl.config import KnobValue, TrainConfig
from ssmrl.context.graph import Graphs, graphs_of
from ssmrl.context.learner import ContextLearner
from ssmrl.context.networks import ContextNetworks
from ssmrl.context.sac import Batch, SoftActorCritic
from ssmrl.device import CPU, adam_options
from ssmrl.rollout.play import LocalCollector, Play
from ssmrl.rollout.worker import env_shape
from ssmrl.types import Params, Trajectory

TASK = "halfcheetah-vel"
GOALS = {torch.float64: 1e-10, torch.float32: 1e-4}
QUICK = {
    "env.horizon": 20,
    "meta.num_lanes": 4,
    "meta.random_env_steps": 80,
    "meta.replay_env_steps": 4000,
    "meta.batch_size": 32,
    "meta.critic_hidden_dim": 32,
    "meta.actor_hidden_dim": 32,
    "meta.updates_per_env_step": 0.5,
    "meta.inference_updates_per_meta_episode": 2.0,
    "policy.hidden_dim": 16,
    "policy.state_dim": 16,
}


def measure(job: Job, tell: Tell) -> None:
    """The checks of the device, one row each.

    Args:
        job: Job, for its device and size.
        tell: Receives each row.
    """
    device = torch.device(job.device)
    config = context_config(TASK, quick=job.quick)
    episodes = Played(config, 3)
    for dtype, goal in GOALS.items():
        error, worst = update_error(config, episodes, device, dtype)
        what = f"one update against the CPU, {str(dtype).removeprefix('torch.')}, relative error"
        note = f"largest in: {worst}" if error else worst
        tell(Row(job.part, what, error, goal=goal, at_most=True, must=True, note=note))
    learners = [episodes.learnt(config, device) for _ in range(2)]
    error, worst = distance(learners[0].tensors(), learners[1].tensors())
    what = f"one seed twice, {len(episodes)} iterations, relative difference"
    tell(Row(job.part, what, error, goal=0.0, at_most=True, must=True, note=worst))
    tell(replay_row(job, config, episodes, learners[0]))
    error, worst = distance(episodes.gone_on(config, device).tensors(), learners[0].tensors())
    what = "saved and resumed by another learner, relative difference"
    tell(Row(job.part, what, error, goal=0.0, at_most=True, must=True, note=worst))


def replay_row(job: Job, config: TrainConfig, episodes: "Played", learner: ContextLearner) -> Row:
    """Check that replayed updates equal updates run one after another.

    Args:
        job: Job, for its device.
        config: Configuration of the learner.
        episodes: Experience it has learnt from.
        learner: Learner that captured what its device can capture.
    """
    what = f"replayed against one after another, {len(episodes)} iterations, relative difference"
    if not learner.captured:
        note = "nothing is captured on it"
        return Row(job.part, what, trouble="not on this device", note=note)
    counts = {name: each.num_replays for name, each in learner.captured.items()}
    note = ", ".join(f"{name}: {count} replays" for name, count in counts.items())
    if not all(counts.values()):
        return Row(job.part, what, trouble="failed", note=f"not replayed: {note}")
    plain = episodes.learnt(config, torch.device(job.device), no_graphs)
    error, worst = distance(learner.tensors(), plain.tensors())
    note = f"{note}; {worst}"
    return Row(job.part, what, error, goal=0.0, at_most=True, must=True, note=note)


def context_config(task: str, *, quick: bool, **knobs: KnobValue) -> TrainConfig:
    """The defaults of context-sac on a task, or tiny sizes that only show that it works."""
    return TrainConfig.for_task(task).with_knobs((QUICK if quick else {}) | knobs)


def no_graphs(device: torch.device) -> Graphs | None:
    """Capture nothing: the updates run one after another on any device."""
    return None


class Played:
    """The first iterations of a run, collected once for several learners to learn from.

    Args:
        config: Configuration of context-sac.
        num_iterations: Number of iterations.

    Attributes:
        learner: Learner that collected them, on the CPU, after the last iteration.
    """

    def __init__(self, config: TrainConfig, num_iterations: int) -> None:
        collect, self._trajectories = LocalCollector(config), list[list[Trajectory]]()

        def kept(params: Params, play: Play) -> list[Trajectory]:
            self._trajectories.append(collect(params, play))
            return self._trajectories[-1]

        self.learner = ContextLearner(config)
        for _ in range(num_iterations):
            self.learner.iterate(kept)

    def __len__(self) -> int:
        """Number of iterations."""
        return len(self._trajectories)

    def learnt(
        self,
        config: TrainConfig,
        device: torch.device,
        graphs: Callable[[torch.device], Graphs | None] = graphs_of,
    ) -> ContextLearner:
        """A learner on a device after all iterations, fed with this experience, not its own.

        Args:
            config: Same configuration as of the collection.
            device: Device of the learner.
            graphs: Function that gives the device's graphs, or None to capture nothing.
        """
        learner = ContextLearner(config, device=device, graphs_of=graphs)
        _learn_from(learner, self._trajectories)
        return learner

    def gone_on(self, config: TrainConfig, device: torch.device) -> ContextLearner:
        """As ``learnt``, but a second learner, loaded from files, runs the last iteration."""
        first, last = (ContextLearner(config, device=device) for _ in range(2))
        _learn_from(first, self._trajectories[:-1])
        with TemporaryDirectory() as folder:
            first.save_experience(Path(folder))
            last.load(first.tensors(), first.iteration, Path(folder))
        _learn_from(last, self._trajectories[-1:])
        return last


def _learn_from(learner: ContextLearner, episodes: list[list[Trajectory]]) -> None:
    for trajectories in episodes:
        learner.iterate(partial(_as_it_was, trajectories))


def _as_it_was(trajectories: Sequence[Trajectory], params: Params, play: Play) -> list[Trajectory]:
    return list(trajectories)


def update_error(
    config: TrainConfig, episodes: Played, device: torch.device, dtype: torch.dtype
) -> tuple[float, str]:
    """One update of actor, critics and temperature on a device against the same on the CPU.

    Args:
        config: Configuration of context-sac.
        episodes: Source of the transitions.
        device: Device to check.
        dtype: Type of all networks and transitions.

    Returns:
        The largest relative error of losses, gradients and updated weights, and the name of the
        tensor that has it.
    """
    learner = episodes.learner
    generator = torch.Generator().manual_seed(0)
    size, num_other = config.meta.batch_size, config.meta.batch_size // 2
    places = torch.randint(learner.replay.num_env_steps, (1, size), generator=generator)
    code = 2.0 * torch.rand(1, num_other, 1, generator=generator) - 1.0
    batches = learner.actor_critic.batches(places, 1.5 * (code + 1.0), code)
    batch = Batch(*(leaf[0].to(dtype) for leaf in batches))
    noise = torch.randn(2, size, learner.networks.action_dim, generator=generator, dtype=dtype)
    networks = ContextNetworks(config, *env_shape(config.env))
    networks.load_state_dict(learner.networks.state_dict())
    found = [_updated(networks, config, batch, noise, where, dtype) for where in (device, CPU)]
    return distance(*found)


def _updated(
    start: ContextNetworks,
    config: TrainConfig,
    batch: Batch,
    noise: Tensor,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """Losses, gradients and networks after one update, on the CPU."""
    networks = ContextNetworks(config, start.observation_dim, start.action_dim)
    networks.load_state_dict(start.state_dict())
    networks = networks.to(device, dtype)
    sac = SoftActorCritic(networks, config.meta, **adam_options(device))
    there = Batch(*(leaf.to(device) for leaf in batch))
    losses = sac.update(there, noise.to(device), moves_actor=True)
    assert losses is not None
    moved = {
        name: value
        for name, value in networks.state_dict().items()
        if not name.startswith("inference.")
    }
    gradients = {
        f"gradient of {name}": value.grad
        for name, value in networks.named_parameters()
        if value.grad is not None
    }
    of_losses = {f"loss: {name}": value for name, value in losses._asdict().items()}
    values = moved | gradients | of_losses
    return {name: value.detach().cpu() for name, value in values.items()}


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> tuple[float, str]:
    """The largest ``|a - b| / |b|`` over tensors of the same names, and the name of that tensor.

    Example:
        >>> distance({"a": torch.ones(4)}, {"a": torch.ones(4)})
        (0.0, 'the same bits')
    """
    assert first.keys() == second.keys()
    errors = {}
    for name, value in first.items():
        one, other = value.double(), second[name].double()
        length = float(torch.linalg.vector_norm(other))
        error = float(torch.linalg.vector_norm(one - other))
        errors[name] = error / length if length else error
        # NaN counts as infinite: it must not hide behind the largest number.
        errors[name] = errors[name] if errors[name] == errors[name] else float("inf")
    worst = max(errors, key=lambda name: errors[name])
    return errors[worst], worst if errors[worst] else "the same bits"
