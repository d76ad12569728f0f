"""A full disk is waited for, said in one line, and leaves nothing half written."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ssmrl import checkpoint, disk_room
from ssmrl.checkpoint import write_tensors
from ssmrl.config import TrainConfig
from ssmrl.disk_room import wait_for_room, with_room
from ssmrl.heartbeat import listen
from ssmrl.run import TrainingRun, checkpoint_path


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(disk_room, "time", clock)
    return clock


def full(times: list[int], number: int = errno.ENOSPC) -> None:
    """Fail so many more times."""
    if times[0]:
        times[0] -= 1
        raise OSError(number, "No space left on device")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_it_goes_on_when_there_is_room_and_has_said_so_once(
    number: int, tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    left, beats = [5], list[None]()
    stop = listen(lambda: beats.append(None))
    with_room(lambda: full(left, number), tmp_path / "a" / "b")
    stop()
    assert (left, clock.now, len(beats)) == ([0], 5.0, 5), "who waits is alive"
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "a" / "b") in line
    assert "bytes are free" in line


def test_after_its_patience_it_gives_up(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(OSError, match="No space left"):
        with_room(lambda: full([1000]), tmp_path, patience_s=30.0)
    assert 30.0 < clock.now < 33.0


def test_another_error_is_not_waited_for(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(PermissionError):
        with_room(lambda: full([1000], errno.EACCES), tmp_path)
    assert clock.now == 0.0


def test_room_is_probed_and_the_probe_is_gone(tmp_path: Path) -> None:
    wait_for_room(tmp_path, 1000)
    assert not files(tmp_path)


def test_a_checkpoint_that_found_no_room_leaves_no_part_and_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": torch.ones(3)}, {})
    before = path.read_bytes()
    system = SimpleNamespace(fsync=lambda _: full([1]))
    monkeypatch.setattr(checkpoint, "os", system)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(path, {"x": torch.zeros(3)}, {})
    assert path.read_bytes() == before
    assert files(tmp_path) == {"a.safetensors"}


def test_a_run_waits_with_its_checkpoint_and_clears_what_the_dead_left(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig.for_task("point", "promp").with_knobs({"meta.num_tasks": 2})
    path, left = checkpoint_path(tmp_path, config), [3]
    at_work, dead = os.getpid(), 2**22 + 1  # Linux gives no number as high
    for name, pid in ((path.name, dead), (path.name, at_work), ("other.safetensors", dead)):
        (tmp_path / f".{name}.{pid}.part").write_text("half")
    run = TrainingRun(config, max_env_steps=10**6, folder=tmp_path)
    system = SimpleNamespace(fsync=lambda _: full(left))
    monkeypatch.setattr(checkpoint, "os", system)
    run.save()
    assert clock.now == 3.0
    assert files(tmp_path) == {path.name, f".other.safetensors.{dead}.part"}
