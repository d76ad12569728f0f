"""A gated recurrent unit (GRU) as a sequence policy that is twice differentiable.

Not ``nn.GRU``, whose fused kernels have no second derivative under ``vmap``.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssmrl.models.activations import sigmoid
from ssmrl.models.policy import SequencePolicy


class GRU(SequencePolicy):
    """One GRU layer, and a linear output layer on its hidden state.

    Args:
        input_dim: Number of inputs, ``I``.
        output_dim: Number of outputs, ``O``.
        hidden_dim: Number of units; the hidden state has ``S = hidden_dim``.

    References:
        Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder", equations 5
        to 8. The reset gate acts after the recurrent product, as in the usual code, and not before
        it as in equation 8, so that one product serves all gates.
    """

    def __init__(self, input_dim: int, output_dim: int, hidden_dim: int = 128) -> None:
        super().__init__()
        self.input_dim, self.output_dim, self.state_dim = input_dim, output_dim, hidden_dim
        # Rows of both layers: reset gate, update gate, candidate.
        self.input_layer = nn.Linear(input_dim, 3 * hidden_dim)
        self.hidden_layer = nn.Linear(hidden_dim, 3 * hidden_dim)
        self.head = nn.Linear(hidden_dim, output_dim)
        for layer in (self.input_layer, self.hidden_layer, self.head):
            nn.init.zeros_(layer.bias)
        for layer in (self.input_layer, self.hidden_layer):
            # Not orthogonal: the rounding of its factorisation depends on the number of threads.
            for rows in layer.weight.data.split(hidden_dim):
                nn.init.xavier_uniform_(rows)
        nn.init.xavier_uniform_(self.head.weight)

    def step(
        self, x: Float[Tensor, "B I"], hidden: Float[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B O"], Float[Tensor, "B S"]]:
        """Process one time step."""
        gate, candidate = self.input_layer(x).split([2 * self.state_dim, self.state_dim], dim=-1)
        hidden = self._gate(gate, candidate, self.hidden_layer(hidden), hidden)
        return self.head(hidden), hidden

    def scan(
        self,
        x: Float[Tensor, "B T I"],
        hidden: Float[Tensor, "B S"],
        first: Bool[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T O"], Float[Tensor, "B S"]]:
        """Process whole sequences, step by step."""
        # Unbound, because the gradient of indexing is a tensor of the whole sequence's length.
        gates, candidates = self.input_layer(x).split([2 * self.state_dim, self.state_dim], dim=-1)
        keeps = (~first).to(x.dtype).unsqueeze(-1).unbind(1)
        weight, bias = self.hidden_layer.weight.mT, self.hidden_layer.bias
        outputs = []
        for gate, candidate, keep in zip(gates.unbind(1), candidates.unbind(1), keeps, strict=True):
            kept = keep * hidden
            hidden = self._gate(gate, candidate, torch.addmm(bias, kept, weight), kept)
            outputs.append(hidden)
        return self.head(torch.stack(outputs, dim=1)), hidden

    def _gate(
        self,
        gate: Float[Tensor, "B two_S"],
        candidate: Float[Tensor, "B S"],
        recurrent: Float[Tensor, "B three_S"],
        hidden: Float[Tensor, "B S"],
    ) -> Float[Tensor, "B S"]:
        """The next hidden state, interpolated between the candidate and the last one."""
        recurrent_gate, recurrent_candidate = recurrent.split(
            [2 * self.state_dim, self.state_dim], dim=-1
        )
        reset, update = sigmoid(gate + recurrent_gate).chunk(2, dim=-1)
        new = torch.addcmul(candidate, reset, recurrent_candidate).tanh()
        return torch.addcmul(new, update, hidden - new)
