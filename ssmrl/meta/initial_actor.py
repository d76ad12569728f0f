"""The Gaussian policy of a gradient algorithm: newly initialised, or from a checkpoint."""

import numpy as np
import torch

from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.models.actor import GaussianActor, make_actor
from ssmrl.rollout.worker import env_shape
from ssmrl.seeding import Purpose, stream


def initial_actor(config: TrainConfig) -> GaussianActor:
    """The initial policy of a configuration; the configuration's seed decides the weights."""
    shape = env_shape(config.env)
    words = stream(config.seed, Purpose.INITIAL_WEIGHTS).generate_state(2, np.uint32)
    generator = torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
    return make_actor(config.policy, shape.observation_dim, shape.action_dim, generator)


def saved_actor(checkpoint: Checkpoint) -> GaussianActor:
    """The policy of a checkpoint.

    Raises:
        KeyError: If the checkpoint lacks a tensor of its configuration's actor.
    """
    actor = initial_actor(checkpoint.config)
    actor.load_state_dict(
        {name: checkpoint.tensors[f"actor.{name}"] for name in actor.state_dict()}
    )
    return actor
