"""Splitting of a meta-batch into parts of as many tasks as fit the device's memory."""

from collections.abc import Iterator

from ssmrl.device_memory import free_bytes
from ssmrl.models.actor import GaussianActor

ROWS_AT_ONCE = 8_000
"""Sequence steps whose graph is in memory at once on a CPU; more would not fit its cache."""

_SHARE = 0.5  # share of the free memory to use; torch's allocator leaves gaps between blocks
_COPIES = 9  # upper bound; measured: 3-4 for MLP, SSM; 5-6 for GRU, LSTM; 8.4 for Transformer


def graph_bytes(actor: GaussianActor, num_inner_steps: int) -> int:
    """Upper bound on the memory of a meta-gradient's graph per row (sequence step) [bytes].

    The bound counts inputs and outputs of the weights, and attention scores, for every adaptation
    step and the query. Tests compare it with the tensors that torch really keeps.

    Args:
        actor: The policy.
        num_inner_steps: Adaptation steps that the meta-gradient goes through.
    """
    weights = [value for value in actor.parameters() if value.ndim > 1]
    width = sum(sum(value.shape) for value in weights) + actor.policy.num_scores
    return _COPIES * weights[0].element_size() * width * (num_inner_steps + 1)


def rows_at_once(actor: GaussianActor, num_inner_steps: int, free: int | None = None) -> int:
    """Number of sequence steps whose graph should be in memory at once.

    On a CPU this is what fits its cache. On a GPU, where each operation costs a kernel launch
    whatever its size, it is what fits half of the free memory. It is rounded down to a power of
    two, so that small changes of the free memory do not change it.

    Args:
        actor: The policy, on its device.
        num_inner_steps: Adaptation steps that the meta-gradient goes through.
        free: Free memory of the device [bytes]; queried by default.
    """
    device = next(actor.parameters()).device
    if free is None:
        if device.type != "cuda":
            return ROWS_AT_ONCE
        free = free_bytes(device)
    fitting = int(_SHARE * free) // graph_bytes(actor, num_inner_steps)
    return 1 << max(fitting, 1).bit_length() - 1


def tasks_at_once(rows_per_task: int, rows: int | None = None) -> int:
    """Number of tasks that should be in memory at once, at least one.

    Args:
        rows_per_task: Steps of all sequences of a task, ``B * T``.
        rows: Result of ``rows_at_once``; by default that of a CPU.
    """
    return max(1, (ROWS_AT_ONCE if rows is None else rows) // rows_per_task)


def task_parts(num_tasks: int, rows_per_task: int, rows: int | None = None) -> Iterator[slice]:
    """Split a meta-batch into parts whose graphs fit in memory, each of at least one task.

    Args:
        num_tasks: Number of tasks, ``N``.
        rows_per_task: Steps of all sequences of a task, ``B * T``.
        rows: Result of ``rows_at_once``; by default that of a CPU.

    Example:
        >>> [(part.start, part.stop) for part in task_parts(5, ROWS_AT_ONCE // 2)]
        [(0, 2), (2, 4), (4, 5)]
    """
    size = tasks_at_once(rows_per_task, rows)
    for low in range(0, num_tasks, size):
        yield slice(low, min(low + size, num_tasks))
