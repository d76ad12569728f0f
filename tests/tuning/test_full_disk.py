"""Rows and journals wait for room on the disk, and hold no half of a record."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend

from ssmrl import disk_room
from tuning.durable import append_line, recover_lines
from tuning.study import open_storage


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_room, "_SECONDS_BETWEEN", 0.0)


def test_a_row_waits_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, left = tmp_path / "rows.jsonl", [3]
    append_line(path, "1")
    usual = os.fsync

    def fsync(handle: int) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        usual(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    append_line(path, "2")
    assert (left, path.read_text()) == ([0], "1\n2\n")


def test_a_journal_waits_for_room_and_holds_no_half_of_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, left = tmp_path / "journal", [3]
    storage = open_storage(path)
    study = storage.create_new_study([], "a")
    usual = JournalFileBackend.append_logs

    def append(journal: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        if left[0]:
            left[0] -= 1
            with path.open("a") as file:
                file.write('{"half')
            raise OSError(errno.ENOSPC, "No space left on device")
        usual(journal, logs)

    monkeypatch.setattr(JournalFileBackend, "append_logs", append)
    storage.set_study_user_attr(study, "x", 1)
    assert left == [0]
    assert len(recover_lines(path)) == 2
    assert open_storage(path).get_study_user_attrs(study) == {"x": 1}
