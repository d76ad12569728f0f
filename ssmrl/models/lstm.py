"""A long short-term memory (LSTM) as a sequence policy that is twice differentiable.

Not ``nn.LSTM``, whose fused kernels have no second derivative under ``vmap``.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssmrl.models.activations import sigmoid
from ssmrl.models.policy import SequencePolicy


class LSTM(SequencePolicy):
    """One LSTM layer with a forget gate, and a linear output layer.

    The hidden state is the layer's last output and its cell state, concatenated. The forget gate's
    bias is initialised to 1, so that gradients reach far back in time from the start.

    Args:
        input_dim: Number of inputs, ``I``.
        output_dim: Number of outputs, ``O``.
        hidden_dim: Number of units; the hidden state has ``S = 2 * hidden_dim``.

    References:
        Gers et al. 2000, "Learning to Forget: Continual Prediction with LSTM", section 3;
        Jozefowicz et al. 2015, "An Empirical Exploration of Recurrent Network Architectures",
        section 2.2 (the forget gate's bias).
    """

    def __init__(self, input_dim: int, output_dim: int, hidden_dim: int = 128) -> None:
        super().__init__()
        self.input_dim, self.output_dim, self.state_dim = input_dim, output_dim, 2 * hidden_dim
        self.hidden_dim = hidden_dim
        # Rows of both layers: input gate, forget gate, output gate, candidate.
        self.input_layer = nn.Linear(input_dim, 4 * hidden_dim)
        self.hidden_layer = nn.Linear(hidden_dim, 4 * hidden_dim)
        self.head = nn.Linear(hidden_dim, output_dim)
        for layer in (self.input_layer, self.hidden_layer, self.head):
            nn.init.zeros_(layer.bias)
        for layer in (self.input_layer, self.hidden_layer):
            # Not orthogonal: the rounding of its factorisation depends on the number of threads.
            for rows in layer.weight.data.split(hidden_dim):
                nn.init.xavier_uniform_(rows)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.ones_(self.input_layer.bias.data[hidden_dim : 2 * hidden_dim])

    def step(
        self, x: Float[Tensor, "B I"], hidden: Float[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B O"], Float[Tensor, "B S"]]:
        """Process one time step."""
        output, cell = hidden.chunk(2, dim=-1)
        output, cell = self._gate(self.input_layer(x) + self.hidden_layer(output), cell)
        return self.head(output), torch.cat([output, cell], dim=-1)

    def scan(
        self,
        x: Float[Tensor, "B T I"],
        hidden: Float[Tensor, "B S"],
        first: Bool[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T O"], Float[Tensor, "B S"]]:
        """Process whole sequences, step by step."""
        # Unbound, because the gradient of indexing is a tensor of the whole sequence's length.
        drives = (self.input_layer(x) + self.hidden_layer.bias).unbind(1)
        keeps = (~first).to(x.dtype).unsqueeze(-1).unbind(1)
        weight = self.hidden_layer.weight.mT
        output, cell = hidden.chunk(2, dim=-1)
        outputs = []
        for drive, keep in zip(drives, keeps, strict=True):
            output, cell = self._gate(torch.addmm(drive, keep * output, weight), keep * cell)
            outputs.append(output)
        return self.head(torch.stack(outputs, dim=1)), torch.cat([output, cell], dim=-1)

    def _gate(
        self, drive: Float[Tensor, "B four_H"], cell: Float[Tensor, "B H"]
    ) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]:
        """The layer's output and its next cell state."""
        gates, candidate = drive.split([3 * self.hidden_dim, self.hidden_dim], dim=-1)
        write, keep, read = sigmoid(gates).chunk(3, dim=-1)
        cell = torch.addcmul(keep * cell, write, candidate.tanh())
        return read * cell.tanh(), cell
