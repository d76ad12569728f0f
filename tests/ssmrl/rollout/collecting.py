"""Small collections of experience, in one part or in several."""

from collections.abc import Sequence

import torch

from ssmrl.config import TrainConfig
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.meta.inner import stack_params
from ssmrl.models.actor import GaussianActor
from ssmrl.rollout.adaptation import collect_adapting, collect_once
from ssmrl.rollout.assignment import Assignment, train_assignment
from ssmrl.rollout.worker import RolloutWorker
from ssmrl.types import Params, Trajectory


def small_config(task: str, method: str, **knobs: object) -> TrainConfig:
    """Five tasks, three lanes of 30 steps; ants act at full strength, so that some fall."""
    small = {
        "policy.method": method,
        "policy.state_dim": 8,
        "env.horizon": 30,
        "env.action_scale": 1.0,
        "meta.num_tasks": 5,
        "meta.num_episodes": 3,
    }
    return TrainConfig.for_task(task, "promp").with_knobs(small | knobs)


def detached(actor: GaussianActor) -> Params:
    return {name: value.detach() for name, value in actor.named_parameters()}


def collect(config: TrainConfig, num_threads: int = 1, phase: int = 0) -> Trajectory:
    """One collection with the parameters that training starts from."""
    actor = initial_actor(config)
    worker = RolloutWorker(config.env, num_threads)
    params = stack_params(detached(actor), config.meta.num_tasks)
    assignment = train_assignment(config, 0)
    return collect_once(
        worker, actor, params, assignment, config.meta, config.meta.num_episodes, phase
    )


def collect_in_parts(
    config: TrainConfig, parts: Sequence[Assignment], num_threads: int = 1
) -> list[Trajectory]:
    """Collect before and after one adaptation step, each part by a worker of its own, and join."""
    actor = initial_actor(config)
    collected = [
        collect_adapting(
            RolloutWorker(config.env, num_threads),
            actor,
            detached(actor),
            part,
            config.meta,
            num_steps=1,
            num_episodes=config.meta.num_episodes,
        )
        for part in parts
    ]
    return [
        Trajectory(*(torch.cat(fields) for fields in zip(*phase, strict=True)))
        for phase in zip(*collected, strict=True)
    ]


def fields_that_differ(ours: Trajectory, theirs: Trajectory) -> list[str]:
    """Names of the fields that are not equal bit for bit."""
    return [
        name
        for name, a, b in zip(Trajectory._fields, ours, theirs, strict=True)
        if not torch.equal(a, b)
    ]
