"""Activations whose rounding does not depend on a number's position in the tensor.

Not torch's ``sigmoid`` and ``gelu``: on a CPU they round the last elements of a tensor, which do
not fill a vector register, differently from the rest. A task's actions would then depend on the
number of tasks in its batch.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def sigmoid(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``1 / (1 + exp(-x))``."""
    return 0.5 + 0.5 * torch.tanh(0.5 * x)


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``x`` times the probability that a standard normal number is less than ``x``.

    References:
        Hendrycks & Gimpel 2016, "Gaussian Error Linear Units", section 2.
    """
    return x * (0.5 + 0.5 * torch.erf(math.sqrt(0.5) * x))
