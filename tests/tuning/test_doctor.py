"""What the doctor finds in the folder of a sweep, and that mending keeps every good record."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.files import replace_file
from ssmrl.run import checkpoint_path
from ssmrl_command.app import app as ssmrl_app
from tuning.doctor import app
from tuning.engine import Sweep
from tuning.folder.interruption import exclusive
from tuning.plan import SweepPlan
from tuning.rounds import next_round
from tuning.table.record import sealed_loss
from tuning.table.trial import Trial, TrialState, TrialTable


def saved(folder: Path, row: Trial) -> Path:
    config = TrainConfig.of_knobs(row.config)
    path = checkpoint_path(folder / "checkpoints", config)
    Checkpoint(config, {"x": torch.ones(3)}, {}).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a sweep with three trials, as it leaves it."""
    folder = tmp_path / "a"
    folder.mkdir()
    plan = SweepPlan("point", algorithm="promp").begun()
    replace_file(folder / "config.json", plan.to_json())
    sweep = Sweep(plan, folder, say=lambda line: None)
    this = sweep.begin_round(next_round)
    assert this is not None
    search = sweep.searcher(this)
    for number, name in enumerate("abc"):
        point = search.suggest(name)
        search.on_trial_complete(name, {"score": 1.0, "finished": True})
        knobs = plan.base().with_knobs({**point, "seed": number}).knobs()
        row = Trial(
            f"t{number:04d}",
            number,
            TrialState.COMPLETE,
            float(number),
            point,
            knobs,
            seeds=(number,),
            seed_scores=(float(number),),
        )
        sweep.table.append(row)
        saved(folder, row)
    sweep.table.write_csv(folder / "trials.csv")
    return folder


def look(folder: Path, *flags: str) -> Result:
    return CliRunner().invoke(app, [str(folder), *flags])


def test_a_sound_sweep_is_said_to_be_and_not_changed(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = look(folder)
    assert result.exit_code == 0, result.output
    assert "3 trials" in result.output
    assert "1,000 such trials take" in result.output
    assert "all is sound" in result.output
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    after.pop(folder / ".lock", None)
    assert after == before
    assert CliRunner().invoke(ssmrl_app, ["doctor", str(folder)]).output == result.output


def lines(folder: Path) -> list[bytes]:
    return (folder / "trials.jsonl").read_bytes().splitlines(keepends=True)


def flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


DAMAGES: dict[str, tuple[Callable[[list[bytes]], bytes], str]] = {
    "doubled": (
        lambda rows: b"".join([*rows, rows[1]]),
        "line 4: it is record 2 once more",
    ),
    "torn": (lambda rows: b"".join(rows)[:-40], "line 3: "),
    "swapped": (lambda rows: rows[1] + rows[0] + rows[2], "line 1: it is record 2, but record 1"),
    "taken out": (lambda rows: rows[0] + rows[2], "line 2: it is record 3, but 2 should"),
    "deep": (lambda rows: b"".join([rows[0], b"[" * 10_000 + b"\n", *rows[1:]]), "line 2: "),
    "no text": (lambda rows: b"".join([rows[0], b"\xff\xfe\n", *rows[1:]]), "line 2: "),
    "emptied": (lambda rows: b"".join([rows[0], b"\n", rows[2]]), "line 2: "),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_rows_are_named_and_set_aside_and_the_good_ones_stay(
    how: str, folder: Path
) -> None:
    damage, said = DAMAGES[how]
    path, rows = folder / "trials.jsonl", lines(folder)
    path.write_bytes(damage(rows))
    damaged = path.read_bytes()
    result = look(folder)
    assert (result.exit_code, said in result.output) == (3, True), result.output
    assert path.read_bytes() == damaged, "looking changes nothing"
    result = look(folder, "--repair")
    assert "repaired: " in result.output
    assert path.with_name("trials.jsonl.damaged-1").read_bytes() == damaged
    kept = path.read_bytes().splitlines(keepends=True)
    lost = f"{sealed_loss(json.loads(rows[0])['sweep'], 2)}\n".encode()
    without = [rows[0], lost, rows[2]]
    good = {"emptied": without, "taken out": without, "torn": rows[:2]}
    assert kept == good.get(how, rows)
    names = [row.trial_id for row in TrialTable(path).rows]
    assert names == [json.loads(line)["trial_id"] for line in kept if line != lost]
    assert all(name in (folder / "trials.csv").read_text() for name in names)
    assert "trials.jsonl, line" not in look(folder).output


def test_a_row_that_is_gone_is_named(folder: Path) -> None:
    rows = lines(folder)
    (folder / "trials.jsonl").write_bytes(rows[0] + rows[2])
    result = look(folder)
    assert (result.exit_code, "there is no row for trial 1" in result.output) == (3, True)


def test_a_damaged_journal_is_set_aside(folder: Path) -> None:
    path = folder / "optuna.journal"
    path.write_bytes(path.read_bytes().replace(b"{", b"", 1))
    result = look(folder)
    assert (result.exit_code, "optuna.journal: " in result.output) == (3, True)
    assert look(folder, "--repair").exit_code == 0
    assert not path.exists()
    assert look(folder).exit_code == 0


def test_checkpoints_that_are_gone_or_damaged_are_named_with_their_trial(folder: Path) -> None:
    rows = TrialTable(folder / "trials.jsonl").rows
    saved(folder, rows[0]).unlink()
    path = saved(folder, rows[1])
    path.write_bytes(flipped(path.read_bytes(), path.stat().st_size - 3, 2))
    result = look(folder)
    assert result.exit_code == 3
    assert "checkpoint of t0000, seed 0: there is no checkpoint" in result.output
    assert "checkpoint of t0001, seed 1: " in result.output
    assert "its row stays" in result.output


def test_records_of_rounds_and_configuration_are_looked_at_too(folder: Path) -> None:
    path = folder / "rounds.jsonl"
    path.write_bytes(flipped(path.read_bytes(), 60, 1))
    (folder / "config.json").write_text("{")
    (folder / "checkpoints" / ".a.1.part").write_text("half")
    result = look(folder)
    assert result.exit_code == 3
    for said in ("rounds.jsonl, line 1: ", "config.json: cannot be read", ".a.1.part: was left"):
        assert said in result.output


def test_a_sweep_at_work_is_left_alone_and_its_owner_named(folder: Path) -> None:
    with exclusive(folder):
        result = look(folder, "--repair")
    assert result.exit_code == 2
    assert "another process is working on the sweep" in result.stderr
    assert look(folder / "b").exit_code == 2


def test_a_folder_that_is_no_sweep_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    result = look(tmp_path)
    assert (result.exit_code, result.stderr) == (2, f"error: there is no sweep in {tmp_path}\n")
    assert not list(tmp_path.iterdir())


def test_what_was_set_aside_before_stays(folder: Path) -> None:
    path = folder / "trials.jsonl"
    for number in (1, 2):
        path.write_bytes(path.read_bytes() + b"damage %d\n" % number)
        assert look(folder, "--repair").exit_code == 0
    for number in (1, 2):
        kept = path.with_name(f"trials.jsonl.damaged-{number}").read_bytes()
        assert kept.endswith(b"damage %d\n" % number)
