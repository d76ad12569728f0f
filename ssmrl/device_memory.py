"""One-line out-of-memory messages: what was requested, what is free, which knobs to lower."""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ssmrl.config import TrainConfig

_SIZE_KNOBS = (
    "meta.replay_env_steps",
    "meta.batch_size",
    "meta.inference_batch",
    "meta.num_tasks",
    "meta.num_episodes",
    "policy.hidden_dim",
    "policy.state_dim",
    "meta.actor_hidden_dim",
    "meta.critic_hidden_dim",
)
_IS_HOST = re.compile(r"DefaultCPUAllocator: can't allocate|^Unable to allocate")
_IS_FULL = re.compile(rf"^CUDA error: out of memory|_STATUS_ALLOC_FAILED|{_IS_HOST.pattern}")
_AMOUNT = r"([\d.]+ [KMGT]?i?B|[\d.]+ bytes)"
_WANTED = re.compile(rf"(?:[Tt]ried to|Unable to) allocate {_AMOUNT}")
_TOTAL = re.compile(rf"total capacity of {_AMOUNT}")
_FREE = re.compile(rf"of which {_AMOUNT} is free")


class DeviceMemoryError(RuntimeError):
    """The device or this machine is out of memory; the message says which knobs to lower."""


@contextmanager
def device_memory(config: TrainConfig) -> Iterator[None]:
    """Turn an out-of-memory error of the device, or of this machine, into a one-line message.

    Args:
        config: Configuration being trained; the message names its size knobs.

    Raises:
        DeviceMemoryError: In place of torch's, NumPy's or Python's own error.
    """
    try:
        yield
    except DeviceMemoryError:
        raise
    except (MemoryError, RuntimeError) as error:  # from torch, or a library it uses
        text = str(error)
        is_own = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not is_own and not _IS_FULL.search(text):
            raise
        raise DeviceMemoryError(memory_message(text, config)) from error


def memory_message(text: str, config: TrainConfig) -> str:
    """Summarise an out-of-memory error in one line.

    Args:
        text: Text of the error.
        config: Configuration being trained.

    Example:
        >>> said = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
        >>> said += "79.11 GiB of which 1.20 GiB is free. Process 7 has 3.00 GiB memory in use."
        >>> memory_message(said, TrainConfig.for_task("point", "promp")).partition(";")[0]
        'out of memory on the device: 2.00 GiB more were wanted, but of 79.11 GiB only 1.20 GiB are
        free'
    """
    wanted, total, free = (
        None if found is None else found[1]
        for found in (pattern.search(text) for pattern in (_WANTED, _TOTAL, _FREE))
    )
    if wanted is None:
        what = " ".join(text.split()).partition(". ")[0] or "an allocation was refused"
    elif total is None:
        what = f"{wanted} more were wanted"
    else:
        left = f"only {free} are free" if free is not None else "less is free"
        what = f"{wanted} more were wanted, but of {total} {left}"
    known = config.knobs()
    knobs = [f"`{knob}`" for knob in _SIZE_KNOBS if knob in known]
    is_host = bool(_IS_HOST.search(text)) or not text
    where = "" if is_host else " on the device"
    return (
        f"out of memory{where}: {what}; lower {', '.join(knobs[:-1])} or {knobs[-1]}, or run less"
        f"{' at once' if is_host else where}"
    )


def free_bytes(device: torch.device) -> int:
    """Free memory of a CUDA device [bytes]; the query itself takes some of it."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def release(device: torch.device) -> None:
    """Free memory that is no longer referenced, for later allocations on the same device."""
    if device.type == "cuda":
        gc.collect()  # a captured graph and its tensors reference each other
        torch.cuda.empty_cache()
