"""Loss and times of gradient steps inside a meta-episode; they need no hidden variable."""

import torch
from jaxtyping import Float
from torch import Tensor

from ssmrl.adaptation.adapter import AdaptationConfig
from ssmrl.adaptation.lane_adapter import LaneAdapter
from ssmrl.config import TrainConfig
from ssmrl.context.inference import TaskInference
from ssmrl.meta.masks import masked_mean

TRUST_REGION = 1.0
"""Largest total distance that gradient steps may move an acting lane's weights [Euclidean]."""


def adaptation_steps(config: TrainConfig) -> tuple[int, ...]:
    """Env steps of a meta-episode after which the inference model adapts, in ascending order.

    It adapts after each quarter of an episode, except at the end of the meta-episode, where no
    action follows.

    Args:
        config: Configuration of context-sac, with horizon and episodes per meta-episode.

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
    """Outcomes of every step but the last, computed from the inputs alone.

    Args:
        inputs: Result of ``inference_inputs``; each step contains the outcome of the one before.
        observation_dim: ``O``.

    Returns:
        The reward, the change of the observation, and whether the next observation belongs to the
        same episode.
    """
    observation = inputs[..., :observation_dim]
    change = observation[..., 1:, :] - observation[..., :-1, :]
    reward, starts = inputs[..., 1:, -2:-1], inputs[..., 1:, -1:]
    return torch.cat([reward, change, 1.0 - starts], dim=-1)


def prediction_loss(output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared error of the next reward, plus the mean squared error of the observation's change.

    Args:
        output: Output of the inference model, ``(B, T, 2 * Z + 1 + O)``.
        target: Result of ``prediction_targets``, ``(B, T, O + 2)``.
        mask: Steps that count, ``(B, T)``; all by default.
    """
    counts = torch.ones_like(target[..., 0]) if mask is None else mask.to(target.dtype)
    error = (output[..., 1 - target.shape[-1] :] - target[..., :-1]).square()
    reward = masked_mean(error[..., 0], counts)
    return reward + masked_mean(error[..., 1:].mean(-1), counts * target[..., -1])


def lane_adapter(inference: TaskInference, config: TrainConfig) -> LaneAdapter:
    """The adapter that makes gradient steps without knowing the hidden variable."""
    meta = config.meta
    return LaneAdapter(
        inference.model,
        AdaptationConfig(meta.inner_lr, meta.num_inner_steps, trust_region=TRUST_REGION),
    )
