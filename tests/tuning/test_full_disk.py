"""Rows and journals wait for room on the disk, and hold no half of a record."""

import errno
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from optuna.storages.journal import JournalFileBackend

from ssmrl import disk_room
from tuning import driver
from tuning.ending import LostError
from tuning.search.study import open_storage
from tuning.table.durable import append_line, recover_lines


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


@pytest.mark.parametrize("has_room", [True, False])
def test_where_tune_ends_for_want_of_room_it_is_begun_again_as_soon_as_there_is_some(
    has_room: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")

    def write_bytes(path: Path, data: bytes) -> int:
        if has_room:
            return len(data)
        raise full

    tuner, keeper = Mock(fit=Mock(side_effect=full)), Mock()
    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    monkeypatch.setattr(disk_room, "PATIENCE_S", 0.0)
    if has_room:
        assert driver._is_cut_short(tuner, keeper, tmp_path)
    else:
        with pytest.raises(LostError, match=r"stayed full: .*; make room, then `--resume`"):
            driver._is_cut_short(tuner, keeper, tmp_path)
    keeper.close.assert_not_called()
