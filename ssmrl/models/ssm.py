"""A diagonal state space model as a sequence policy."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from ssmrl.models.policy import SequencePolicy
from ssmrl.models.recurrence import multiply, recurrence


class StateSpaceModel(SequencePolicy):
    """Input layer, diagonal linear state space, gelu, one hidden layer, output layer.

    The state space has ``state_dim / 2`` complex modes ``lambda_n`` with negative real part, so it
    is stable whatever the parameters. It is discretised by zero-order hold with a learnt time
    step per mode, and starts at the diagonal linear initialisation of S4D.

    Args:
        state_dim: Reals of memory, ``S``; even, two for a mode.
        input_dim: ``I``.
        output_dim: ``O``.
        hidden_dim: Width of the layers around the state space.
        device: Where the parameters live.

    Raises:
        ValueError: If ``state_dim`` is odd or not positive.

    Example:
        >>> policy = StateSpaceModel(state_dim=8, input_dim=3, output_dim=2)
        >>> output, hidden = policy(torch.zeros(5, 3), policy.init_hidden(5))
        >>> tuple(output.shape), tuple(hidden.shape)
        ((5, 2), (5, 8))

    References:
        Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space
        Models", equations 4 (zero-order hold) and 9 (initialisation).
    """

    def __init__(
        self,
        state_dim: int,
        input_dim: int,
        output_dim: int,
        hidden_dim: int = 128,
        device: str = "cpu",
    ) -> None:
        if state_dim < 2 or state_dim % 2:
            raise ValueError(
                f"`state_dim` must be even and at least 2, because a complex mode takes two "
                f"reals, but got {state_dim=}; use {max(2, state_dim + 1)}"
            )
        super().__init__()
        self.input_dim, self.output_dim, self.state_dim = input_dim, output_dim, state_dim
        num_modes = state_dim // 2
        self.encoder = nn.Linear(input_dim, hidden_dim)
        self.log_rate = nn.Parameter(torch.full((num_modes,), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(num_modes, dtype=torch.float32))
        low, high = math.log(1e-3), math.log(1e-1)
        self.log_time_step = nn.Parameter(torch.linspace(low, high, num_modes))
        self.drive = nn.Linear(hidden_dim, state_dim, bias=False)
        self.readout = nn.Linear(state_dim, hidden_dim, bias=False)
        self.skip = nn.Parameter(torch.ones(hidden_dim))
        self.hidden = nn.Linear(hidden_dim, hidden_dim)
        self.head = nn.Linear(hidden_dim, output_dim)
        for layer in (self.encoder, self.drive, self.readout, self.hidden, self.head):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.encoder, self.hidden, self.head):
            nn.init.zeros_(layer.bias)
        self.to(device)

    def step(
        self, x: Float[Tensor, "B I"], hidden: Float[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B O"], Float[Tensor, "B S"]]:
        """Process one time step."""
        encoded = torch.tanh(self.encoder(x))
        decay, gain = self._discretise()
        state = multiply(decay, hidden) + multiply(gain, self.drive(encoded))
        return self._decode(encoded, state), state

    def scan(
        self,
        x: Float[Tensor, "B T I"],
        hidden: Float[Tensor, "B S"],
        first: Bool[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T O"], Float[Tensor, "B S"]]:
        """Process whole sequences; linear in their length."""
        encoded = torch.tanh(self.encoder(x))
        decay, gain = self._discretise()
        states = recurrence(decay, multiply(gain, self.drive(encoded)), hidden, first)
        return self._decode(encoded, states), states[:, -1]

    def _discretise(self) -> tuple[Float[Tensor, " S"], Float[Tensor, " S"]]:
        """Zero-order hold: ``exp(step * lambda)`` and ``(exp(step * lambda) - 1) / lambda``."""
        rate = self.log_rate.exp()
        step = self.log_time_step.exp()
        shrink = torch.exp(-rate * step)
        angle = self.frequency * step
        real, imag = shrink * torch.cos(angle), shrink * torch.sin(angle)
        decay = torch.stack([real, imag], dim=-1).flatten()
        size = rate.square() + self.frequency.square()
        inverse = torch.stack([-rate / size, -self.frequency / size], dim=-1).flatten()
        change = torch.stack([real - 1.0, imag], dim=-1).flatten()
        return decay, multiply(change, inverse)

    def _decode(self, encoded: Tensor, state: Tensor) -> Tensor:
        mixed = functional.gelu(self.readout(state) + self.skip * encoded)
        output: Tensor = self.head(torch.tanh(self.hidden(mixed)))
        return output


SSM = StateSpaceModel
