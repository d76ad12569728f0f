"""``python -m tuning.analyze`` on tables whose lines are whole and say what cannot be."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tuning.test_analyze import PLAN, moved_sweep, run, trials
from tuning.table.record import sealed

KNOBS = PLAN.space().default_point()

# Of a row of trials.jsonl: a field, what stands there, and what the line must say of it.
ROWS: list[tuple[str, Any]] = [
    *(("trial_id", value) for value in (5, None, "", ["t"], {})),
    *(("number", value) for value in ("1", None, -1, 1.5, True, [])),
    *(("state", value) for value in (5, None, "GONE", [])),
    *(("score", value) for value in ("high", True, [1], 10**400, None)),
    *(("knobs", value) for value in (5, None, [], "a", [["meta.inner_lr", 1.0]])),
    *(("knobs", KNOBS | change) for change in (
        {"meta.magic": 1.0}, {"meta.inner_lr": "a"}, {"meta.inner_lr": None},
        {"meta.inner_lr": [1.0]}, {"policy.hidden_dim": 1.5}, {"policy.hidden_dim": True},
        {"meta.inner_lr": 10**400},
    )),
    *(("config", value) for value in (5, [1], {"meta.inner_lr": 7.0})),
    *(("env_steps", value) for value in ("1", None, -1, 10**400, [], 1.5)),
    *(("seconds", value) for value in ("1", None, -1, 10**400)),
    *(("iterations", value) for value in ("1", None, {})),
    *(("returns", value) for value in (5, [], {"0": "a"}, {"0": None}, {"first": 1.0})),
    *(("interval", value) for value in (5, "ab", [1], [1, 2, 3], ["a", "b"], [2, 1], {})),
    *(("curve", value) for value in (5, [5], [["a", 1, 2]], [[1, 2]], [[1, 2, None]])),
    *(("reason", value) for value in (5, None, ["a"])),
    *(("round", value) for value in ("1", None, -1)),
    *(("seeds", value) for value in (5, ["a"], [1.5], "12")),
    *(("seed_scores", value) for value in (5, ["a"], [10**400], [1.0, 2.0])),
    *(("judged_at", value) for value in ("a", None, -1)),
    ("more", 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), ROWS, ids=lambda value: str(value)[:40])
def test_a_row_that_says_what_cannot_be_is_one_line(name: str, value: Any, tmp_path: Path) -> None:
    folder, _ = moved_sweep(tmp_path)
    row = json.loads(trials(1)[0].to_json())
    content = {key: row[key] for key in row if key not in ("format", "sweep", "checksum")}
    path = folder / "trials.jsonl"
    path.write_text(sealed(content | {name: value}) + "\n" + path.read_text())
    result = run(folder, "--json")
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.startswith(f"error: line 1 of {path}")
    assert result.stderr.count("\n") == 1
    assert len(result.stderr) < 2000


EVENTS: list[tuple[str, Any]] = [
    *(("event", value) for value in (None, "other", 5, [])),
    *(("round", value) for value in ("1", None, -1, 1.5)),
    *(("author", value) for value in (5, None, "", [])),
    *(("space", value) for value in (5, None, {}, [], {"meta.inner_lr": 5}, {"a.b": {}})),
    *(("space", {"meta.inner_lr": {"kind": "float", "low": low, "high": 1.0, "log": True}})
      for low in ("a", None, 0, 2.0, [], True, 10**400)),
    *(("num_trials", value) for value in ("1", None, -1, 1.5)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), EVENTS, ids=lambda value: str(value)[:40])
def test_a_round_that_says_what_cannot_be_is_one_line(
    name: str, value: Any, tmp_path: Path
) -> None:
    folder, space = moved_sweep(tmp_path)
    event = {"event": "space", "round": 0, "author": "default", "num_trials": 3}
    event |= {"space": json.loads(space.to_json())}
    path = folder / "rounds.jsonl"
    path.write_text(sealed(event | {name: value}) + "\n" + path.read_text())
    result = run(folder, "--json")
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.startswith(f"error: line 1 of {path}")
    assert result.stderr.count("\n") == 1


MOVES: list[tuple[str, Any]] = [
    *(("knob", value) for value in (5, None, "meta.magic")),
    *(("old", value) for value in (5, None, {}, {"kind": "float"})),
    *(("kind", value) for value in (5, None, "jump")),
    *(("statistic", value) for value in (5, None, [])),
    *(("trial_ids", value) for value in (5, None, [5], "t0001")),
    ("more", 1),
]


@pytest.mark.parametrize(("name", "value"), MOVES, ids=lambda value: str(value)[:40])
def test_a_move_that_says_what_cannot_be_is_one_line(name: str, value: Any, tmp_path: Path) -> None:
    folder, _ = moved_sweep(tmp_path)
    path = folder / "rounds.jsonl"
    first, move, closing = path.read_text().splitlines()
    read = json.loads(move)
    content = {key: read[key] for key in read if key not in ("format", "sweep", "checksum")}
    assert content["event"] == "move"
    path.write_text("\n".join([first, sealed(content | {name: value}), closing, ""]))
    result = run(folder)
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.startswith("error: line ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"base": 5}, {"base": None}, {"base": []}, {"space": 5}, {"space": None}, {"space": {}},
        {"base": {"algorithm": "promp"}}, {"sweep_id": 5}, {"format": 1}, {"format": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_plan_that_says_what_cannot_be_is_one_line(
    change: dict[str, Any], tmp_path: Path
) -> None:
    folder, _ = moved_sweep(tmp_path)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    result = run(folder)
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
