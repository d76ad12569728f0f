"""A sequence layer of width 128, forward and backward, against the fused layers of torch."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from experiments.benchmarks.harness import Measured, Row, Settings, interleaved_seconds
from ssmrl.models.recurrence import recurrence
from ssmrl.models.ssm import StateSpaceModel

BATCH_SIZE, NUM_STEPS, WIDTH = 64, 200, 128
Play: TypeAlias = Callable[[], None]
TARGETS = {"nn.LSTM": 5.0, "nn.GRU": 4.0}


class BareLayer(nn.Module):
    """Drive, diagonal recurrence and readout: the counterpart of an ``nn.LSTM``.

    It is the state space of ``StateSpaceModel`` without the layers around it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.drive = nn.Linear(width, width, bias=False)
        self.readout = nn.Linear(width, width, bias=False)
        self.log_rate = nn.Parameter(torch.linspace(-6.0, -2.0, width // 2))
        self.angle = nn.Parameter(torch.linspace(0.0, 3.0, width // 2))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, T, width)`` to the same shape."""
        size = torch.exp(-torch.exp(self.log_rate))
        pair = [size * torch.cos(self.angle), size * torch.sin(self.angle)]
        decay = torch.stack(pair, dim=-1).flatten()
        initial = x.new_zeros(x.shape[0], self.drive.out_features)
        first = torch.zeros(x.shape[:2], dtype=torch.bool)
        output: Tensor = self.readout(recurrence(decay, self.drive(x), initial, first))
        return output


def measure(settings: Settings) -> Measured:
    """Three comparisons, each named by its parts; the first compares equal work."""
    torch.manual_seed(0)
    steps = 20 if settings.quick else NUM_STEPS
    x = torch.randn(BATCH_SIZE, steps, WIDTH)
    rows = []
    cases: tuple[tuple[str, Play, dict[str, Play], dict[str, float]], ...] = (
        (
            "layer 128 -> 128 (drive, recurrence, readout)",
            _layer(BareLayer(WIDTH), x),
            {name: _fused(name, x, head=False) for name in TARGETS},
            TARGETS,
        ),
        (
            "bare recurrence of 128 reals",
            _bare(x),
            {name: _fused(name, x, head=False) for name in TARGETS},
            {},
        ),
        (
            "whole state space policy",
            _layer(StateSpaceModel(WIDTH, WIDTH, WIDTH, WIDTH), x),
            {f"{name} + Linear": _fused(name, x, head=True) for name in TARGETS},
            {},
        ),
    )
    for what, ours, peers, targets in cases:
        seconds = interleaved_seconds({"ours": ours, **peers}, settings.repeats, num_warmups=2)
        for name in peers:
            rows.append(
                Row(
                    f"{what} against {name}, forward and backward",
                    seconds[name] / seconds["ours"],
                    target=targets.get(name),
                    note=f"{1e3 * seconds['ours']:.1f} against {1e3 * seconds[name]:.1f} ms; "
                    f"B={BATCH_SIZE}, T={steps}, width {WIDTH}",
                )
            )
    return Measured(rows)


def _layer(module: nn.Module, x: Tensor) -> Play:
    """A call of a module forward and backward, with gradients for its input, too."""
    inputs = x.clone().requires_grad_()

    def play() -> None:
        result = module(inputs)
        output = result[0] if isinstance(result, tuple) else result
        torch.autograd.grad(output.square().mean(), [inputs, *module.parameters()])

    return play


def _fused(name: str, x: Tensor, *, head: bool) -> Play:
    kind = {"nn.LSTM": nn.LSTM, "nn.GRU": nn.GRU}[name]
    module = kind(WIDTH, WIDTH, batch_first=True)
    return _layer(_WithHead(module, nn.Linear(WIDTH, WIDTH)) if head else module, x)


class _WithHead(nn.Module):
    """A recurrent layer of torch and a dense layer on its output."""

    def __init__(self, layer: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, head

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.layer(x)[0])
        return output


def _bare(x: Tensor) -> Play:
    decay = torch.full((WIDTH,), 0.5, requires_grad=True)
    drive = x.clone().requires_grad_()
    initial = x.new_zeros(BATCH_SIZE, WIDTH)
    first = torch.zeros(x.shape[:2], dtype=torch.bool)

    def play() -> None:
        states = recurrence(decay, drive, initial, first)
        torch.autograd.grad(states.square().mean(), [decay, drive])

    return play
