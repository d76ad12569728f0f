"""The interface of a sequence model: a step, a scan, and a hidden state that can be reset."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssmrl.checkpoint import CheckpointError, check_tensors, read_with_settings, write_tensors
from ssmrl.strict_json import json_text
from ssmrl.types import Hidden

Stepper: TypeAlias = Callable[[Tensor, Hidden], tuple[Tensor, Hidden]]


class SequencePolicy(ABC, nn.Module):
    """A model that maps a sequence of inputs to a sequence of outputs, with a hidden state.

    In every implementation ``scan`` equals a loop of ``reset_hidden`` and ``step``.

    Attributes:
        input_dim: Number of inputs, ``I``.
        output_dim: Number of outputs, ``O``.
        state_dim: Size of the hidden state, ``S``; 0 for a model without one.
        num_scores: Largest number of attention scores per step of a scan; 0 without attention.
        head: Linear output layer; all other layers are the sequence encoder.
    """

    input_dim: int
    output_dim: int
    state_dim: int
    num_scores: int = 0
    head: nn.Linear

    def init_hidden(self, batch_size: int) -> Float[Tensor, "B S"]:
        """The initial hidden state of ``batch_size`` sequences, zeros."""
        parameter = next(self.parameters())
        return parameter.new_zeros(batch_size, self.state_dim)

    @abstractmethod
    def step(
        self, x: Float[Tensor, "B I"], hidden: Float[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B O"], Float[Tensor, "B S"]]:
        """Process one time step.

        Returns:
            The output and the next hidden state.
        """

    def stepper(self) -> Stepper:
        """A version of ``step`` for fixed weights, without gradients; faster over many steps."""
        return torch.no_grad()(self.step)

    @abstractmethod
    def scan(
        self,
        x: Float[Tensor, "B T I"],
        hidden: Float[Tensor, "B S"],
        first: Bool[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T O"], Float[Tensor, "B S"]]:
        """Process whole sequences, resetting the hidden state wherever ``first`` is true.

        Returns:
            The outputs and the hidden state after the last step.
        """

    def forward(
        self, x: Tensor, hidden_state: Hidden | None = None, first: Tensor | None = None
    ) -> tuple[Tensor, Hidden]:
        """Call ``step`` on 2-d inputs and ``scan`` on 3-d ones.

        Args:
            x: Inputs, ``(B, I)`` or ``(B, T, I)``.
            hidden_state: Hidden state, ``(B, S)``; zeros if left out.
            first: Whether an episode starts, ``(B, T)`` for 3-d inputs, ``(B,)`` for 2-d ones; no
                reset if left out.

        Raises:
            ValueError: If ``x`` has neither 2 nor 3 axes or a width other than ``input_dim``, or
                if ``x`` or the hidden state has another dtype than the weights.
        """
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_dim:
            raise ValueError(
                f"`x` must be (B, {self.input_dim}) or (B, T, {self.input_dim}), "
                f"but got {tuple(x.shape)}"
            )
        hidden = self.init_hidden(x.shape[0]) if hidden_state is None else hidden_state
        own = self.head.weight.dtype
        for name, value in (("x", x), ("hidden_state", hidden)):
            if value.dtype != own:
                raise ValueError(
                    f"`{name}` must be {own}, as the weights are, but is {value.dtype}; convert it "
                    f"with `{name}.to({own})`"
                )
        if x.ndim == 2:
            return self.step(x, hidden if first is None else reset_hidden(hidden, first))
        return self.scan(x, hidden, x.new_zeros(x.shape[:2]).bool() if first is None else first)

    def save(self, path: Path | str) -> None:
        """Save weights and buffers to one file without pickle; sizes are implied by the weights."""
        kind = {"type": type(self).__name__}
        write_tensors(Path(path), self.state_dict(), {"model": json_text(kind)})

    def load(self, path: Path | str) -> None:
        """Load saved weights and buffers.

        Raises:
            FileNotFoundError: If there is no such file.
            CheckpointError: If the file is damaged, of another kind, or holds a model of another
                class or size; then nothing changed.
        """
        tensors, kind = read_with_settings(Path(path), "model", "SequencePolicy")
        if kind.get("type") != (own := type(self).__name__):
            raise CheckpointError(f"{path} must hold a {own}, but holds a {kind.get('type')}")
        check_tensors(Path(path), tensors, self.state_dict())
        self.load_state_dict(tensors)


def reset_hidden(hidden: Float[Tensor, "B S"], first: Bool[Tensor, " B"]) -> Float[Tensor, "B S"]:
    """Reset the hidden state to zeros where ``first`` is true."""
    return hidden.masked_fill(first.unsqueeze(-1), 0.0)
