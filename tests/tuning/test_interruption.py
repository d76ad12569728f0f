"""How a long run is stopped, and that only one works on a folder; in processes of their own."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tuning.interruption import BusyError, exclusive, interruptible

ROOT = Path(__file__).resolve().parents[2]
WAITING = """
import sys, time
from pathlib import Path
from tuning.interruption import exclusive, interruptible
{before}
folder = Path(sys.argv[1])
with exclusive(folder), interruptible("again --resume", folder):
    (folder / "ready").touch()
    {during}
"""
SLEEP = "time.sleep(60)"


def start(folder: Path, before: str = "", during: str = SLEEP) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING.format(before=before, during=during), str(folder)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60.0
    while not (folder / "ready").exists():
        assert process.poll() is None, "it ended early"
        assert time.monotonic() < deadline, "it did not begin"
        time.sleep(0.02)
    return process


def stopped(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    return process.returncode, said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_its_own_code_and_the_way_on(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    returned, said = stopped(start(tmp_path), number)
    assert returned == code
    assert str(tmp_path) in said
    assert said.splitlines()[-1] == "  again --resume"
    assert "Traceback" not in said


def test_an_interruption_while_ray_is_still_being_imported_is_orderly(tmp_path: Path) -> None:
    half = "import types; sys.modules['ray'] = types.ModuleType('ray')"
    returned, said = stopped(start(tmp_path, before=half), signal.SIGINT)
    assert returned == 130
    assert "Traceback" not in said


def test_ray_is_ended_but_not_waited_for_longer_than_three_seconds(tmp_path: Path) -> None:
    hanging = (
        "import types; ray = sys.modules['ray'] = types.ModuleType('ray')\n"
        "ray.shutdown = lambda: ((Path(sys.argv[1]) / 'shut').touch(), time.sleep(60))"
    )
    process = start(tmp_path, before=hanging)
    pressed = time.monotonic()
    returned, _ = stopped(process, signal.SIGTERM)
    assert returned == 143
    assert 2.5 < time.monotonic() - pressed < 10.0
    assert (tmp_path / "shut").exists()


def test_a_reader_that_is_gone_does_not_change_the_end(tmp_path: Path) -> None:
    """Of ``... 2>&1 | tee log``, Ctrl-C ends ``tee`` too."""
    process = start(tmp_path)
    assert process.stderr is not None
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130


def test_a_signal_in_the_middle_of_a_write_is_still_answered(tmp_path: Path) -> None:
    """Python refuses to enter its own buffer again from a handler."""
    refusing = (
        "class Busy:\n"
        "        def write(self, text): raise RuntimeError('reentrant call')\n"
        "    sys.stderr = Busy(); time.sleep(60)"
    )
    returned, said = stopped(start(tmp_path, during=refusing), signal.SIGINT)
    assert returned == 130
    assert "again --resume" in said


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    process = start(tmp_path)
    try:
        with pytest.raises(BusyError, match=str(tmp_path)), exclusive(tmp_path):
            pass
    finally:
        process.kill()
        process.communicate()
    with exclusive(tmp_path):  # a killed process leaves no lock behind
        pass


def test_handlers_are_given_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with interruptible("again", tmp_path):
        during = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert after == before != during
