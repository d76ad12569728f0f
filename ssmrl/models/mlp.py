"""A multilayer perceptron: the baseline without memory."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from ssmrl.models.policy import SequencePolicy


class MLP(SequencePolicy):
    """Two hidden layers of tanh units, applied to each step separately.

    Args:
        input_dim: Number of inputs, ``I``.
        output_dim: Number of outputs, ``O``.
        hidden_dim: Width of both hidden layers.
    """

    def __init__(self, input_dim: int, output_dim: int, hidden_dim: int = 64) -> None:
        super().__init__()
        self.input_dim, self.output_dim, self.state_dim = input_dim, output_dim, 0
        first, second = nn.Linear(input_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)
        self.layers = nn.Sequential(first, nn.Tanh(), second, nn.Tanh())
        self.head = nn.Linear(hidden_dim, output_dim)
        for layer in (first, second, self.head):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def step(
        self, x: Float[Tensor, "B I"], hidden: Float[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B O"], Float[Tensor, "B S"]]:
        """Process one time step; the hidden state has size 0."""
        output: Tensor = self.head(self.layers(x))
        return output, hidden

    def scan(
        self,
        x: Float[Tensor, "B T I"],
        hidden: Float[Tensor, "B S"],
        first: Bool[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T O"], Float[Tensor, "B S"]]:
        """Process whole sequences; there is no hidden state to reset."""
        output: Tensor = self.head(self.layers(x))
        return output, hidden
