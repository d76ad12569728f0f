"""What gradient steps inside a meta-episode descend, and when: no hidden variable is in it."""

import torch
from jaxtyping import Float
from torch import Tensor

from ssmrl.adaptation.adapter import AdaptationConfig
from ssmrl.adaptation.lane_adapter import LaneAdapter
from ssmrl.config import TrainConfig
from ssmrl.context.inference import TaskInference
from ssmrl.meta.masks import masked_mean

TRUST_REGION = 1.0
"""How far gradient steps may move the weights of a lane that acts, all together [Euclidean]."""


def adaptation_steps(config: TrainConfig) -> tuple[int, ...]:
    """After how many env steps of a meta-episode the inference model adapts, in rising order.

    After each quarter of an episode and at its end, but not where the meta-episode ends: there is
    nothing left to act on.

    Args:
        config: Of context-sac: the horizon, and the episodes of a meta-episode.

    Raises:
        ValueError: If a meta-episode is a single env step.
    """
    horizon, num_episodes = config.env.horizon, config.meta.episodes_per_task
    steps = sorted({horizon * quarter // 4 for quarter in range(1, 4 * num_episodes)} - {0})
    if not steps:
        raise ValueError(
            "`meta.num_inner_steps` must be 0 where a meta-episode is one env step, but is "
            f"{config.meta.num_inner_steps}; there is nothing to adapt to before its end"
        )
    return tuple(steps)


def prediction_targets(
    inputs: Float[Tensor, "*batch T I"], observation_dim: int
) -> Float[Tensor, "*batch T-1 D"]:
    """What came of every step but the last, from the inputs alone.

    Args:
        inputs: Of ``inference_inputs``, which tell at each step what came of the one before.
        observation_dim: ``O``.

    Returns:
        The reward, the change of the observation, and whether the observation after it belongs to
        the same episode.
    """
    observation = inputs[..., :observation_dim]
    change = observation[..., 1:, :] - observation[..., :-1, :]
    reward, starts = inputs[..., 1:, -2:-1], inputs[..., 1:, -1:]
    return torch.cat([reward, change, 1.0 - starts], dim=-1)


def prediction_loss(output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared error of the next reward, plus the mean over the observation's numbers.

    Args:
        output: Of the inference model, ``(B, T, 2 * Z + 1 + O)``.
        target: What ``prediction_targets`` gives, ``(B, T, O + 2)``.
        mask: Which steps count, ``(B, T)``; all if left out.
    """
    counts = torch.ones_like(target[..., 0]) if mask is None else mask.to(target.dtype)
    error = (output[..., 1 - target.shape[-1] :] - target[..., :-1]).square()
    reward = masked_mean(error[..., 0], counts)
    return reward + masked_mean(error[..., 1:].mean(-1), counts * target[..., -1])


def lane_adapter(inference: TaskInference, config: TrainConfig) -> LaneAdapter:
    """What makes the steps where nobody knows the hidden variable."""
    meta = config.meta
    return LaneAdapter(
        inference.model,
        AdaptationConfig(meta.inner_lr, meta.num_inner_steps, trust_region=TRUST_REGION),
    )
