"""Sequence models of other packages: the interface, and the adapter to a ``SequencePolicy``."""

from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssmrl.config import SequenceConfig
from ssmrl.import_path import ImportPathError, imported
from ssmrl.models.policy import SequencePolicy, reset_hidden
from ssmrl.types import Hidden


class SequenceEncoder(Protocol):
    """The interface of your own sequence model, which must also be a ``torch.nn.Module``.

    It is constructed as ``Class(input_dim, config)`` from the number of inputs ``I`` and the
    settings ``policy.*``. Use only ``Linear``, ``matmul`` and element-wise functions, and no
    in-place operations: meta-gradients differentiate the model twice, under ``torch.func.vmap``.
    The model may have its own ``scan``, like ``SequencePolicy.scan`` but returning features.
    Without one, ``step`` is called in a loop.
    """

    def init_hidden(self, batch_size: int) -> Tensor:
        """The initial hidden state, ``(B, S)`` zeros; ``S`` may be 0."""

    def step(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Process one env step.

        Args:
            x: Inputs, ``(B, I)``.
            hidden: Hidden state, ``(B, S)``.

        Returns:
            Features ``(B, policy.hidden_dim)``, and the next hidden state ``(B, S)``.
        """


class OwnModel(SequencePolicy):
    """A sequence model of another package, with a linear output layer.

    Args:
        path: Import path of a class that implements ``SequenceEncoder``.
        config: Settings of the model.
        input_dim: Number of inputs, ``I``.
        output_dim: Number of outputs, ``O``.

    Raises:
        ImportPathError: If the class cannot be imported, is not a module, or its initial hidden
            state is not a matrix of zeros.
    """

    def __init__(self, path: str, config: SequenceConfig, input_dim: int, output_dim: int) -> None:
        super().__init__()
        encoder = imported(path)(input_dim, config)
        if not isinstance(encoder, nn.Module):
            raise ImportPathError(f"{path!r} must be a torch.nn.Module, but is not")
        self.encoder = encoder
        hidden: Tensor = encoder.init_hidden(1)  # type: ignore[operator]  # checked by the configuration
        if hidden.ndim != 2 or len(hidden) != 1 or (not hidden.is_meta and bool(hidden.any())):
            raise ImportPathError(
                f"`init_hidden(1)` of {path!r} must return (1, S) zeros, but returned shape "
                f"{tuple(hidden.shape)}; the hidden state is reset to zeros when an episode starts"
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
        """Process whole sequences, with the model's own ``scan`` or step by step."""
        if hasattr(self.encoder, "scan"):
            features, hidden = self.encoder.scan(x, hidden, first)  # type: ignore[operator]
            output: Tensor = self.head(features)
            return output, hidden
        outputs: list[Hidden] = []
        for t in range(x.shape[1]):
            features, hidden = self.step(x[:, t], reset_hidden(hidden, first[:, t]))
            outputs.append(features)
        return torch.stack(outputs, dim=1), hidden
