"""A function of tensors that a device captures once and replays; not what it computes."""

import warnings
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

Function: TypeAlias = Callable[..., tuple[Tensor, ...]]
"""Of tensors, with whatever effects on others; no step of it reads a tensor's value."""

NUM_REHEARSALS = 3
"""Calls before the capture: by then optimisers have their moments, and libraries their workspaces.
"""


@runtime_checkable
class Graphs(Protocol):
    """How a device takes work down and does it again."""

    def rehearse(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Do it, under the circumstances in which it will be captured."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Take it down without doing it.

        Returns:
            What does it, on the tensors of the capture.

        Raises:
            RuntimeError: If a step of it cannot be captured.
        """
        ...


class CudaGraphs:
    """Graphs of a CUDA device, captured and rehearsed on a stream of their own.

    Args:
        device: Of CUDA.

    References:
        "CUDA semantics", section "CUDA Graphs", of PyTorch's notes: why the stream, and why the
        rehearsals.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def rehearse(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Do it on the stream of the captures."""
        present = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(present)
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            # An optimiser that can be captured warns where it is not; this is only the rehearsal.
            warnings.filterwarnings("ignore", message=".*capturable=True")
            found = work()
        present.wait_stream(self._stream)
        return found

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """As a ``torch.cuda.CUDAGraph``."""
        with torch.cuda.device(self._device):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                work()
        return graph.replay


def graphs_of(device: torch.device) -> Graphs | None:
    """The device's own way to capture work; None where there is none, as on a CPU."""
    return CudaGraphs(device) if device.type == "cuda" else None


def those_captured(**updates: "Captured | None") -> dict[str, "Captured"]:
    """By name the updates that are captured on their device; none where it captures nothing."""
    return {name: each for name, each in updates.items() if each is not None}


class Captured:
    """A function of tensors, called as it is a few times, then captured, then replayed.

    What the function moves beside its arguments, such as weights and moments, it moves in a replay
    too, where they were at the capture: whoever puts other tensors in their place calls ``forget``.
    If it cannot be captured, that is said once, and it goes on as it is.

    Args:
        function: Gives tensors without gradients, whose shapes depend on those of its arguments.
        graphs: How it is captured.
        name: What the function does, for the warning.

    Attributes:
        num_calls: How often it was called.
        num_replays: How many of these were replays.
    """

    def __init__(self, function: Function, graphs: Graphs, name: str) -> None:
        self._function, self._graphs, self._name = function, graphs, name
        self._is_refused = False
        self.num_calls = self.num_replays = 0
        self.forget()

    def forget(self) -> None:
        """Capture anew, after rehearsals, at the next calls."""
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: tuple[Tensor, ...] = ()
        self._num_rehearsals = 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The function's value; the next call writes into the same tensors.

        Args:
            inputs: Of the same shapes and types as ever, or all is captured anew.
        """
        self.num_calls += 1
        if self._is_refused:
            return self._function(*inputs)
        if _kinds(inputs) != _kinds(self._inputs):
            self.forget()
            self._inputs = tuple(value.clone() for value in inputs)
        else:
            for kept, value in zip(self._inputs, inputs, strict=True):
                kept.copy_(value)
        if self._replay is None and self._num_rehearsals < NUM_REHEARSALS:
            self._num_rehearsals += 1
            found = self._graphs.rehearse(lambda: self._function(*self._inputs))
            self._outputs = tuple(torch.empty_like(value) for value in found)
            return found
        if self._replay is None:
            try:
                self._replay = self._graphs.capture(self._work)
            except RuntimeError as error:
                self._is_refused = True
                reason = str(error).strip().partition("\n")[0]
                warnings.warn(
                    f"{self._name} cannot be captured as a graph and goes on without, more slowly: "
                    f"{reason}",
                    stacklevel=2,
                )
                return self._function(*inputs)
        self._replay()
        self.num_replays += 1
        return self._outputs

    def _work(self) -> None:
        """The function on tensors that stay where they are."""
        found = self._function(*self._inputs)
        for kept, value in zip(self._outputs, found, strict=True):
            kept.copy_(value)


def _kinds(tensors: tuple[Tensor, ...]) -> list[tuple[Any, ...]]:
    return [(value.shape, value.dtype, value.device) for value in tensors]
