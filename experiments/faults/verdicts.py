"""Outcome of a sweep under faults against what was expected; nothing is injected here."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

from experiments.faults.fault_list import FINE, KILLED, SETUP, FaultList, TrialFault
from experiments.faults.injection import STRUCK
from experiments.faults.processes import GONE_WITHIN_S as WAITED_S
from ssmrl.strict_json import json_object
from tuning.doctor import examine
from tuning.plan import SweepPlan
from tuning.report.parts import number
from tuning.search.study import OUTSIDE, PLANNED, ROW, open_storage, open_study, own_trials
from tuning.table.durable import recover_lines
from tuning.table.round_log import RoundLog
from tuning.table.trial import LOST, Trial, TrialState, TrialTable

CODES = {"KILL": -9, "TERM": 143, "INT": 130, "HUP": 129}
NOT_BEGUN = "not begun"
"""State of a trial that had not started when the time budget ended."""

ENDED_WITHIN_S, GONE_WITHIN_S = 5.0, 10.0
"""Time limits of a driver that is asked to end, and of a dead driver's processes [s]."""


class Verdict(NamedTuple):
    """One thing that was expected, and what was seen."""

    what: str
    expected: str
    seen: str
    is_ok: bool


class Outcome(NamedTuple):
    """A fault of a trial, and how that trial ended."""

    fault: TrialFault
    num_struck: int
    expected: str
    state: str
    reason: str
    is_ok: bool


def outcomes(faults: FaultList, storage: Path, rows: Sequence[Trial]) -> list[Outcome]:
    """How each trial with a listed fault ended.

    Args:
        faults: Listed faults.
        storage: Folder with the records of what happened.
        rows: Rows of the table.
    """
    row_of = {row.number: row for row in rows}
    told = _events(storage)
    killed = Counter(event["trial"] for event in told if event["what"] == "kill")
    found = []
    for fault in faults.trials:
        marks = len(list((storage / STRUCK).glob(f"t{fault.trial:04d}.*")))
        struck = killed[fault.trial] if fault.kind == KILLED else marks
        expected, words = fault.expected if struck else (FINE, "")
        row = row_of.get(fault.trial)
        if row is None and not struck:
            found.append(Outcome(fault, 0, NOT_BEGUN, NOT_BEGUN, "", True))
            continue
        state, reason = (row.state.value, row.reason) if row else ("no row", "")
        is_ok = state in expected.split(" or ") and words in reason
        found.append(Outcome(fault, struck, expected, state, reason, is_ok))
    return found


def verdicts(faults: FaultList, storage: Path, folder: Path) -> list[Verdict]:
    """Checks of the whole sweep.

    Args:
        faults: Listed faults.
        storage: Folder with the records of what happened.
        folder: Folder of the sweep.
    """
    plan = SweepPlan.from_json((folder / "config.json").read_text())
    table = TrialTable(folder / "trials.jsonl", plan.sweep_id)
    events = _events(storage)
    told = outcomes(faults, storage, table.rows)
    return [
        *_ends(events, table.rows),
        *_stops(events),
        *_acknowledged(events, folder / "trials.jsonl"),
        *_rows(faults, storage, table.rows),
        _count("faults whose trial ended as expected", len(told), sum(each.is_ok for each in told)),
        _others(faults, table.rows),
        _csv(folder, table),
        _journal(folder, plan, table.rows),
        _report(folder, table.rows),
        _doctor(folder, events),
        _count("files half written", 0, len(list(folder.rglob("*.part")))),
    ]


def _ends(events: Sequence[Mapping[str, Any]], rows: Sequence[Trial]) -> Iterator[Verdict]:
    ends = [event for event in events if event["what"] == "end"]
    code = ends[-1]["code"] if ends else None
    expected = 3 if any(row.state in LOST for row in rows) else 0
    yield _count("the sweep ended with the exit code", expected, code)
    left = ends[-1]["left"] if ends else []
    yield _none("processes left after its end", left)


def _stops(events: Sequence[Mapping[str, Any]]) -> Iterator[Verdict]:
    stops = [event for event in events if event["what"] == "stop"]
    for name, code in CODES.items():
        own = [event for event in stops if event["signal"] == name]
        if not own:
            continue
        fitting = sum(event["code"] == code for event in own)
        yield _count(f"drivers ended by SIG{name} with code {code}", len(own), fitting)
        if name != "KILL":
            slowest = max(event["seconds"] for event in own)
            yield _at_most(f"slowest end after SIG{name} [s]", ENDED_WITHIN_S, slowest)
        slowest = max(event["gone_s"] for event in own)
        yield _at_most(f"slowest end of its processes after SIG{name} [s]", GONE_WITHIN_S, slowest)
    left = [name for event in stops for name in event["left"]]
    yield _none(f"processes of dead drivers that had to be ended after {WAITED_S:g} s", left)


def _acknowledged(events: Sequence[Mapping[str, Any]], path: Path) -> Iterator[Verdict]:
    stops = [event for event in events if event["what"] == "stop"]
    content = path.read_bytes()
    kept = [
        hashlib.sha256(content[: event["acknowledged_bytes"]]).hexdigest()
        == event["acknowledged_sha256"]
        for event in stops
    ]
    what = "ends of the driver after which all rows seen before are there, byte for byte"
    yield _count(what, len(stops), sum(kept))


def _rows(faults: FaultList, storage: Path, rows: Sequence[Trial]) -> Iterator[Verdict]:
    yield _count("rows", faults.num_trials, len(rows))
    numbers = sorted(row.number for row in rows)
    in_line = set(numbers).intersection(range(len(rows)))
    yield _count("numbers of rows, each once and without a gap", len(rows), len(in_line))
    log = (storage / "driver.log").read_text(errors="replace")
    started = {int(name) for name in re.findall(r"^t(\d+) started", log, re.MULTILINE)}
    yield _count("started trials without a row", 0, len(started - set(numbers)))
    unable = {fault.trial for fault in faults.trials if fault.kind == SETUP}
    yield _count(
        "rows of trials that neither started nor failed before",
        0,
        len(set(numbers) - started - unable),
    )
    tracebacks = log.count("Traceback (most recent call last)")
    yield _count("tracebacks in what the drivers said", 0, tracebacks)


def _others(faults: FaultList, rows: Sequence[Trial]) -> Verdict:
    """Verdict on the trials without a listed fault."""
    faulty = {fault.trial for fault in faults.trials}
    others = [row for row in rows if row.number not in faulty]
    fine = sum(row.state in (TrialState.COMPLETE, TrialState.PRUNED) for row in others)
    return _count("trials without a fault that are COMPLETE or PRUNED", len(others), fine)


def _csv(folder: Path, table: TrialTable) -> Verdict:
    again = folder / "again.csv"
    table.write_csv(again)
    is_equal = again.read_bytes() == (folder / "trials.csv").read_bytes()
    again.unlink()
    return _is("trials.csv holds what trials.jsonl does", is_equal)


def _journal(folder: Path, plan: SweepPlan, rows: Sequence[Trial]) -> Verdict:
    storage = open_storage(folder / "optuna.journal")
    differing = []
    for this in RoundLog(folder / "rounds.jsonl", plan.base(), plan.sweep_id).rounds:
        study = open_study(storage, f"{plan.sweep_id}-r{this.number}", this.space, resume=True)
        last = {trial.user_attrs.get(ROW): trial for trial in own_trials(study)}
        differing += [
            row.trial_id
            for row in rows
            if row.round == this.number and not _agrees(row, last.get(row.trial_id))
        ]
    return _none("rows with another state, value or point in the journal", differing)


def _agrees(row: Trial, trial: Any) -> bool:
    """Whether the journal agrees with a trial's row; points outside the space are FAIL there."""
    if trial is None:
        return False
    if OUTSIDE in trial.user_attrs:
        return bool(trial.state.name == "FAIL" and trial.user_attrs[PLANNED] == row.knobs)
    state = "FAIL" if row.score is None else row.state.value
    value = row.score if state == "COMPLETE" else trial.value
    return bool((trial.state.name, trial.value, trial.params) == (state, value, row.knobs))


def _report(folder: Path, rows: Sequence[Trial]) -> Verdict:
    page = (folder / "report.html").read_text()
    cells = re.findall(r'<tr[^>]*><th scope="row">(t\d+)</th><td>(\w+)</td><td>(.*?)</td>', page)
    expected = [
        (row.trial_id, row.state.value, unescape(number(row.score)))
        for row in sorted(rows, key=lambda row: row.number)
    ]
    found = [(name, state, unescape(score)) for name, state, score in cells]
    return _is("report.html shows every row with its state and score", found == expected)


def _doctor(folder: Path, events: Sequence[Mapping[str, Any]]) -> Verdict:
    """Whether ``doctor`` names the checkpoints that were damaged, and nothing else."""
    found = {trouble.where: trouble for trouble in examine(folder)}
    named = {match[1] for where in found if (match := re.match(r"checkpoint of (t\d+)", where))}
    words = " ".join(word for event in events for word in event.get("damages", ()))
    damaged = set(re.findall(r"checkpoint of (t\d+)", words))
    others = [where for where in found if not where.startswith("checkpoint of ")]
    return Verdict(
        "what `doctor` names as damaged",
        f"checkpoints of {_names(damaged)}",
        f"checkpoints of {_names(named)}" + "".join(f"; {where}" for where in others),
        named == damaged and not others,
    )


def _names(names: set[str]) -> str:
    return " ".join(sorted(names)) or "none"


def _events(storage: Path) -> list[dict[str, Any]]:
    return [json_object(line, "an event") for line in recover_lines(storage / "events.jsonl")]


def _count(what: str, expected: int, seen: int | None) -> Verdict:
    return Verdict(what, str(expected), str(seen), seen == expected)


def _none(what: str, seen: Sequence[str]) -> Verdict:
    named = f" ({', '.join(seen)})" if seen else ""
    return Verdict(what, "0", f"{len(seen)}{named}", not seen)


def _at_most(what: str, expected: float, seen: float) -> Verdict:
    return Verdict(what, f"at most {expected:g}", f"{seen:g}", seen <= expected)


def _is(what: str, seen: bool) -> Verdict:
    return Verdict(what, "yes", "yes" if seen else "no", seen)
