"""A diagonal state space model as a sequence policy."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssmrl.models.activations import sigmoid
from ssmrl.models.policy import SequencePolicy, Stepper
from ssmrl.models.recurrence import multiply, recurrence


class StateSpaceLayer(nn.Module):
    """A diagonal state space between two linear maps, then tanh, an optional gate, and a layer.

    Per step a mode changes by at most its time step times its input, which is small compared with
    the skip connection. The input weights are therefore scaled per mode by ``loudness``. With it,
    unit white noise initially gives every mode the same standard deviation, 0.5. It is not 1, since
    observations change slowly and move a mode further than noise. Without the scaling the state and
    its gradients were too small, and policies did not learn.

    Args:
        state_dim: Real numbers in the state, two per complex mode.
        hidden_dim: Width of input and output, ``H``.
        gated: Whether the input gates the state space's output.
    """

    loudness: Tensor

    def __init__(self, state_dim: int, hidden_dim: int, gated: bool) -> None:
        super().__init__()
        num_modes = state_dim // 2
        self.log_rate = nn.Parameter(torch.full((num_modes,), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(num_modes, dtype=torch.float32))
        # Faster modes get shorter time steps: initially none rotates by more than pi / 2 per step.
        longest, shortest = math.log(1e-1), math.log(1e-3)
        self.log_time_step = nn.Parameter(torch.linspace(longest, shortest, num_modes))
        self.drive = _linear(hidden_dim, state_dim, bias=False)
        self.readout = _linear(state_dim, hidden_dim, bias=False)
        self.skip = nn.Parameter(torch.ones(hidden_dim))
        self.hidden = _linear(hidden_dim, hidden_dim)
        self.gate = _linear(hidden_dim, hidden_dim) if gated else None
        with torch.no_grad():
            decay, gain = self._zero_order_hold()
            loudness = 0.5 * torch.sqrt((1.0 - _size(decay)) / _size(gain)).repeat_interleave(2)
        self.register_buffer("loudness", loudness, persistent=False)

    def step(
        self,
        features: Float[Tensor, "B H"],
        state: Float[Tensor, "B S"],
        discretised: tuple[Float[Tensor, " S"], Float[Tensor, "H S"]] | None = None,
    ) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B S"]]:
        """Process one time step; ``discretised`` may hold a precomputed ``discretise()``."""
        decay, drive = self.discretise() if discretised is None else discretised
        next_state = multiply(decay, state) + features @ drive
        return self._mix(features, next_state), next_state

    def scan(
        self,
        features: Float[Tensor, "B T H"],
        state: Float[Tensor, "B S"],
        first: Bool[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B S"]]:
        """Process whole sequences, in time linear in their length."""
        decay, drive = self.discretise()
        states = recurrence(decay, features @ drive, state, first)
        return self._mix(features, states), states[:, -1]

    def discretise(self) -> tuple[Float[Tensor, " S"], Float[Tensor, "H S"]]:
        """The decay of the modes, and the scaled input weights.

        The weights are scaled rather than their outputs, since there are fewer weights than steps.
        """
        decay, gain = self._zero_order_hold()
        return decay, multiply(gain * self.loudness, self.drive.weight.mT)

    def _zero_order_hold(self) -> tuple[Float[Tensor, " S"], Float[Tensor, " S"]]:
        """``exp(step * lambda)`` and ``(exp(step * lambda) - 1) / lambda``."""
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

    def _mix(
        self, features: Float[Tensor, "*batch H"], state: Float[Tensor, "*batch S"]
    ) -> Float[Tensor, "*batch H"]:
        mixed = torch.tanh(self.readout(state) + self.skip * features)
        if self.gate is not None:
            mixed = mixed * sigmoid(self.gate(features))
        return torch.tanh(self.hidden(mixed))


class StateSpaceModel(SequencePolicy):
    """Input layer, diagonal linear state space, one hidden layer, output layer; tanh between.

    The state space has ``state_dim / 2`` complex modes ``lambda_n`` with negative real part, so it
    is stable for any parameters. It is discretised by zero-order hold with a learnt time step per
    mode. It starts from S4D's diagonal linear initialisation, with all modes scaled to equal
    loudness (Orvieto et al. 2023).

    With more layers, each further layer adds its output to that of the layer below, and the hidden
    state holds the modes of all layers side by side.

    Args:
        state_dim: Real numbers in the hidden state of a layer; even, two per complex mode.
            ``S = num_layers * state_dim``.
        input_dim: Number of inputs, ``I``.
        output_dim: Number of outputs, ``O``.
        hidden_dim: Width of the layers around the state space.
        device: Device of the parameters.
        num_layers: Number of state space layers.
        gated: Whether each layer's input gates the state space's output.

    Raises:
        ValueError: If ``state_dim`` is odd or not positive, or ``num_layers`` is less than 1.
        TypeError: If the model is called with parameters, or under autocast, of fewer bits than
            float32.

    Example:
        >>> policy = StateSpaceModel(state_dim=8, input_dim=3, output_dim=2)
        >>> output, hidden = policy(torch.zeros(5, 3), policy.init_hidden(5))
        >>> tuple(output.shape), tuple(hidden.shape)
        ((5, 2), (5, 8))

    References:
        Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space
        Models", equations 4 (zero-order hold) and 9 (initialisation); Mehta et al. 2023, "Long
        Range Language Modeling via Gated State Spaces", section 3 (the gate); Orvieto et al. 2023,
        "Resurrecting Recurrent Neural Networks for Long Sequences", section 3.4 (equal loudness).
    """

    def __init__(
        self,
        state_dim: int,
        input_dim: int,
        output_dim: int,
        hidden_dim: int = 128,
        device: str = "cpu",
        *,
        num_layers: int = 1,
        gated: bool = False,
    ) -> None:
        if state_dim < 2 or state_dim % 2:
            raise ValueError(
                f"`state_dim` must be even and at least 2, because a complex mode takes two "
                f"reals, but got {state_dim=}; use {max(2, state_dim + 1)}"
            )
        if num_layers < 1:
            raise ValueError(f"`num_layers` must be at least 1, but got {num_layers=}")
        super().__init__()
        self.input_dim, self.output_dim = input_dim, output_dim
        self.state_dim = num_layers * state_dim
        self.encoder = _linear(input_dim, hidden_dim)
        # Unit variance for unit inputs. Where there are few inputs they tend to be large, such as
        # positions, and would saturate the units; they are weighted as if there were sixteen.
        bound = math.sqrt(3.0 / max(input_dim, 16))
        nn.init.uniform_(self.encoder.weight, -bound, bound)
        self.layers = nn.ModuleList(
            StateSpaceLayer(state_dim, hidden_dim, gated) for _ in range(num_layers)
        )
        self.head = _linear(hidden_dim, output_dim)
        self.to(device)

    def step(
        self, x: Float[Tensor, "B I"], hidden: Float[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B O"], Float[Tensor, "B S"]]:
        """Process one time step."""
        return self._through(x, hidden, lambda layer, *inputs: layer.step(*inputs))

    @torch.no_grad()
    def stepper(self) -> Stepper:
        """``step``, with the state spaces discretised only once."""
        layers: Any = self.layers
        kept = {layer: layer.discretise() for layer in layers}

        @torch.no_grad()
        def step(x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
            return self._through(x, hidden, lambda layer, *inputs: layer.step(*inputs, kept[layer]))

        return step

    def scan(
        self,
        x: Float[Tensor, "B T I"],
        hidden: Float[Tensor, "B S"],
        first: Bool[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T O"], Float[Tensor, "B S"]]:
        """Process whole sequences, in time linear in their length."""
        return self._through(x, hidden, lambda layer, *inputs: layer.scan(*inputs, first))

    def _through(
        self,
        x: Tensor,
        hidden: Float[Tensor, "B S"],
        run: Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, Float[Tensor, "B S"]]:
        """Run all layers in turn, each with its part of the hidden state."""
        _check_exact(self.encoder.weight.dtype)
        features, next_states = torch.tanh(self.encoder(x)), []
        _check_exact(features.dtype)
        states = hidden.chunk(len(self.layers), dim=-1)
        for depth, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
            output, next_state = run(layer, features, state)
            features = output if depth == 0 else features + output
            next_states.append(next_state)
        return self.head(features), torch.cat(next_states, dim=-1)


SSM = StateSpaceModel


def _check_exact(dtype: torch.dtype) -> None:
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"a state space model must compute in float32 or float64, but got {dtype}, in which "
            "slow modes would never decay: exp(-5e-4) rounds to 1; use `.float()`, outside "
            "autocast"
        )


def _size(pairs: Float[Tensor, " S"]) -> Tensor:
    """Squared absolute value of each complex number."""
    size: Tensor = pairs.square().unflatten(-1, (-1, 2)).sum(-1)
    return size


def _linear(input_dim: int, output_dim: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer with Xavier initialisation and zero bias."""
    linear = nn.Linear(input_dim, output_dim, bias=bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
