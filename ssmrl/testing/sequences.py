"""Random models, random sequences, and the plain loop that a scan must equal."""

from typing import NamedTuple

import torch
from torch import Tensor

from ssmrl.config import SequenceConfig
from ssmrl.models.actor import make_policy
from ssmrl.models.policy import SequencePolicy, reset_hidden

INPUT_DIM, OUTPUT_DIM = 3, 2
NUM_SEQUENCES, NUM_STEPS = 4, 12


class Sequences(NamedTuple):
    """Inputs ``(B, T, I)``, hidden state before them ``(B, S)``, and resets ``(B, T)``."""

    x: Tensor
    hidden: Tensor
    first: Tensor


def random_model(config: SequenceConfig, seed: int = 0) -> SequencePolicy:
    """A model in float64 whose parameters are all random, the biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_policy(config, INPUT_DIM, OUTPUT_DIM).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).double())
    return model


def random_sequences(
    model: SequencePolicy, seed: int, batch_size: int = NUM_SEQUENCES, num_steps: int = NUM_STEPS
) -> Sequences:
    """Random inputs with a reset at every third step on average.

    The hidden state results from earlier random steps, since not every tensor need be a valid one.
    """
    generator = torch.Generator().manual_seed(seed)

    def inputs(num_steps: int) -> tuple[Tensor, Tensor]:
        return (
            torch.randn(batch_size, num_steps, INPUT_DIM, generator=generator).double(),
            torch.rand(batch_size, num_steps, generator=generator) < 1 / 3,
        )

    x, first = inputs(num_steps)
    before, starts = inputs(NUM_STEPS)
    with torch.no_grad():
        _, hidden = loop(model, Sequences(before, model.init_hidden(batch_size), starts))
    return Sequences(x, hidden, first)


def loop(model: SequencePolicy, sequences: Sequences) -> tuple[Tensor, Tensor]:
    """The plain version of ``scan``: reset and step, one time step after the other."""
    x, hidden, first = sequences
    outputs = []
    for t in range(x.shape[1]):
        output, hidden = model.step(x[:, t], reset_hidden(hidden, first[:, t]))
        outputs.append(output)
    return torch.stack(outputs, dim=1), hidden


def check_same(rule: str, got: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    """Check that tensors are equal up to 1e-9.

    Raises:
        AssertionError: If they differ; the message begins with the rule.
    """
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.shape == theirs.shape, (
            f"{rule}, but the shapes are {tuple(ours.shape)} and {tuple(theirs.shape)}"
        )
        is_close = torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)
        difference = float((ours - theirs).detach().abs().max()) if ours.numel() else 0.0
        assert is_close, f"{rule}, but they differ by up to {difference:g}"
