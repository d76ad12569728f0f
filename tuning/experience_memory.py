"""How much memory the replay buffers of trials take, and whether it is available."""

from pathlib import Path

from ssmrl.config import TrainConfig

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_SIZE_KNOB = "meta.replay_env_steps"


class TooLittleMemoryError(ValueError):
    """The replay buffers need more memory than there is; the message shows the sum."""


def replay_need(config: TrainConfig) -> int:
    """Largest size of a run's replay buffer [bytes]; 0 if the algorithm has none.

    Raises:
        ValueError: If the replay buffer is too small to learn from.
    """
    if _SIZE_KNOB not in config.knobs():
        return 0
    from ssmrl.context.replay import replay_bytes  # torch, which --help need not wait for

    return replay_bytes(config)


def available_bytes() -> int | None:
    """Free memory of this machine or this container [bytes]; None if unknown.

    Swap does not count: training with a replay buffer in it would come to a halt.
    """
    free = [_meminfo(), _left_in_group()]
    known = [amount for amount in free if amount is not None]
    return min(known, default=None)


def check_replays(
    config: TrainConfig, num_runs: int, available: int | None, *, num_seeds: int = 1
) -> None:
    """Check that the replay buffers of all concurrent runs fit the memory.

    Args:
        config: Configuration of each run.
        num_runs: Number of concurrent trials.
        available: Available memory [bytes]; None if unknown.
        num_seeds: Runs of a trial, which train side by side.

    Raises:
        TooLittleMemoryError: If they do not fit.
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
    """Memory left under a container's limit (cgroup v2); its page cache counts as free."""
    limit, used, stat = (_CGROUP / f"memory.{name}" for name in ("max", "current", "stat"))
    if not all(path.exists() for path in (limit, used, stat)):
        return None
    if (most := limit.read_text().strip()) == "max":
        return None
    cached = [line.split()[1] for line in stat.read_text().splitlines() if line[:5] == "file "]
    return max(0, int(most) - int(used.read_text()) + sum(map(int, cached)))
