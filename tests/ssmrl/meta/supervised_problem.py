"""Small models and random supervised tasks for the tests of MAML."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssmrl.meta.supervised import SupervisedTask
from ssmrl.models.mlp import MLP
from ssmrl.models.ssm import SSM

I, O, B, T, N = 3, 2, 4, 5, 3


MODELS: dict[str, Callable[[], nn.Module]] = {
    "ssm": lambda: SSM(4, I, O, hidden_dim=4),
    "mlp": lambda: MLP(I, O, hidden_dim=5),
    "plain": lambda: nn.Sequential(nn.Linear(I, 5), nn.Tanh(), nn.Linear(5, O)),
}


def make_model(name: str = "ssm", seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MODELS[name]().double()


def make_tasks(seed: int = 0, num_tasks: int = N, num_steps: int = T) -> list[SupervisedTask]:
    """Support and query batches of different sizes."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).double()

    return [
        (draw(B, num_steps, I), draw(B, num_steps, O), draw(B + 1, 2, I), draw(B + 1, 2, O))
        for _ in range(num_tasks)
    ]


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in tensors])
