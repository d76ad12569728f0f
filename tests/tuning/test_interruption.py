"""How a long run is stopped, and that only one works on a folder; in processes of their own."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tuning.folder.interruption import BusyError, exclusive, interruptible

ROOT = Path(__file__).resolve().parents[2]
WAITING = """
import sys, time
from pathlib import Path
from tuning.folder.interruption import exclusive, interruptible
{before}
folder = Path(sys.argv[1])
(folder / "config.json").touch()
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


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
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


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_break_off_the_end(second: signal.Signals, tmp_path: Path) -> None:
    slow = (
        "import types; ray = sys.modules['ray'] = types.ModuleType('ray')\n"
        "ray.shutdown = lambda: ((Path(sys.argv[1]) / 'begun').touch(), time.sleep(0.5), "
        "(Path(sys.argv[1]) / 'shut').touch())"
    )
    process = start(tmp_path, before=slow)
    process.send_signal(signal.SIGTERM)
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    returned, said = stopped(process, second)
    assert returned == 143
    assert (tmp_path / "shut").exists()
    assert said.count("again --resume") == 1


def test_what_was_started_to_outlive_its_terminal_does(tmp_path: Path) -> None:
    """As ``nohup`` starts it."""
    process = start(tmp_path, before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1.0)
    assert stopped(process, signal.SIGTERM)[0] == 143


def test_a_signal_that_ray_took_is_taken_back(tmp_path: Path) -> None:
    taken = (
        "import signal; from tuning.folder.interruption import hear_signals; "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); hear_signals(); time.sleep(60)"
    )
    returned, said = stopped(start(tmp_path, during=taken), signal.SIGTERM)
    assert (returned, "again --resume" in said) == (143, True)


def test_a_start_that_is_broken_off_is_one_line(tmp_path: Path) -> None:
    code = "from tuning.folder.quiet_start import quiet_start; quiet_start(); print(flush=True); "
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code} import time; time.sleep(60)"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert stopped(process, signal.SIGINT) == (130, "\nstopped before it began\n")


def test_a_reader_that_goes_away_stops_nothing(tmp_path: Path) -> None:
    """Of ``... | head -1``: what nobody reads is dropped, what is done goes on, in good order."""
    work = (
        "[print('line', n, flush=True) for n in range(20_000)]; "
        "(folder / 'done').touch(); print('at the end')"
    )
    code = WAITING.format(before="", during=work)
    script = tmp_path / "work.py"
    script.write_text(code)
    done = subprocess.run(
        check=False,
        args=["bash", "-c", f"set -o pipefail; {sys.executable} {script} {tmp_path} | head -1"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("line 0\n", "", 0)
    assert (tmp_path / "done").exists()


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
        owner = rf"{tmp_path}: process {process.pid} on {socket.gethostname()}, since \d{{4}}-"
        for _ in range(2):  # who was refused leaves the name of the first
            with pytest.raises(BusyError, match=owner), exclusive(tmp_path):
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


def test_where_nothing_is_written_down_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    process = start(tmp_path, during="(folder / 'config.json').unlink(); time.sleep(60)")
    while (tmp_path / "config.json").exists():
        time.sleep(0.01)
    assert stopped(process, signal.SIGTERM) == (143, "\nstopped before it began\n")


IMPORTING = """
import importlib.abc, runpy, sys, time
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "typer":
            print("here", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
runpy.run_module(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize("module", ["tuning.sweep", "agents.research"])
def test_ctrl_c_during_the_first_imports_is_one_line(module: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORTING, module],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    assert stopped(process, signal.SIGINT) == (130, "\nstopped before it began\n")


def test_a_terminal_that_is_closed_ends_it(tmp_path: Path) -> None:
    master, slave = os.openpty()
    script = tmp_path / "work.py"
    script.write_text(WAITING.format(before="", during="print('at work', flush=True); " + SLEEP))
    command = [sys.executable, str(script), str(tmp_path)]
    process = subprocess.Popen(  # who leads a session and opens a terminal is controlled by it
        ["sh", "-c", 'exec "$@" <>"$0" >&0 2>&0', os.ttyname(slave), *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        assert b"at work" in os.read(master, 1000)
        os.close(slave)
        os.close(master)
        assert process.wait(timeout=30) == 129
    finally:
        process.kill()
        process.wait()
