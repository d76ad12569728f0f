"""Rows, rounds and ledgers: whatever happens to their files is found by line, and no more is lost.

Each fault is read strictly, as a sweep does, and looked at, as the doctor does.
"""

import dataclasses
import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agents.budget import Budget
from agents.ledger import EventKind, Ledger
from ssmrl.config import TrainConfig
from tuning.spaces.ranges import Float
from tuning.spaces.space import SearchSpace
from tuning.table.append_only import AppendOnlyFile, look_at
from tuning.table.move import Move
from tuning.table.record import sealed
from tuning.table.record_files import mend_records, record_troubles
from tuning.table.record_lines import examined, mended
from tuning.table.round_log import Round, RoundLog
from tuning.table.trial import Trial, TrialState, TrialTable

SWEEP = "5eed"
BASE = TrainConfig(algorithm="promp")
RATE = "meta.inner_lr"


class Kind(NamedTuple):
    """A record file: how it is read as a sweep reads it, and what was read."""

    name: str
    open: Callable[[Path], Any]
    read: Callable[[Any], tuple[Any, ...]]


def rounds(path: Path) -> RoundLog:
    return RoundLog(path, BASE, SWEEP)


TRIALS = Kind("trials.jsonl", lambda path: TrialTable(path, SWEEP), lambda table: table.rows)
ROUNDS = Kind("rounds.jsonl", rounds, lambda log: log.rounds)
LEDGER = Kind("ledger.jsonl", lambda path: Ledger(path, sweep=SWEEP), lambda ledger: ledger.events)
KINDS = (TRIALS, ROUNDS, LEDGER)


def filled(kind: Kind, folder: Path) -> Path:
    """Six records."""
    path = folder / kind.name
    if kind is TRIALS:
        for number in range(6):
            knobs = {RATE: 1e-05 * (number + 1)}
            row = Trial(f"t{number:04d}", number, TrialState.COMPLETE, 0.1 * number, knobs)
            TrialTable(path, SWEEP).append(row)
    elif kind is ROUNDS:
        space = SearchSpace({RATE: Float(0.01, 1.0, log=True)}, BASE)
        rounds(path).append(Round(0, "default", space, (), 8))
        for number in range(1, 3):
            old = space.ranges[RATE]
            new = Float(0.01, 1.0 + number, log=True)
            space = space.replace_ranges({RATE: new})
            move = Move(RATE, old, new, "expand", "3 of 5 at the edge", ("t0001",))
            rounds(path).append(Round(number, "trust box", space, (move,), 8))
        rounds(path).append(Round(3, "confirmation", space, (), 1))
    else:
        ledger = Ledger(path, Budget(trials=9, tokens=900), sweep=SWEEP, clock=lambda: 1.5)
        ledger.record(EventKind.SAID, "I would go on.", who="coordinator", round=1)
        ledger.settle(ledger.reserve("tokens", 100), 40)
        ledger.reserve("trials", 4)
        ledger.record(EventKind.DECIDED, "go on", data={"num_trials": 4})
    return path


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found = request.param
    assert isinstance(found, Kind)
    return found


def lines_of(path: Path) -> list[bytes]:
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 6
    return lines


def test_torn_at_every_byte_of_the_last_record_no_other_is_lost(kind: Kind, tmp_path: Path) -> None:
    path = filled(kind, tmp_path)
    *first, last = lines_of(path)[:3]  # of rounds, two whole ones
    before, whole = b"".join(first), b"".join([*first, last])
    path.write_bytes(whole)
    all_of_it = kind.read(kind.open(path))
    for cut in range(len(before), len(whole)):
        path.write_bytes(whole[:cut])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = kind.read(kind.open(path))
        is_whole = cut == len(whole) - 1  # only the end of the line is missing
        assert found == all_of_it if is_whole else found == all_of_it[: len(found)]
        assert path.read_bytes() == whole[:cut], "reading changes nothing"
        is_torn = len(before) < cut and not is_whole
        is_half = kind is ROUNDS and cut == len(before)  # a move, but not the space after it
        assert len(caught) == (is_torn or is_half)
        where = [trouble.where for trouble in record_troubles(path, SWEEP)]
        assert where == [f"{kind.name}, line 3"] * is_torn
        if cut % 20 == 0 or is_whole:
            assert mended(whole[:cut], SWEEP) == (whole if is_whole else before).decode()


def test_what_was_torn_is_kept_beside_the_file_and_the_next_record_follows(
    kind: Kind, tmp_path: Path
) -> None:
    path = filled(kind, tmp_path)
    whole, last = path.read_bytes(), lines_of(path)[-1]
    before = whole[: -len(last)]
    content = json.loads(last)
    added = {name: content[name] for name in content if name not in ("sweep", "place", "checksum")}
    for cut in (len(before) + 1, len(whole) - 9, len(whole) - 1, len(whole)):
        path.write_bytes(whole[:cut])
        file = AppendOnlyFile(path, SWEEP)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file.read(lambda content: True)
        file.append(added)
        is_torn = cut < len(whole) - 1
        kept = path.read_bytes()
        assert kept.startswith(before if is_torn else whole)
        assert json.loads(kept.splitlines()[-1])["place"] == 6 + (not is_torn)
        torn = path.with_name(f"{path.name}.torn")
        assert (torn.read_bytes() if is_torn else b"") == whole[len(before) : cut] * is_torn + (
            b"\n" * is_torn
        )
        torn.unlink(missing_ok=True)
        assert not list(record_troubles(path, SWEEP))


def test_of_a_thousand_flipped_bits_each_is_found_and_its_line_named(
    kind: Kind, tmp_path: Path
) -> None:
    path, rng = filled(kind, tmp_path), random.Random(0)
    lines = lines_of(path)[:3]  # of rounds, two whole ones
    whole = b"".join(lines)
    path.write_bytes(whole)
    all_of_it = kind.read(kind.open(path))
    for count in range(1000):
        place, bit = rng.randrange(len(whole)), rng.randrange(8)
        data = whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]
        number = whole[:place].count(b"\n") + 1
        look = examined(data, str, SWEEP)
        bad = [line.number for line in look.lines if line.error] + [3] * bool(look.end)
        assert bad[0] == number
        if count % 20 and place < len(whole) - 1:
            continue
        path.write_bytes(data)
        first, *_ = record_troubles(path, SWEEP)
        assert first.where == f"{kind.name}, line {number}"
        if place < len(whole) - 1:
            with pytest.raises(ValueError, match=rf"^line {number} of .*{kind.name}"):
                kind.open(path)
        else:  # of the last line the end
            with pytest.warns(UserWarning, match="torn"):
                assert kind.read(kind.open(path)) == all_of_it[: len(all_of_it) - 1]
        kept = mended(data, SWEEP).encode().splitlines(keepends=True)
        is_end = whole[place : place + 1] == b"\n"
        good = [line for n, line in enumerate(lines, start=1) if n != number or is_end]
        assert [line for line in kept if b'"lost"' not in line] == good
        assert len(kept) == len(lines)


FAULTS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int, int]] = {
    # What is done, the line that is named first, and how many of the six records are left.
    "the first doubled": (lambda rows: [rows[0], *rows], 2, 6),
    "a middle one doubled": (lambda rows: [*rows[:3], *rows[2:]], 4, 6),
    "one doubled at the end": (lambda rows: [*rows, rows[1]], 7, 6),
    "the first two swapped": (lambda rows: [rows[1], rows[0], *rows[2:]], 1, 6),
    "two swapped": (lambda rows: [*rows[:2], rows[3], rows[2], *rows[4:]], 3, 6),
    "the last two swapped": (lambda rows: [*rows[:4], rows[5], rows[4]], 5, 6),
    "the first moved to the end": (lambda rows: [*rows[1:], rows[0]], 1, 6),
    "the first taken out": (lambda rows: rows[1:], 1, 5),
    "a middle one taken out": (lambda rows: [*rows[:2], *rows[3:]], 3, 5),
    "two taken out": (lambda rows: [*rows[:1], *rows[3:]], 2, 4),
    "nested deeply": (lambda rows: [*rows[:2], b"[" * 10_000 + b"\n", *rows[2:]], 3, 6),
    "deep and closed": (lambda rows: [b"[" * 10_000 + b"]" * 10_000 + b"\n", *rows], 1, 6),
    "no line at all": (lambda rows: [*rows[:2], b"\n", *rows[2:]], 3, 6),
    "zeros in between": (lambda rows: [*rows[:2], bytes(99) + b"\n", *rows[3:]], 3, 5),
    "no text": (lambda rows: [*rows[:2], b"\xff\xfe\n", *rows[3:]], 3, 5),
    "everything twice": (lambda rows: [*rows, *rows], 7, 6),
    "backwards": (lambda rows: rows[::-1], 1, 6),
}  # fmt: skip


@pytest.mark.parametrize("how", FAULTS)
def test_a_fault_is_named_by_line_and_every_good_record_is_kept(
    how: str, kind: Kind, tmp_path: Path
) -> None:
    damage, number, num_good = FAULTS[how]
    path = filled(kind, tmp_path)
    lines = lines_of(path)
    path.write_bytes(damaged := b"".join(damage(lines)))
    with pytest.raises(ValueError, match=rf"^line {number} of .*{kind.name}") as told:
        kind.open(path)
    assert "\n" not in str(told.value)
    first, *_ = record_troubles(path, SWEEP)
    assert (first.where, first.is_mended) == (f"{kind.name}, line {number}", True)
    mend_records(path, SWEEP)
    assert path.with_name(f"{kind.name}.damaged-1").read_bytes() == damaged
    kept = path.read_bytes().splitlines(keepends=True)
    good = [line for line in kept if b'"lost"' not in line]
    assert len(good) == num_good
    assert good == [line for line in lines if line in good], "byte for byte, in order"
    assert [json.loads(line)["place"] for line in kept] == list(range(1, len(kept) + 1))
    assert not list(record_troubles(path, SWEEP))


OUT_OF_RANGE = {
    "number": ("1e999", "-1e999", str(2**63), str(10**400), "9" * 5000, "-1", "1.5"),
    "round": ("1e999", str(2**63), str(10**400), "-1"),
    "num_trials": ("1e999", str(2**64), "-1"),
    "time": ("1e999", str(10**400)),
    "seconds": ("1e999", str(10**400)),
    "place": ("0", "-1", str(2**63), "1e999", "1.0", "true", '"1"'),
    "data": ('{"kind": "calls", "amount": 1e999}', "[]", "3"),
}


def test_numbers_out_of_range_end_in_the_same_error(kind: Kind, tmp_path: Path) -> None:
    path = filled(kind, tmp_path)
    lines = lines_of(path)
    record = json.loads(lines[3])
    tried = 0
    for name in OUT_OF_RANGE.keys() & record.keys():
        for value in OUT_OF_RANGE[name]:
            text = json.dumps(record | {name: "HERE"}).replace('"HERE"', value)
            for line in (text, resealed(text)):
                path.write_bytes(b"".join([*lines[:3], line.encode() + b"\n", *lines[4:]]))
                with pytest.raises(ValueError, match=rf"^line 4 of .*{kind.name}") as told:
                    kind.open(path)
                assert len(str(told.value).splitlines()) == 1
                assert look_at(path, SWEEP).lines
                tried += 1
    assert tried >= 20


def resealed(text: str) -> str:
    """With a checksum that fits, if JSON can hold it; as if a program of ours had written it."""
    try:
        record = json.loads(text)
        content = {name: record[name] for name in record if name not in ("sweep", "checksum")}
        return sealed(content, SWEEP)
    except ValueError:
        return text


def test_a_row_whose_sums_are_too_large_is_no_traceback(tmp_path: Path) -> None:
    path = filled(TRIALS, tmp_path)
    row = dataclasses.asdict(TrialTable(path, SWEEP).rows[0])
    scores = {"seeds": [1, 2], "seed_scores": [1.7e308, 1.7e308], "score": 1.7e308}
    path.write_text(sealed(row | scores, SWEEP, 1) + "\n")
    with pytest.raises(ValueError, match=r"^line 1 of "):
        TrialTable(path, SWEEP)


def test_records_without_places_are_read_and_what_follows_has_one(
    kind: Kind, tmp_path: Path
) -> None:
    """As versions before this one wrote them."""
    path = filled(kind, tmp_path)
    before = kind.read(kind.open(path))
    old = []
    for line in lines_of(path):
        record = json.loads(line)
        content = {n: record[n] for n in record if n not in ("sweep", "place", "checksum")}
        old.append(f"{sealed(content, SWEEP)}\n".encode())
    path.write_bytes(b"".join(old))
    assert kind.read(kind.open(path)) == before
    file = AppendOnlyFile(path, SWEEP)
    file.read(lambda content: True)
    file.append(dict.fromkeys(("event", "kind"), "x"))
    assert json.loads(path.read_bytes().splitlines()[-1])["place"] == 7
    lines = path.read_bytes().splitlines(keepends=True)
    assert not list(record_troubles(path, SWEEP))
    assert mended(b"".join([*lines[:2], *lines[3:]]), SWEEP).count("\n") == 7
    hit = b"".join([*lines[:2], b"x" + lines[2], *lines[3:]])
    kept = mended(hit, SWEEP).encode().splitlines(keepends=True)
    assert (kept[:2], kept[3:]) == (lines[:2], lines[3:])
    assert b'"lost"' in kept[2]
    both = b"".join([*lines[:2], b"x\n", *lines[2:]])  # which was never a record
    assert mended(both, SWEEP).encode() == b"".join(lines)
    moved = b"".join([*lines[:5], lines[6], lines[5]])
    assert [line.number for line in examined(moved, str, SWEEP).lines if line.error] == [6, 7]


def test_what_is_not_finite_or_too_deep_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    file = AppendOnlyFile(path)
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    for value, message in ((float("nan"), "not JSON compliant"), (deep, "at most 64 deep")):
        with pytest.raises(ValueError, match=message):
            file.append({"a": 1}, {"a": value})
    assert not path.exists()
    file.append({"a": 1}, {"a": 2})
    assert [line.place for line in look_at(path).lines] == [1, 2]
