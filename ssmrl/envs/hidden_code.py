"""Encodings of hidden variables for inference by a memory, so that one loss fits every family.

Like rewards, codes accept NumPy arrays and Torch tensors, with any leading axes.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ssmrl.envs.rewards import Array


class HiddenCode(ABC):
    """Hidden variables ``(..., P)`` as numbers ``(..., Z)`` in [-1, 1], and back.

    Attributes:
        dim: ``Z``.
    """

    dim: int

    @abstractmethod
    def encode(self, parameters: Array) -> Array:
        """The code of hidden variables; in [-1, 1] for all training tasks."""

    @abstractmethod
    def decode(self, code: Array) -> Array:
        """The hidden variables of a code, which may be only an estimate."""


@dataclass(frozen=True)
class RangeCode(HiddenCode):
    """Variables with one common range, such as a velocity, scaled linearly from ``[low, high]``.

    Attributes:
        low: Value encoded as -1.
        high: Value encoded as 1.
        dim: Number of variables.

    Example:
        >>> RangeCode(0.0, 3.0).encode(np.array([[0.0], [1.5], [3.0]])).tolist()
        [[-1.0], [0.0], [1.0]]

    Raises:
        ValueError: If the range is empty.
    """

    low: float
    high: float
    dim: int = 1

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"`low < high` must hold, but got {self.low=}, {self.high=}")

    def encode(self, parameters: Array) -> Array:
        """Linear, without clipping."""
        return (parameters - self.low) * (2.0 / (self.high - self.low)) - 1.0

    def decode(self, code: Array) -> Array:
        """Linear, without clipping."""
        return self.low + (code + 1.0) * (0.5 * (self.high - self.low))


@dataclass(frozen=True)
class BoxCode(HiddenCode):
    """Variables with separate ranges, scaled linearly to [-1, 1].

    Attributes:
        low: Values encoded as -1, one per variable.
        high: Values encoded as 1.

    Example:
        >>> BoxCode((0.0, 10.0), (2.0, 20.0)).encode(np.array([[1.0, 20.0]])).tolist()
        [[0.0, 1.0]]

    Raises:
        ValueError: If ``low`` and ``high`` differ in length, or a range is empty.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        ranges = list(zip(self.low, self.high, strict=False))
        if len(self.low) != len(self.high) or not all(low < high for low, high in ranges):
            raise ValueError(
                f"`low < high` must hold for every variable, but got {self.low=}, {self.high=}"
            )

    @property
    def dim(self) -> int:  # type: ignore[override]  # one number per range
        """``Z``, which is ``P``."""
        return len(self.low)

    def encode(self, parameters: Array) -> Array:
        """Linear, without clipping."""
        low, high = _like(parameters, self.low), _like(parameters, self.high)
        return (parameters - low) * (2.0 / (high - low)) - 1.0

    def decode(self, code: Array) -> Array:
        """Linear, without clipping."""
        low, high = _like(code, self.low), _like(code, self.high)
        return low + (code + 1.0) * (0.5 * (high - low))


@dataclass(frozen=True)
class DirectionCode(HiddenCode):
    """A unit vector, unchanged; in one dimension a sign.

    Attributes:
        dim: Components of the vector.

    Example:
        >>> DirectionCode(2).decode(np.array([[0.0, 0.2], [-3.0, 0.0]])).tolist()
        [[0.0, 1.0], [-1.0, 0.0]]
    """

    dim: int

    def encode(self, parameters: Array) -> Array:
        """The vector itself."""
        return parameters

    def decode(self, code: Array) -> Array:
        """The vector of length 1 in this direction; zero, which has none, stays zero."""
        length = ((code * code).sum(-1) ** 0.5)[..., None]
        return code / (length + (length == 0.0))


@dataclass(frozen=True)
class LogCode(HiddenCode):
    """Multipliers ``base ^ e`` with ``e`` in ``[-limit, limit]``, as ``e / limit``.

    Attributes:
        base: Base of the power.
        limit: Largest exponent.
        dim: Number of multipliers.

    Example:
        >>> LogCode(1.5, 3.0, 1).encode(np.array([1.5**3])).round(12).tolist()
        [1.0]

    Raises:
        ValueError: If ``base > 1`` and ``limit > 0`` do not hold.
    """

    base: float
    limit: float
    dim: int

    def __post_init__(self) -> None:
        if not (self.base > 1.0 and self.limit > 0.0):
            raise ValueError(
                f"`base > 1` and `limit > 0` must hold, but got {self.base=}, {self.limit=}"
            )

    def encode(self, parameters: Array) -> Array:
        """Logarithms, without clipping."""
        is_array = isinstance(parameters, np.ndarray)
        logarithm = np.log(parameters) if is_array else parameters.log()
        return logarithm / (self.limit * math.log(self.base))

    def decode(self, code: Array) -> Array:
        """Powers, without clipping."""
        return self.base ** (self.limit * code)


def _like(array: Array, values: tuple[float, ...]) -> Array:
    """The values as an array of the same library, type and device."""
    return np.asarray(values) if isinstance(array, np.ndarray) else array.new_tensor(values)
