"""Networks of equal shape side by side, and the squashed Gaussian that an actor's output means."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

LOG_STD_RANGE = (-5.0, 2.0)


class ParallelMLP(nn.Module):
    """``K`` perceptrons with the same input, each layer of all of them one batched product.

    Two hidden layers of rectified units, normalised over the layer before they are rectified; the
    normalisation has no parameters of its own, since the next layer's weights can do what these
    would.

    Args:
        num_networks: ``K``.
        input_dim: ``I``.
        hidden_dim: Width of both hidden layers, ``H``.
        output_dim: ``O``.
        generator: Where the initial weights come from.

    References:
        Ba et al. 2016, "Layer Normalization"; Fu et al. 2025, "Compute-Optimal Scaling for
        Value-Based Deep RL", and Nauman et al. 2024, "Bigger, Regularized, Optimistic", for
        normalised critics.
    """

    def __init__(
        self,
        num_networks: int,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths = (input_dim, hidden_dim, hidden_dim, output_dim)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in zip(widths, widths[1:], strict=False):
            bound = 1.0 / math.sqrt(fan_in)
            uniform = torch.rand(num_networks, fan_in, fan_out, generator=generator)
            self.weights.append(nn.Parameter(bound * (2.0 * uniform - 1.0)))
            self.biases.append(nn.Parameter(torch.zeros(num_networks, 1, fan_out)))

    def forward(self, x: Float[Tensor, "M I"]) -> Float[Tensor, "K M O"]:
        """Apply every network to every row."""
        hidden = x.expand(len(self.weights[0]), *x.shape)
        last = len(self.weights) - 1
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if depth < last:
                hidden = functional.relu(functional.layer_norm(hidden, hidden.shape[-1:]))
        return hidden
