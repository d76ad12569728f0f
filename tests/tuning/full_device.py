"""Trials whose device may be full; in a module of its own, which Ray's workers import."""

from typing import Any

import torch

from ssmrl.learner import Metrics
from ssmrl.meta.gradient_learner import GradientLearner
from ssmrl.rollout.play import Collect
from tuning.training import MetaTraining

# As torch 2.13 says it on a card.
FULL = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 1.20 GiB is free. Process 7 has 77.90 GiB memory in use. Of the allocated memory 70.00 "
    "GiB is allocated by PyTorch, and 1.00 GiB is reserved by PyTorch but unallocated. See "
    "documentation for Memory Management  (https://pytorch.org/docs/stable/notes/cuda.html)"
)
WIDTH = "policy.hidden_dim"
LARGE, TOO_LARGE = 48, 96
"""Widths from which on there is no room for a second iteration, and for none at all."""

_usual_init, _usual_iterate = GradientLearner.__init__, GradientLearner.iterate


class FullTraining(MetaTraining):
    """Runs out of memory by the width of the policy."""

    def _begin(self, point: dict[str, Any]) -> None:
        def init(learner: GradientLearner, *arguments: Any, **settings: Any) -> None:
            if point[WIDTH] >= TOO_LARGE:
                raise torch.OutOfMemoryError(FULL)
            _usual_init(learner, *arguments, **settings)

        def iterate(learner: GradientLearner, collect: Collect) -> Metrics:
            if point[WIDTH] >= LARGE and learner.iteration:
                raise torch.OutOfMemoryError(FULL)
            return _usual_iterate(learner, collect)

        for name, value in (("__init__", init), ("iterate", iterate)):
            setattr(GradientLearner, name, value)
        super()._begin(point)
