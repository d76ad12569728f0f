"""A trial's signs of life, as its driver reads them from a file."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ssmrl.heartbeat import beat
from tuning import pulse
from tuning.pulse import Pulse, Sign


def test_beats_of_the_process_are_written_and_the_file_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "_SECONDS_BETWEEN", 0.0)
    path = tmp_path / "pulses" / "t0003"
    shown = Pulse(path)
    first = Sign.read(path)
    assert first is not None
    assert (first.beats, first.pid) == (0, os.getpid())
    for _ in range(3):
        beat()
    assert Sign.read(path) == first._replace(beats=3)
    shown.close()
    assert not path.exists()
    beat()
    assert not path.exists()


def test_beats_in_quick_succession_are_not_all_written(tmp_path: Path) -> None:
    shown = Pulse(tmp_path / "a")
    for _ in range(1000):
        beat()
    sign = Sign.read(tmp_path / "a")
    assert sign is not None
    assert sign.beats < 100
    shown.close()


@pytest.mark.parametrize("text", ["", "3", "3 x y", "3 4 5 6"])
def test_half_a_file_is_no_sign(text: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(text)
    assert Sign.read(tmp_path / "a") is None
    assert Sign.read(tmp_path / "b") is None


def test_a_process_that_computes_is_told_from_one_that_sleeps() -> None:
    host = os.uname().nodename
    for work, computes in (("while True: pass", True), ("import time; time.sleep(60)", False)):
        process = subprocess.Popen([sys.executable, "-c", work])
        try:
            sign = Sign(1, process.pid, host)
            time.sleep(0.3)  # its own start
            before = sign.cpu_seconds()
            deadline = time.monotonic() + (20.0 if computes else 0.5)
            while time.monotonic() < deadline and not (now := sign.cpu_seconds() or 0.0) > (
                (before or 0.0) + 0.1
            ):
                time.sleep(0.05)
            assert (now > (before or 0.0) + 0.1) is computes
        finally:
            process.kill()
            process.wait()
    assert sign.cpu_seconds() is None, "it is gone"
    assert Sign(1, os.getpid(), "elsewhere").cpu_seconds() is None
