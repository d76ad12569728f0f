"""Sequence models of other packages: what they bring, and what this project adds."""

from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssmrl.config import SequenceConfig
from ssmrl.import_path import ImportPathError, imported
from ssmrl.models.policy import SequencePolicy, reset_hidden
from ssmrl.types import Hidden


class SequenceEncoder(Protocol):
    """What a sequence model of one's own has to be, beside a ``torch.nn.Module``.

    It is made as ``Class(input_dim, config)`` from the number of inputs ``I`` and the settings
    ``policy.*``. Write it from ``Linear``, ``matmul`` and element-wise functions, without writing
    in place: meta-gradients differentiate it twice, under ``torch.func.vmap``. One that has a
    ``scan`` of its own, as ``SequencePolicy.scan`` but giving features, has that used; without one
    ``step`` is called in a loop.
    """

    def init_hidden(self, batch_size: int) -> Tensor:
        """An empty memory, ``(B, S)`` zeros; ``S`` may be 0."""

    def step(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """One env step.

        Args:
            x: ``(B, I)``.
            hidden: ``(B, S)``.

        Returns:
            Features ``(B, policy.hidden_dim)``, and the next memory ``(B, S)``.
        """


class OwnModel(SequencePolicy):
    """A sequence model of another package, with a linear output layer.

    Args:
        path: Import path of a class as ``SequenceEncoder`` has it.
        config: Its settings.
        input_dim: ``I``.
        output_dim: ``O``.

    Raises:
        ImportPathError: If there is no such class, it cannot be made, or its memory is no matrix
            of zeros.
    """

    def __init__(self, path: str, config: SequenceConfig, input_dim: int, output_dim: int) -> None:
        super().__init__()
        encoder = imported(path)(input_dim, config)
        if not isinstance(encoder, nn.Module):
            raise ImportPathError(f"{path!r} must be a torch.nn.Module, but is no module")
        self.encoder = encoder
        hidden: Tensor = encoder.init_hidden(1)  # type: ignore[operator]  # checked by the configuration
        if hidden.ndim != 2 or len(hidden) != 1 or (not hidden.is_meta and bool(hidden.any())):
            raise ImportPathError(
                f"`init_hidden(1)` of {path!r} must give (1, S) zeros, but gave "
                f"{tuple(hidden.shape)}; an episode's start empties a memory to zeros"
            )
        self.input_dim, self.output_dim, self.state_dim = input_dim, output_dim, hidden.shape[1]
        self.head = nn.Linear(config.hidden_dim, output_dim)

    def step(
        self, x: Float[Tensor, "B I"], hidden: Float[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B O"], Float[Tensor, "B S"]]:
        """Process one time step."""
        features, next_hidden = self.encoder.step(x, hidden)  # type: ignore[operator]
        output: Tensor = self.head(features)
        return output, next_hidden

    def scan(
        self,
        x: Float[Tensor, "B T I"],
        hidden: Float[Tensor, "B S"],
        first: Bool[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T O"], Float[Tensor, "B S"]]:
        """Process whole sequences, by the model's own scan or step by step."""
        if hasattr(self.encoder, "scan"):
            features, hidden = self.encoder.scan(x, hidden, first)  # type: ignore[operator]
            output: Tensor = self.head(features)
            return output, hidden
        outputs: list[Hidden] = []
        for t in range(x.shape[1]):
            features, hidden = self.step(x[:, t], reset_hidden(hidden, first[:, t]))
            outputs.append(features)
        return torch.stack(outputs, dim=1), hidden
