"""Estimates of a training run's memory and disk use, from its sizes, before it starts."""

from dataclasses import dataclass

from torch import nn

from ssmrl.config import TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.meta.task_parts import ROWS_AT_ONCE, graph_bytes, tasks_at_once
from ssmrl.model_size import networks_of
from ssmrl.models.actor import GaussianActor
from ssmrl.models.presets import num_parameters

_NUMBER = 4  # bytes of a float32
_WITH_OPTIMISER = 4  # the weights, their gradient and Adam's two moments
_WHILE_SAVED = 12  # the same, and copies of all but the gradient while a checkpoint is written
_SAVED = 3  # the weights and Adam's two moments
_STEP = 5  # numbers of an env step beside observation and action: reward, log density, flags
_COPIES = 2  # copies of the rollouts: as collected, and as prepared for learning
_LAYERS_OF_UPDATE = 8  # an update of actor and critics keeps each layer's inputs and outputs


@dataclass(frozen=True)
class MemoryNeed:
    """Memory of a training run by purpose [bytes].

    Attributes:
        parameters: Weights with gradients and moments, and the adapted weights of each task.
        batch: Rollouts of an iteration, and the graph of the largest update on them.
        experience: The replay buffer.
    """

    parameters: int
    batch: int
    experience: int

    @property
    def total(self) -> int:
        """The sum of all parts [bytes]."""
        return self.parameters + self.batch + self.experience

    def __str__(self) -> str:
        """The parts of the sum, in words."""
        parts = ("parameters", "batch", "experience")
        return " + ".join(f"{getattr(self, name) / 1e9:.3g} GB of {name}" for name in parts)


def memory_need(config: TrainConfig) -> MemoryNeed:
    """Memory that one seed of a configuration needs, beyond that of the Python process itself.

    Args:
        config: Configuration; its networks are built on the meta device, without allocation.

    Raises:
        ValueError: If no such networks can be built.
    """
    networks = networks_of(config)
    if isinstance(networks, GaussianActor):
        return _by_gradient(config, networks)
    return _by_memory(config, networks)


def disk_need(config: TrainConfig, max_env_steps: int) -> int:
    """Disk space of one seed's last checkpoint [bytes].

    Args:
        config: Configuration; its networks are built on the meta device, without allocation.
        max_env_steps: Budget of the training run; the checkpoint includes the replay buffer, as
            far as these steps fill it.

    Raises:
        ValueError: If no such networks can be built.
    """
    checkpoint = _NUMBER * _SAVED * num_parameters(networks_of(config))
    kept = get_algorithm(config.algorithm).experience_bytes(config)
    if kept:
        kept = int(kept * min(1.0, max_env_steps / config.meta.replay_env_steps))
    return checkpoint + kept


def _by_gradient(config: TrainConfig, actor: GaussianActor) -> MemoryNeed:
    meta, horizon = config.meta, config.env.horizon
    rows_of_task = meta.num_episodes * horizon
    # Each task has its own weights during its rollouts. Tasks whose graph is in memory hold them
    # once more for each adaptation step, with their gradient.
    together = min(meta.num_tasks, tasks_at_once(rows_of_task))
    copies = _WITH_OPTIMISER + meta.num_tasks + 2 * together * meta.num_inner_steps
    spec = get_family(config.env.task).spec
    row = _NUMBER * (spec.observation_dim + spec.action_dim + _STEP)
    played = _COPIES * row * meta.env_steps_per_iteration(horizon)
    rows = max(rows_of_task, min(ROWS_AT_ONCE, meta.num_tasks * rows_of_task))
    return MemoryNeed(
        parameters=_NUMBER * num_parameters(actor) * copies,
        batch=played + rows * graph_bytes(actor, meta.num_inner_steps),
        experience=0,
    )


def _by_memory(config: TrainConfig, networks: nn.Module) -> MemoryNeed:
    meta, spec = config.meta, get_family(config.env.task).spec
    *_, inference = networks.children()
    graph = graph_bytes(GaussianActor(inference), meta.num_inner_steps)  # type: ignore[arg-type]
    seen = spec.observation_dim + spec.action_dim + _STEP
    widths = seen + 2 * (meta.actor_hidden_dim + 2 * meta.critic_hidden_dim)
    lanes = max(meta.inference_batch, meta.num_lanes)
    rows = lanes * meta.episodes_per_task * config.env.horizon
    # An inference model that adapts by gradient has its own weights and gradient in each lane.
    adapted = 2 * lanes * num_parameters(inference) if meta.num_inner_steps else 0
    return MemoryNeed(
        parameters=_NUMBER * (num_parameters(networks) * _WHILE_SAVED + adapted),
        batch=rows * (graph + _NUMBER * _COPIES * seen)
        + _NUMBER * _LAYERS_OF_UPDATE * widths * meta.batch_size,
        experience=get_algorithm(config.algorithm).experience_bytes(config),
    )
