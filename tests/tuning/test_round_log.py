"""The log of rounds: a round is there whole or not at all, and reading changes nothing."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from ssmrl.config import TrainConfig
from ssmrl.format import FormatError
from tuning.spaces.ranges import Float, Int, Range
from tuning.spaces.space import SearchSpace
from tuning.table.move import Move
from tuning.table.record import sealed
from tuning.table.round_log import Round, RoundLog

BASE = TrainConfig(algorithm="promp")
LR, STEPS = "meta.inner_lr", "meta.num_epochs"
FIRST = SearchSpace({LR: Float(0.01, 1.0, log=True), STEPS: Int(1, 3)}, BASE)


def moved(knob: str, old: Range, new: Range, kind: str = "expand") -> Move:
    return Move(knob, old, new, kind, "3 of 5 <at> the edge, p = 0.01", ("t0001", "t0004"))


def rounds_of(count: int) -> list[Round]:
    rounds = [Round(1, "default", FIRST, (), 8)]
    space = FIRST
    for number in range(2, count + 1):
        old = space.ranges[LR]
        assert isinstance(old, Float)
        new = Float(old.low / 2.0, old.high, log=True)
        space = space.replace_ranges({LR: new, STEPS: Int(1, 3 + number)})
        moves = (moved(LR, old, new), moved(STEPS, Int(1, 2 + number), Int(1, 3 + number)))
        rounds.append(Round(number, "trust box", space, moves, 8))
    return rounds


def filled(path: Path, count: int) -> list[Round]:
    log = RoundLog(path, BASE)
    for this in (rounds := rounds_of(count)):
        log.append(this)
    return rounds


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    assert RoundLog(path, BASE).rounds == ()
    rounds = filled(path, 3)
    again = RoundLog(path, BASE)
    assert again.rounds == tuple(rounds)
    (more,) = rounds_of(4)[3:]
    again.append(more)
    assert RoundLog(path, BASE).rounds == (*rounds, more)


def test_the_lines_are_moves_and_then_the_space(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    filled(path, 2)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(e["event"], e["round"]) for e in events] == [
        ("space", 1),
        ("move", 2),
        ("move", 2),
        ("space", 2),
    ]
    assert events[1]["knob"] == LR
    assert events[1]["kind"] == "expand"
    assert events[1]["old"] == {"kind": "float", "low": 0.01, "high": 1.0, "log": True}
    assert events[1]["new"] == {"kind": "float", "low": 0.005, "high": 1.0, "log": True}
    assert events[1]["trial_ids"] == ["t0001", "t0004"]
    assert events[3]["author"] == "trust box"
    assert events[3]["space"][STEPS] == {
        "kind": "int",
        "low": 1,
        "high": 5,
        "step": 1,
        "log": False,
    }


def test_a_cut_anywhere_loses_at_most_the_last_round(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    rounds = filled(whole, 3)
    data = whole.read_bytes()
    lines = data.splitlines(keepends=True)
    kept = len(b"".join(lines[:4]))  # rounds 1 and 2
    path = tmp_path / "rounds.jsonl"
    for cut in [*range(kept + 1, len(data), 43), kept + len(lines[4]), len(data) - 2]:
        path.write_bytes(data[:cut])
        with pytest.warns(UserWarning, match="was not written to its end"):
            log = RoundLog(path, BASE)
        assert log.rounds == tuple(rounds[:2])
        assert path.read_bytes() == data[:cut]  # reading changed nothing
        log.append(rounds[2])
        assert path.read_bytes() == data
        torn = path.with_name("rounds.jsonl.torn")
        assert torn.read_bytes().rstrip(b"\n") == data[kept:cut].rstrip(b"\n")
        torn.unlink()
    path.write_bytes(data[:kept])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RoundLog(path, BASE).rounds == tuple(rounds[:2])


def line(event: dict[str, Any]) -> bytes:
    return f"{sealed(event, place=2)}\n".encode()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"\x00\xff\n", "line 2 of .*rounds.jsonl"),
        (line({"event": "space", "round": 2}), "line 2 .*author"),
        (line({"round": 2}), "line 2 .*event"),
        (b"[]\n", "line 2"),
        (line({"event": "party", "round": 2}), "line 2 .*'move' or 'space', but got 'party'"),
        (line({"event": "move", "round": 2, "knob": "meta.inner_lr"}), "line 2"),
        (line({"event": "move"}).replace(b"move", b"mova"), "line 2 .*checksum does not fit"),
        (b'{"event": "space", "round": 2}\n', "line 2 of .* has no format: version 0.1"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes, complaint: str) -> None:
    path = tmp_path / "rounds.jsonl"
    filled(path, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + line + b"".join(lines[1:]))
    with pytest.raises(ValueError, match=complaint):
        RoundLog(path, BASE)


def test_a_round_is_never_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    filled(path, 2)
    before = path.read_bytes()
    log = RoundLog(path, BASE)
    with pytest.raises(ValueError, match="must be larger than those before, but got 2 after 2"):
        log.append(rounds_of(2)[1])
    assert path.read_bytes() == before
    lines = before.splitlines(keepends=True)
    path.write_bytes(before + lines[0])
    with pytest.raises(ValueError, match=r"line 5 .*is record 1 once more, after line 1"):
        RoundLog(path, BASE)
    first = json.loads(lines[0])
    content = {name: first[name] for name in ("event", "round", "author", "space", "num_trials")}
    path.write_bytes(before + f"{sealed(content, place=5)}\n".encode())
    with pytest.raises(ValueError, match=r"line 5 .*larger"):
        RoundLog(path, BASE)


def test_rounds_of_version_0_1_and_of_another_sweep_are_refused(tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "fixtures" / "format1" / "rounds.jsonl"
    with pytest.raises(FormatError, match=r"line 1 of .* has no format: version 0\.1 of the"):
        RoundLog(old, BASE)
    log = RoundLog(tmp_path / "rounds.jsonl", BASE, "one")
    log.append(rounds_of(1)[0])
    assert RoundLog(tmp_path / "rounds.jsonl", BASE, "one").rounds == log.rounds
    with pytest.raises(ValueError, match="must belong to the sweep 'two', but is of 'one'"):
        RoundLog(tmp_path / "rounds.jsonl", BASE, "two")


def test_two_processes_may_not_write(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    filled(path, 1)
    mine, yours = RoundLog(path, BASE), RoundLog(path, BASE)
    yours.append(rounds_of(2)[1])
    with pytest.raises(RuntimeError, match="only one process may write"):
        mine.append(rounds_of(2)[1])
    assert len(RoundLog(path, BASE).rounds) == 2


def test_a_failed_write_adds_nothing(tmp_path: Path) -> None:
    log = RoundLog(tmp_path / "nowhere" / "rounds.jsonl", BASE)
    with pytest.raises(OSError, match="No such file"):
        log.append(rounds_of(1)[0])
    assert log.rounds == ()


def test_a_round_checks_itself() -> None:
    with pytest.raises(ValueError, match="number=-1"):
        Round(-1, "trust box", FIRST, (), 8)
    with pytest.raises(ValueError, match="author=''"):
        Round(1, "", FIRST, (), 8)
    move = moved("meta.outer_lr", Float(0.1, 1.0), Float(0.1, 2.0))
    with pytest.raises(ValueError, match=r"only searched knobs.*meta\.outer_lr.*meta\.inner_lr"):
        Round(1, "trust box", FIRST, (move,), 8)
