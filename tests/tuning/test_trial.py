"""Rows that refuse contradictions, and the table that never loses or changes one."""

import csv
import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmrl.config import TrainConfig
from ssmrl.format import FormatError
from tuning.table.trial import Trial, TrialState, TrialTable

NAN = float("nan")
KNOBS = {"policy.state_dim": 32, "meta.inner_lr": 0.1}


def trial(number: int = 0, score: float | None = 1.5, **changes: Any) -> Trial:
    arguments: dict[str, Any] = {
        "trial_id": f"t{number:04d}",
        "number": number,
        "state": TrialState.COMPLETE,
        "score": score,
        "knobs": KNOBS,
        "config": TrainConfig(algorithm="promp").knobs(),
        "env_steps": 1000,
        "seconds": 2.5,
        "iterations": 3,
        "returns": {"0": -1.0, "1": 1.5, "3": 2.0},
        "interval": (1.0, 2.0),
        "curve": ((500, -1.5, 0.5), (1000, -1.0, 1.5)),
    }
    return Trial(**(arguments | changes))


def failed(number: int, state: TrialState = TrialState.DIVERGED) -> Trial:
    return trial(number, None, state=state, interval=None, reason="a loss was not finite")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": None}, "a COMPLETE trial has a score"),
        ({"score": NAN}, "`score` must be finite"),
        ({"reason": "late"}, "no reason"),
        ({"state": "PRUNED", "score": NAN}, "`score` must be finite"),
        ({"state": "DIVERGED", "reason": "x"}, "a DIVERGED trial has no score"),
        ({"state": "FAILED", "reason": "x"}, "a FAILED trial has no score"),
        ({"state": "FAILED", "score": None}, "must say why"),
        ({"state": "DONE"}, "'DONE' is not a valid TrialState"),
        ({"env_steps": -1}, "`env_steps` must be at least 0, but got -1"),
        ({"seconds": NAN}, "`seconds` must be at least 0"),
        ({"returns": {"k1": 1.0}}, "keys of `returns` must be counts"),
        ({"returns": {"1": NAN}}, "must be finite"),
        ({"curve": ((1, NAN, 1.0),)}, "must be finite"),
        ({"interval": (2.0, 1.0)}, "`interval` must be low, high"),
        ({"trial_id": ""}, "both are needed"),
        ({"round": -1}, "`round` must be at least 0, but got -1"),
        ({"seeds": (0, 1), "seed_scores": (1.5,)}, "each of 2 seeds must have its score"),
        ({"seeds": (0, 1), "seed_scores": (1.0, 3.0)}, "must be the mean of"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trial(**changes)


def test_training_must_have_received_what_was_suggested() -> None:
    received = TrainConfig(algorithm="promp").with_knobs({"meta.inner_lr": 0.2}).knobs()
    with pytest.raises(ValueError, match=r"\{'meta.inner_lr': \(0.1, 0.2\)\}"):
        trial(config=received)
    assert trial(config={}, state="FAILED", score=None, reason="never began").config == {}


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(numbers, st.lists(st.tuples(st.integers(0), numbers, numbers)), st.text(), numbers)
def test_a_row_survives_json(score: float, curve: list[Any], reason: str, knob: float) -> None:
    knobs = {"meta.inner_lr": knob, "env.task": reason}
    before = trial(0, score, state="PRUNED", curve=curve, reason=reason, knobs=knobs, config=knobs)
    text = before.to_json()
    assert "\n" not in text
    assert Trial.from_json(text) == before


def test_the_table_reads_back_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    rows = (trial(2, 0.1 + 0.2), failed(0), trial(1, None, state="PRUNED", interval=None))
    table = TrialTable(path)
    assert table.rows == ()
    assert not path.exists()
    for row in rows:
        table.append(row)
    assert TrialTable(path).rows == table.rows == rows


def test_a_written_row_is_never_rewritten(tmp_path: Path) -> None:
    table = TrialTable(tmp_path / "trials.jsonl")
    table.append(trial(0, 1.0))
    before = (tmp_path / "trials.jsonl").read_bytes()
    with pytest.raises(ValueError, match="has a row 't0000'"):
        table.append(trial(0, 2.0))
    table.append(trial(1, 2.0))
    assert (tmp_path / "trials.jsonl").read_bytes().startswith(before)
    assert table.rows[0].score == 1.0


def test_nan_is_never_best(tmp_path: Path) -> None:
    table = TrialTable(tmp_path / "trials.jsonl")
    table.append(failed(0))
    table.append(trial(1, 99.0, state="PRUNED"))
    assert table.best() is None
    for number, score in [(4, 2.0), (2, 2.0), (3, -5.0)]:
        table.append(trial(number, score))
    best = table.best()
    assert best is not None
    assert best.number == 2, "of equals the earlier"


def test_what_only_judges_is_not_the_best_that_searched(tmp_path: Path) -> None:
    table = TrialTable(tmp_path / "trials.jsonl")
    table.append(trial(0, 1.0))
    table.append(dataclasses.replace(trial(1, 9.0), round=2))
    best, searched = table.best(), table.best(num_rounds=2)
    assert (best and best.number, searched and searched.number) == (1, 0)
    assert table.best(num_rounds=0) is None


@pytest.mark.parametrize("cut", [2, 40])
def test_a_torn_last_line_is_set_aside(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "trials.jsonl"
    table = TrialTable(path)
    table.append(trial(0))
    table.append(trial(1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with pytest.warns(UserWarning, match=r"torn.*moved to trials.jsonl.torn"):
        recovered = TrialTable(path)
    assert recovered.rows == (trial(0),)
    assert path.read_bytes() == whole[:-cut], "reading changes nothing"
    recovered.append(trial(1))
    assert path.read_bytes() == whole
    torn = (tmp_path / "trials.jsonl.torn").read_bytes()
    first = whole.splitlines(keepends=True)[0]
    assert first + torn == whole[:-cut] + b"\n", "a byte is lost"
    assert TrialTable(path).rows == (trial(0), trial(1))


def test_a_last_line_without_its_end_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    table = TrialTable(path)
    table.append(trial(0))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    again = TrialTable(path)
    assert again.rows == (trial(0),)
    assert path.read_bytes() == whole[:-1]
    again.append(trial(1))
    assert path.read_bytes().startswith(whole)
    assert TrialTable(path).rows == (trial(0), trial(1))


def test_a_last_line_of_zeros_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_bytes(trial(0).to_json().encode() + b"\n" + bytes(64) + b"\n")
    with pytest.warns(UserWarning, match="torn"):
        assert TrialTable(path).rows == (trial(0),)


def test_damage_elsewhere_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    for second in ["{torn", '{"trial_id": "t1"}', trial(0).to_json()]:
        text = f"{trial(0).to_json()}\n{second}\n{trial(2).to_json()}\n"
        path.write_text(text)
        with pytest.raises(ValueError, match="line 2"):
            TrialTable(path)
        assert path.read_text() == text, "a damaged file must stay as it is"


def test_a_changed_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    text = trial(0).to_json()
    path.write_text(text.replace('"number": 0', '"number": 1') + "\n")
    with pytest.raises(ValueError, match=r"line 1 of .*changed or damaged: its checksum"):
        TrialTable(path)


def test_a_row_says_its_format_and_its_sweep(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    TrialTable(path, "5eed").append(trial(0))
    row = json.loads(path.read_text())
    assert (row["format"], row["sweep"], len(row["checksum"])) == (2, "5eed", 16)
    content = {name: value for name, value in row.items() if name != "checksum"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert row["checksum"] == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert TrialTable(path, "5eed").rows == TrialTable(path).rows == (trial(0),)
    with pytest.raises(ValueError, match="must belong to the sweep 'beef', but is of '5eed'"):
        TrialTable(path, "beef")


def test_rows_of_version_0_1_are_refused_in_a_line() -> None:
    old = Path(__file__).parents[1] / "fixtures" / "format1" / "trials.jsonl"
    with pytest.raises(FormatError, match=r"^line 1 of .*\.jsonl has no format: version 0\.1 "):
        TrialTable(old)


def test_a_second_writer_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    mine, other = TrialTable(path), TrialTable(path)
    other.append(trial(0))
    with pytest.raises(RuntimeError, match="only one process may write"):
        mine.append(trial(1))
    assert TrialTable(path).rows == (trial(0),)


def test_a_full_disk_leaves_no_half_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trials.jsonl"
    table = TrialTable(path)
    table.append(trial(0))

    def refuse(_: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="no space"):
            table.append(trial(1))
    assert TrialTable(path).rows == table.rows == (trial(0),)
    table.append(trial(1))
    assert TrialTable(path).rows == (trial(0), trial(1))


@given(st.lists(numbers, min_size=1, max_size=5))
def test_csv_floats_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    table = TrialTable(folder / "trials.jsonl")
    for number, score in reversed(list(enumerate(scores))):
        table.append(trial(number, score))
    table.write_csv(folder / "trials.csv")
    with (folder / "trials.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert [float(record["score"]) for record in records] == scores
    assert [record["policy.state_dim"] for record in records] == ["32"] * len(scores)


def test_the_frame_has_a_column_per_knob(tmp_path: Path) -> None:
    table = TrialTable(tmp_path / "trials.jsonl")
    table.append(trial(1, returns={"10": 1.0, "2": 0.5}))
    table.append(failed(0))
    frame = table.to_pandas()
    assert list(frame["trial_id"]) == ["t0000", "t0001"]
    assert list(frame["policy.state_dim"]) == [32, 32]
    assert frame["score"].isna().tolist() == [True, False]
    returns = [column for column in frame.columns if column.startswith("return_")]
    assert returns == ["return_0", "return_1", "return_2", "return_3", "return_10"]
    assert TrialTable(tmp_path / "none.jsonl").to_pandas().empty


def test_csv_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = TrialTable(tmp_path / "trials.jsonl")
    table.append(trial(0))
    table.write_csv(tmp_path / "trials.csv")
    before = (tmp_path / "trials.csv").read_bytes()
    table.append(trial(1))

    def refuse(*_: Any) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="killed"):
            table.write_csv(tmp_path / "trials.csv")
    assert (tmp_path / "trials.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trials.csv", "trials.jsonl"]
