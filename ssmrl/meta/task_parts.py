"""How many tasks of a meta-batch are in memory at once: as many as the device has room for."""

from collections.abc import Iterator

from ssmrl.device_memory import free_bytes
from ssmrl.models.actor import GaussianActor

ROWS_AT_ONCE = 8_000
"""Steps of sequences whose graph is held in memory together: more fall out of a CPU's cache."""

_SHARE = 0.5  # of the free memory; torch's own blocks do not fit each other without gaps
_COPIES = 9  # measured: 3 to 4 for MLP and SSM, 5 to 6 for GRU and LSTM, 8.4 for Transformer


def graph_bytes(actor: GaussianActor, num_inner_steps: int) -> int:
    """At most so much the graph of a meta-gradient holds of each row [bytes].

    What is held is counted in inputs and outputs of the weights and scores of attention, of every
    adaptation step and of the query; the tests count what torch really has alive.

    Args:
        actor: The policy.
        num_inner_steps: Adaptation steps that the meta-gradient goes through.
    """
    weights = [value for value in actor.parameters() if value.ndim > 1]
    width = sum(sum(value.shape) for value in weights) + actor.policy.num_scores
    return _COPIES * weights[0].element_size() * width * (num_inner_steps + 1)


def rows_at_once(actor: GaussianActor, num_inner_steps: int, free: int | None = None) -> int:
    """Steps of sequences whose graph should be in memory together.

    On a CPU as many as fit its cache. On a GPU, where each operation costs a launch whatever its
    size, as many as fit half of the free memory, as a power of two: so that it is the same again
    although a little less is free.

    Args:
        actor: The policy, on the device.
        num_inner_steps: Adaptation steps that the meta-gradient goes through.
        free: Of the device's memory [bytes]; by default what it says.
    """
    device = next(actor.parameters()).device
    if free is None:
        if device.type != "cuda":
            return ROWS_AT_ONCE
        free = free_bytes(device)
    fitting = int(_SHARE * free) // graph_bytes(actor, num_inner_steps)
    return 1 << max(fitting, 1).bit_length() - 1


def tasks_at_once(rows_per_task: int, rows: int | None = None) -> int:
    """How many tasks should be in memory together, at least one.

    Args:
        rows_per_task: Steps of all sequences of a task, ``B * T``.
        rows: As ``rows_at_once`` has it; by default a CPU's.
    """
    return max(1, (ROWS_AT_ONCE if rows is None else rows) // rows_per_task)


def task_parts(num_tasks: int, rows_per_task: int, rows: int | None = None) -> Iterator[slice]:
    """Cut a meta-batch into parts whose graphs fit, each of at least one task.

    Args:
        num_tasks: ``N``.
        rows_per_task: Steps of all sequences of a task, ``B * T``.
        rows: As ``rows_at_once`` has it; by default a CPU's.

    Example:
        >>> [(part.start, part.stop) for part in task_parts(5, ROWS_AT_ONCE // 2)]
        [(0, 2), (2, 4), (4, 5)]
    """
    size = tasks_at_once(rows_per_task, rows)
    for low in range(0, num_tasks, size):
        yield slice(low, min(low + size, num_tasks))
