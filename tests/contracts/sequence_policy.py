"""Every sequence policy, with random inputs and the plain loop that its scan is held against.

A new policy is added to ``POLICIES``; everything in ``test_sequence_policy.py`` then runs on it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ssmrl.models.gru import GRU
from ssmrl.models.lstm import LSTM
from ssmrl.models.mlp import MLP
from ssmrl.models.policy import SequencePolicy, reset_hidden
from ssmrl.models.ssm import StateSpaceModel
from ssmrl.models.transformer import Transformer

INPUT_DIM, OUTPUT_DIM = 3, 2

POLICIES: dict[str, Callable[[], SequencePolicy]] = {
    "ssm": lambda: StateSpaceModel(6, INPUT_DIM, OUTPUT_DIM, hidden_dim=8),
    "ssm, deep and gated": lambda: StateSpaceModel(
        4, INPUT_DIM, OUTPUT_DIM, hidden_dim=5, num_layers=2, gated=True
    ),
    "lstm": lambda: LSTM(INPUT_DIM, OUTPUT_DIM, hidden_dim=6),
    "gru": lambda: GRU(INPUT_DIM, OUTPUT_DIM, hidden_dim=6),
    # A window that neither divides a scan's length nor covers it.
    "transformer": lambda: Transformer(
        INPUT_DIM, OUTPUT_DIM, hidden_dim=6, num_layers=2, num_heads=2, window=5
    ),
    "transformer, wide window": lambda: Transformer(
        INPUT_DIM, OUTPUT_DIM, hidden_dim=5, num_layers=1, num_heads=2, window=16
    ),
    "mlp": lambda: MLP(INPUT_DIM, OUTPUT_DIM, hidden_dim=8),
}


class Sequences(NamedTuple):
    """Inputs ``(B, T, I)``, a memory ``(B, S)`` from before, and where to forget ``(B, T)``."""

    x: Tensor
    hidden: Tensor
    first: Tensor


def make_policy(name: str, seed: int = 0) -> SequencePolicy:
    """A policy in float64 whose parameters are all random, the biases too."""
    generator = torch.Generator().manual_seed(seed)
    policy = POLICIES[name]().double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).double())
    return policy


def random_sequences(
    policy: SequencePolicy, seed: int, batch_size: int = 4, num_steps: int = 12
) -> Sequences:
    """Random inputs with a reset at every third step on average."""
    generator = torch.Generator().manual_seed(seed)

    def inputs(num_steps: int) -> tuple[Tensor, Tensor]:
        return (
            torch.randn(batch_size, num_steps, INPUT_DIM, generator=generator).double(),
            torch.rand(batch_size, num_steps, generator=generator) < 1 / 3,
        )

    x, first = inputs(num_steps)
    if isinstance(policy, Transformer):
        # Not every tensor is a memory here: only what steps have left behind is.
        before, starts = inputs(num_steps)
        with torch.no_grad():
            _, hidden = policy.scan(before, policy.init_hidden(batch_size), starts)
    else:
        hidden = torch.randn(batch_size, policy.state_dim, generator=generator).double()
    return Sequences(x, hidden, first)


def loop(policy: SequencePolicy, sequences: Sequences) -> tuple[Tensor, Tensor]:
    """The plain twin of ``scan``: reset and step, one time step after the other."""
    x, hidden, first = sequences
    outputs = []
    for t in range(x.shape[1]):
        output, hidden = policy.step(x[:, t], reset_hidden(hidden, first[:, t]))
        outputs.append(output)
    return torch.stack(outputs, dim=1), hidden
