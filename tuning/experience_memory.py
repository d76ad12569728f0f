"""What trials keep of their experience, and whether the memory holds it."""

from pathlib import Path

from ssmrl.config import TrainConfig

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_SIZE_KNOB = "meta.replay_env_steps"


class TooLittleMemoryError(ValueError):
    """The replays of the trials need more than there is; the message does the sum."""


def replay_need(config: TrainConfig) -> int:
    """What a run keeps of its experience, at most; 0 where each experience is used once [bytes].

    Raises:
        ValueError: If the replay is too small to learn from.
    """
    if _SIZE_KNOB not in config.knobs():
        return 0
    from ssmrl.context.replay import replay_bytes  # torch, which --help need not wait for

    return replay_bytes(config)


def available_bytes() -> int | None:
    """Memory that this machine, or this container, could still hand out; None if it does not say.

    Swap is left out: a replay in it would stop the training.
    """
    free = [_meminfo(), _left_in_group()]
    known = [amount for amount in free if amount is not None]
    return min(known, default=None)


def check_replays(
    config: TrainConfig, num_runs: int, available: int | None, *, num_seeds: int = 1
) -> None:
    """See that the replays of all runs at work at once fit.

    Args:
        config: Of each run.
        num_runs: Trials at once.
        available: What there is; None if that is not known [bytes].
        num_seeds: Runs of a trial, which train side by side.

    Raises:
        TooLittleMemoryError: If they do not.
    """
    one = replay_need(config)
    needed = one * num_runs * num_seeds
    if available is not None and needed > available:
        raise TooLittleMemoryError(
            f"the replays need {num_runs} trials x {num_seeds} seeds x {one / 1e9:.3g} GB = "
            f"{needed / 1e9:.3g} GB, but {available / 1e9:.3g} GB of memory are available; lower "
            f"`{_SIZE_KNOB}` in a space file's `base`, `--max-concurrent` or `--seeds-per-trial`"
        )


def _meminfo() -> int | None:
    if not _MEMINFO.exists():
        return None
    lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
    amount = lines.get("MemAvailable", "").split()
    return int(amount[0]) * 1024 if amount else None


def _left_in_group() -> int | None:
    """Of a container's own limit, version 2 of control groups; its page cache makes room."""
    limit, used, stat = (_CGROUP / f"memory.{name}" for name in ("max", "current", "stat"))
    if not all(path.exists() for path in (limit, used, stat)):
        return None
    if (most := limit.read_text().strip()) == "max":
        return None
    cached = [line.split()[1] for line in stat.read_text().splitlines() if line[:5] == "file "]
    return max(0, int(most) - int(used.read_text()) + sum(map(int, cached)))
