"""Named policy sizes, at which the sequence models are compared; not a search over sizes."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from ssmrl.config import METHODS, PolicyConfig
from ssmrl.models.actor import make_policy
from ssmrl.unknown_name import UnknownNameError


def num_parameters(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def preset(name: str, method: str, observation_dim: int = 17, action_dim: int = 6) -> PolicyConfig:
    """The policy configuration of a named size.

    Args:
        name: Name of the preset. ``"seed"``: 128 units in every method and two layers in the
            transformer; these sizes are common but have unequal parameter counts. ``"matched"``:
            as many parameters as the state space model of ``"seed"``, within 3 %.
        method: One of ``METHODS``.
        observation_dim: Width of the observation, ``O``, for counting parameters.
        action_dim: Width of the action, ``A``, for the same purpose.

    Raises:
        KeyError: If the preset or the method is unknown; the message lists the known ones.

    Example:
        >>> [preset("seed", "lstm").hidden_dim, preset("matched", "lstm").hidden_dim]
        [128, 105]
    """
    if name not in PRESETS:
        raise UnknownNameError(f"unknown preset {name!r}; the presets are: {', '.join(PRESETS)}")
    if method not in METHODS:
        raise UnknownNameError(f"unknown method {method!r}; the methods are: {', '.join(METHODS)}")
    return PRESETS[name](method, observation_dim, action_dim)


def _seed(method: str, observation_dim: int, action_dim: int) -> PolicyConfig:
    num_layers = 2 if method == "transformer" else 1
    return PolicyConfig(method=method, state_dim=128, hidden_dim=128, num_layers=num_layers)


def _matched(method: str, observation_dim: int, action_dim: int) -> PolicyConfig:
    def count(config: PolicyConfig) -> int:
        with torch.device("meta"):  # shapes only: no weights are drawn
            return num_parameters(make_policy(config, observation_dim, action_dim))

    anchor = _seed("ssm", observation_dim, action_dim)
    if method == "ssm":
        return anchor
    with torch.random.fork_rng(devices=[]):
        target = num_parameters(make_policy(anchor, observation_dim, action_dim))
    return _fitted(_seed(method, observation_dim, action_dim), target, count)


def _fitted(
    config: PolicyConfig, target: int, count: Callable[[PolicyConfig], int]
) -> PolicyConfig:
    """The configuration with the ``hidden_dim`` whose count is closest to ``target``."""
    low, high = 1, 1
    while count(replace(config, hidden_dim=high)) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if count(replace(config, hidden_dim=middle)) < target:
            low = middle
        else:
            high = middle
    candidates = (replace(config, hidden_dim=low), replace(config, hidden_dim=high))
    return min(candidates, key=lambda candidate: abs(count(candidate) - target))


PRESETS: dict[str, Callable[[str, int, int], PolicyConfig]] = {
    "seed": _seed,
    "matched": _matched,
}
"""All presets by name; the common tests run over all of them."""
