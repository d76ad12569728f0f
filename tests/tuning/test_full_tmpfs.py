"""A real sweep on a real disk that becomes full, and has room again a little later."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.private_ray import ROOT
from tests.tuning.tiny_gradient import write_space
from tuning.table.trial import TrialState, TrialTable

SIZE_MB = 24


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own in the memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs to mount a tmpfs, as root: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Take all that is left, to the last byte."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


@pytest.mark.slow
def test_a_sweep_waits_for_room_and_goes_on(disk: Path, tmp_path: Path) -> None:
    table, said = disk / "a" / "trials.jsonl", tmp_path / "said"
    flags = ["--max-env-steps", "1600", "--num-samples", "3", "--num-confirmed", "0"]
    flags += ["--scheduler", "none", "--max-concurrent", "1", "--space", str(write_space(tmp_path))]
    command = [sys.executable, "-m", "tuning.sweep", "--task", "point", "--algorithm", "promp"]
    with said.open("w") as log:
        process = subprocess.Popen(
            [*command, *flags, "--storage", str(disk), "--name", "a"],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        while not table.exists() or not table.read_bytes():
            assert process.poll() is None, said.read_text()
            time.sleep(0.05)
        kept = table.read_bytes()
        fill(disk / "filler")
        began = time.monotonic()
        while "free" not in said.read_text():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() - began < 30.0, "it says so in a line"
            time.sleep(0.05)
        waited = time.monotonic() - began
        time.sleep(2.0)
        assert process.poll() is None, said.read_text()
        (disk / "filler").unlink()
        assert process.wait(timeout=200) == 0, said.read_text()
    finally:
        process.kill()
        process.wait()
    assert waited < 5.0
    assert "Traceback" not in said.read_text()
    assert table.read_bytes().startswith(kept)
    assert [row.state for row in TrialTable(table).rows] == [TrialState.COMPLETE] * 3
    assert not list(disk.rglob("*.part"))
    doctor = [sys.executable, "-m", "tuning.doctor", str(disk / "a")]
    found = subprocess.run(doctor, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (found.returncode, "all is sound" in found.stdout) == (0, True), found.stdout
