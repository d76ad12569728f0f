"""Meta-training on one screen and in one process; ``cluster`` does the same four steps with Ray."""

import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch

from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.meta.learner import MetaLearner
from ssmrl.models.actor import GaussianActor, make_actor
from ssmrl.rollout.adaptation import collect_adapting
from ssmrl.rollout.assignment import held_out_assignment, train_assignment
from ssmrl.rollout.evaluate import Evaluation
from ssmrl.rollout.returns import episode_return
from ssmrl.rollout.worker import RolloutWorker, env_shape
from ssmrl.seeding import Purpose, stream


@dataclass(frozen=True)
class Metrics:
    """What one meta-iteration did.

    Attributes:
        iteration: Counted from 1.
        env_steps: Since the start [env steps].
        return_before: Mean return of the meta-batch before adaptation.
        return_after: Mean return after the last adaptation step.
        sample_seconds: Time spent on experience [s].
        update_seconds: Time spent on the meta-update [s].
        statistics: The learner's own.
    """

    iteration: int
    env_steps: int
    return_before: float
    return_after: float
    sample_seconds: float
    update_seconds: float
    statistics: dict[str, float]


def initial_actor(config: TrainConfig) -> GaussianActor:
    """The policy that a configuration starts from; its seed decides the weights."""
    shape = env_shape(config.env)
    words = stream(config.seed, Purpose.INITIAL_WEIGHTS).generate_state(2, np.uint32)
    generator = torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
    return make_actor(config.policy, shape.observation_dim, shape.action_dim, generator)


def saved_actor(checkpoint: Checkpoint) -> GaussianActor:
    """The policy of a checkpoint.

    Raises:
        KeyError: If the checkpoint holds no actor of its configuration.
    """
    actor = initial_actor(checkpoint.config)
    actor.load_state_dict(
        {name: checkpoint.tensors[f"actor.{name}"] for name in actor.state_dict()}
    )
    return actor


def train(
    config: TrainConfig,
    actor: GaussianActor | None = None,
    num_threads: int = 0,
    device: str = "cpu",
) -> Iterator[Metrics]:
    """Meta-train for as long as the caller keeps asking.

    Args:
        config: Everything the result depends on.
        actor: Trained in place; a fresh one if left out.
        num_threads: Threads of the physics; 0 means all cores. The result does not depend on it.
        device: Where the meta-updates are computed, for example ``"cuda"``; the actor moves there.
            Policies act beside the physics, on the CPU.

    Yields:
        Metrics of each iteration.

    Raises:
        DivergedError: If a meta-gradient is not finite.
        ValueError: If CUDA is asked for and not present.
    """
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"`device` is {device!r}, but torch sees no CUDA device; use 'cpu'")
    actor = (initial_actor(config) if actor is None else actor).to(device)
    player = deepcopy(actor).cpu()
    learner = MetaLearner(actor, config)
    worker = RolloutWorker(config.env, num_threads)
    env_steps = 0
    for iteration in count():
        started = time.perf_counter()
        trajectories = collect_adapting(
            worker,
            player,
            {name: value.cpu() for name, value in learner.params().items()},
            train_assignment(config, iteration),
            config.meta,
            num_steps=config.meta.num_inner_steps,
            num_episodes=config.meta.num_episodes,
        )
        sampled = time.perf_counter()
        statistics = learner.update(trajectories[:-1], trajectories[-1])
        env_steps += sum(trajectory.reward.numel() for trajectory in trajectories)
        yield Metrics(
            iteration + 1,
            env_steps,
            float(episode_return(trajectories[0]).mean()),
            float(episode_return(trajectories[-1]).mean()),
            sampled - started,
            time.perf_counter() - sampled,
            statistics,
        )


def evaluate(
    config: TrainConfig,
    actor: GaussianActor,
    *,
    num_steps: int,
    draw: int = 0,
    num_threads: int = 0,
) -> Evaluation:
    """Adapt to held-out tasks and measure the return after each step.

    Args:
        config: Family, number of tasks and episodes, inner learning rate.
        actor: Its parameters are the meta-parameters; they are not changed.
        num_steps: Adaptation steps, ``K``.
        draw: Which set of held-out tasks.
        num_threads: Threads of the physics; 0 means all cores.
    """
    player = deepcopy(actor).cpu()
    params = {name: value.detach() for name, value in player.named_parameters()}
    return Evaluation.of(
        collect_adapting(
            RolloutWorker(config.env, num_threads),
            player,
            params,
            held_out_assignment(config, draw),
            config.meta,
            num_steps=num_steps,
            num_episodes=config.evaluation.num_episodes,
        )
    )
