"""What to say when a device has no room left: what was wanted, what there is, what to lower."""

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
    """The device has no room; the message says what to lower."""


@contextmanager
def device_memory(config: TrainConfig) -> Iterator[None]:
    """Say in one line that the device, or this machine, has no room for a training.

    Args:
        config: What is trained; its knobs are named.

    Raises:
        DeviceMemoryError: In place of torch's, NumPy's or Python's own error.
    """
    try:
        yield
    except DeviceMemoryError:
        raise
    except (MemoryError, RuntimeError) as error:  # torch's own, or one that a library reports
        text = str(error)
        is_own = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not is_own and not _IS_FULL.search(text):
            raise
        raise DeviceMemoryError(memory_message(text, config)) from error


def memory_message(text: str, config: TrainConfig) -> str:
    """One line of torch's many.

    Args:
        text: What torch's error says.
        config: What is trained.

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
        f"out of memory{where}: {what}; lower {', '.join(knobs[:-1])} or {knobs[-1]}, or have less "
        f"at work{' at once' if is_host else where}"
    )


def free_bytes(device: torch.device) -> int:
    """What a CUDA device could still hand out [bytes]; asking it takes some of it."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def release(device: torch.device) -> None:
    """Give back what nothing holds any more, for what is made next on the same device."""
    if device.type == "cuda":
        gc.collect()  # a captured graph and its tensors hold each other
        torch.cuda.empty_cache()
