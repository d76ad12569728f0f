"""How many rows of a meta-batch are in memory at once, against what torch really has alive."""

import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from ssmrl.config import METHODS
from ssmrl.meta.learner import MetaLearner
from ssmrl.meta.task_parts import ROWS_AT_ONCE, graph_bytes, rows_at_once
from tests.ssmrl.meta.random_trajectory import B, N, T, random_batch, tiny_actor, tiny_config

GIB = 2**30


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, and remembers the most."""

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[int, int] = {}
        self._bytes = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._held:
                    self._held[storage._cdata] = storage.nbytes()
                    self._bytes += storage.nbytes()
                    weakref.finalize(storage, self._forget, storage._cdata)
        self.peak = max(self.peak, self._bytes)
        return made

    def _forget(self, storage: int) -> None:
        self._bytes -= self._held.pop(storage)


@pytest.mark.parametrize(
    ("algorithm", "num_inner_steps", "method"),
    [("promp", steps, method) for steps in (1, 2) for method in METHODS]
    + [("maml-trpo", 1, "mlp"), ("maml-trpo", 1, "ssm")],
)
def test_a_graph_holds_no_more_than_is_counted_and_not_much_less(
    algorithm: str, num_inner_steps: int, method: str
) -> None:
    actor = tiny_actor(method)
    learner = MetaLearner(actor, tiny_config(algorithm))
    batch = random_batch(actor, num_inner_steps)
    with Alive() as alive:
        learner.update(*batch)
    counted = graph_bytes(actor, num_inner_steps) * N * B * T
    assert counted / 6 < alive.peak <= counted


@pytest.mark.parametrize("method", METHODS)
def test_the_rows_fit_half_of_the_free_memory_and_do_not_change_with_a_little_of_it(
    method: str,
) -> None:
    actor = tiny_actor(method)
    rows = [rows_at_once(actor, 1, free=size * GIB) for size in (1, 8, 80)]
    for size, own in zip((1, 8, 80), rows, strict=True):
        assert own * graph_bytes(actor, 1) <= size * GIB / 2 < 2 * own * graph_bytes(actor, 1)
    assert rows == sorted(set(rows))
    fitting = 2 * rows[1] * graph_bytes(actor, 1)
    assert {rows_at_once(actor, 1, free=int(fitting * part)) for part in (1.0, 1.5, 1.9)} == {
        rows[1]
    }
    assert rows_at_once(actor, 1, free=0) == 1, "one task is always tried"


def test_on_a_cpu_they_fit_its_cache() -> None:
    assert rows_at_once(tiny_actor("mlp"), 3) == ROWS_AT_ONCE
