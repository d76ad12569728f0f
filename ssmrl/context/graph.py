"""Device graphs: a function of tensors is captured once and then replayed."""

import warnings
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

Function: TypeAlias = Callable[..., tuple[Tensor, ...]]
"""A function of tensors. It may change other tensors, but must not read a tensor's value."""

NUM_REHEARSALS = 3
"""Calls before the capture, so that optimiser moments and library workspaces exist."""


@runtime_checkable
class Graphs(Protocol):
    """A device's way to capture work and replay it."""

    def rehearse(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Run the work as a warm-up, under the conditions of the capture."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture the work without running it.

        Returns:
            Function that replays the work on the captured tensors.

        Raises:
            RuntimeError: If part of the work cannot be captured.
        """
        ...


class CudaGraphs:
    """Graphs of a CUDA device, captured and warmed up on a separate stream.

    Args:
        device: CUDA device.

    References:
        PyTorch notes, "CUDA semantics", section "CUDA Graphs": reasons for the stream and the
        warm-up.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def rehearse(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Run the work on the capture stream."""
        present = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(present)
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            # A capturable optimiser warns when it runs uncaptured, as intended in this warm-up.
            warnings.filterwarnings("ignore", message=".*capturable=True")
            found = work()
        present.wait_stream(self._stream)
        return found

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture the work as a ``torch.cuda.CUDAGraph``."""
        with torch.cuda.device(self._device):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                work()
        return graph.replay


def graphs_of(device: torch.device) -> Graphs | None:
    """Graph capture of the device; None if it has none, as on a CPU."""
    return CudaGraphs(device) if device.type == "cuda" else None


def those_captured(**updates: "Captured | None") -> dict[str, "Captured"]:
    """The captured updates by name; updates without a capture are left out."""
    return {name: each for name, each in updates.items() if each is not None}


class Captured:
    """A function of tensors that runs normally a few times, is captured, and then replayed.

    A replay also changes the function's other tensors, such as weights and moments, at their
    addresses during the capture. Call ``forget`` after replacing such a tensor. If the capture
    fails, a warning is issued once and the function runs normally from then on.

    Args:
        function: Function that returns tensors without gradients; the arguments' shapes determine
            theirs.
        graphs: Graph capture of the device.
        name: Description of the function for the warning.

    Attributes:
        num_calls: Number of calls.
        num_replays: Number of calls that were replays.
    """

    def __init__(self, function: Function, graphs: Graphs, name: str) -> None:
        self._function, self._graphs, self._name = function, graphs, name
        self._is_refused = False
        self.num_calls = self.num_replays = 0
        self.forget()

    def forget(self) -> None:
        """Drop the capture; the next calls warm up and capture again."""
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: tuple[Tensor, ...] = ()
        self._num_rehearsals = 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the function's value; the next call overwrites the same tensors.

        Args:
            inputs: Arguments; a new shape, dtype or device causes a new capture.
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
                    f"{self._name} cannot be captured as a graph and runs without it, more slowly: "
                    f"{reason}",
                    stacklevel=2,
                )
                return self._function(*inputs)
        self._replay()
        self.num_replays += 1
        return self._outputs

    def _work(self) -> None:
        """Run the function from the fixed input tensors into the fixed output tensors."""
        found = self._function(*self._inputs)
        for kept, value in zip(self._outputs, found, strict=True):
            kept.copy_(value)


def _kinds(tensors: tuple[Tensor, ...]) -> list[tuple[Any, ...]]:
    return [(value.shape, value.dtype, value.device) for value in tensors]
