"""One owner of a folder, by its name, also where locks fail or hold nobody back."""

import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.tuning.failing_locks import preloaded
from tuning.folder import folder_owner
from tuning.folder.folder_owner import OWNER, Owner, owned, read_owner
from tuning.folder.interruption import BusyError, FolderError, exclusive

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = """
import sys, time
from pathlib import Path
from tuning.folder.interruption import FolderError, exclusive
folder, number = Path(sys.argv[1]), sys.argv[2]
(folder / f"here-{number}").touch()
while not (folder / "go").exists():
    time.sleep(0.001)
try:
    with exclusive(folder):
        print("owner", flush=True)
        time.sleep(60)
except FolderError as error:
    print(error)
    sys.exit(2)
"""
GONE = Owner(2**22 + 1, socket.gethostname(), 1_700_000_000, "another boot", "", "1", 0)


def owner_file(folder: Path, **changed: Any) -> Path:
    """As this process would write it, but for what is changed."""
    path = folder / OWNER
    with owned(folder, is_locked=False):
        told = json.loads(path.read_text())
    path.touch()
    told["file"] = path.stat().st_ino
    path.write_text(json.dumps(told | changed))
    return path


@pytest.fixture(params=["granted to all", errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the file system says to whoever wants a lock."""

    def flock(file: Any, operation: int) -> None:
        if isinstance(request.param, int):
            raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)
    return request.param


def processes(folder: Path, environment: dict[str, str], number: int) -> list[Any]:
    """They want the folder at the same moment."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, str(folder), str(each)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for each in range(number)
    ]
    deadline = time.monotonic() + 60.0
    while len(list(folder.glob("here-*"))) < number:
        assert time.monotonic() < deadline, "they did not begin"
        time.sleep(0.01)
    (folder / "go").touch()
    return started


@pytest.mark.parametrize("mode", ["ENOLCK", "granted to all"])
def test_of_several_that_start_at_once_one_goes_on_and_the_others_name_it(
    mode: str, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    environment = preloaded(tmp_path, folder, mode)
    owner_file(folder, pid=GONE.pid)  # of an earlier one, which was killed
    started = processes(folder, environment, 3)
    said = {}
    try:
        deadline = time.monotonic() + 30.0
        while sum(each.poll() is None for each in started) > 1:
            assert time.monotonic() < deadline, "more than one goes on"
            time.sleep(0.02)
        (first,) = [each for each in started if each.poll() is None]
        said = {each.pid: each.communicate()[0] for each in started if each is not first}
        assert {each.returncode for each in started if each is not first} == {2}
    finally:
        for each in started:
            each.kill()
            each.wait()
    name = f"process {first.pid} on {socket.gethostname()}, since 20"
    assert all(f"{folder}: {name}" in text for text in said.values()), said
    assert [path.name for path in folder.glob(f"{OWNER}*")] == [OWNER], "it was killed"
    with exclusive(folder):
        pass
    assert not list(folder.glob(f"{OWNER}*"))


def test_the_doctor_names_the_owner_where_locks_fail(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "trials.jsonl").touch()
    environment = preloaded(tmp_path, folder, "ENOLCK")
    with owned(folder, is_locked=False):
        done = subprocess.run(
            [sys.executable, "-m", "tuning.doctor", str(folder)],
            cwd=ROOT,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
    name = f"process {os.getpid()} on {socket.gethostname()}, since 20"
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.startswith(f"error: another process is working on the sweep in {folder}: ")
    assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_who_comes_second_is_refused_and_leaves_the_first_its_file(
    locks: Any, tmp_path: Path
) -> None:
    name = f"process {os.getpid()} on {socket.gethostname()}, since 20"
    with exclusive(tmp_path):
        for _ in range(2):
            with pytest.raises(BusyError, match=f"{tmp_path}: {name}"), exclusive(tmp_path):
                pass
        assert str(read_owner(tmp_path)).startswith(name)
    with exclusive(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock"]


def test_a_folder_by_another_name_has_its_owner_and_a_copy_has_none(
    locks: Any, tmp_path: Path
) -> None:
    folder, link = tmp_path / "a", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    with exclusive(folder):
        with pytest.raises(BusyError), exclusive(link):
            pass
        shutil.copytree(folder, tmp_path / "copy")
        with exclusive(tmp_path / "copy"):
            pass
        folder.rename(tmp_path / "b")
        with pytest.raises(BusyError), exclusive(tmp_path / "b"):
            pass


@pytest.mark.parametrize(
    "changed",
    [{"pid": GONE.pid}, {"began": "1"}, {"boot": "before"}, {"since": 1e300}, {"host": []}],
)
def test_what_an_owner_left_that_is_gone_stops_nobody(
    changed: dict[str, Any], locks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, its number given to another process, the machine started anew, or no owner at all."""
    monkeypatch.setattr(folder_owner, "WATCH_S", 0.1)
    owner_file(tmp_path, **changed)
    with exclusive(tmp_path):
        owner = read_owner(tmp_path)
        assert owner is not None
        assert (owner.pid, owner.is_alive()) == (os.getpid(), True)


def test_a_dead_process_of_which_nobody_has_taken_note_is_gone(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = owner_file(tmp_path, pid=process.pid, began=folder_owner._state(process.pid)[1])
    try:
        assert path.exists()
        owner = read_owner(tmp_path)
        assert owner is not None
        assert owner.is_alive()
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert owner.is_alive() is False
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("elsewhere", ["host", "space"])
def test_an_owner_that_cannot_be_seen_is_known_by_its_beat(
    elsewhere: str, locks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_owner, "WATCH_S", 0.5)
    monkeypatch.setattr(folder_owner, "BEAT_S", 0.05)
    with owned(tmp_path, is_locked=False):
        path = tmp_path / OWNER
        path.write_text(json.dumps(json.loads(path.read_text()) | {elsewhere: "elsewhere"}))
        with pytest.raises(BusyError, match=f"process {os.getpid()} on"), exclusive(tmp_path):
            pass
    assert path.exists(), "it is not the file that was made"
    with exclusive(tmp_path):
        pass


def test_where_there_are_neither_locks_nor_room_it_is_said(
    locks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(handle: int, content: bytes) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    if locks == "granted to all":
        with exclusive(tmp_path):
            assert not (tmp_path / OWNER).exists()
        return
    with (
        pytest.raises(FolderError, match=r"has no locks, and .*No space left"),
        exclusive(tmp_path),
    ):
        pass
    assert not (tmp_path / OWNER).exists()
