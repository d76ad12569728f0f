"""The command: its numbers are those of the files, and it leaves the files alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ssmrl.config import TrainConfig
from tuning.analysis import analyse
from tuning.analyze import app
from tuning.plan import SweepPlan
from tuning.spaces.ranges import Float
from tuning.spaces.space import SearchSpace
from tuning.table.move import Move
from tuning.table.round_log import Round, RoundLog
from tuning.table.trial import Trial, TrialState

PLAN = SweepPlan(task="point", algorithm="promp")
LR = "meta.inner_lr"


def trials(count: int) -> list[Trial]:
    default = PLAN.space().default_point()
    rows = []
    for number in range(count):
        is_bad = number % 5 == 4
        rows.append(
            Trial(
                trial_id=f"t{number:04d}",
                number=number,
                state=TrialState.DIVERGED if is_bad else TrialState.COMPLETE,
                score=None if is_bad else -abs(number - 6) / 3.0,
                knobs=default
                | {LR: 0.01 * 1.3**number, "policy.hidden_dim": 16 + 16 * (number % 3)},
                env_steps=1000,
                seconds=2.0,
                interval=None if is_bad else (-9.0, 1.0),
                reason="[red]\x1b[31mnot finite[/red]" if is_bad else "",
            )
        )
    return rows


def sweep(folder: Path, count: int = 15) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(PLAN.to_json())
    lines = [row.to_json() + "\n" for row in trials(count)]
    (folder / "trials.jsonl").write_text("".join(lines))
    return folder


def moved_sweep(folder: Path) -> tuple[Path, SearchSpace]:
    sweep(folder)
    first = PLAN.space()
    old = first.ranges[LR]
    new = Float(0.01, 3.0, log=True)
    second = first.replace_ranges({LR: new})
    why = "3 of 5 at the [high] edge\x1b]0;title\x07"
    log = RoundLog(folder / "rounds.jsonl", PLAN.base())
    log.append(Round(1, "default", first, (), 8))
    moves = (Move(LR, old, new, "expand", why, ("t0006", "t0007")),)
    log.append(Round(2, "trust box", second, moves, 7))
    return folder, second


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_json_is_the_analysis_of_the_files(tmp_path: Path) -> None:
    folder, second = moved_sweep(tmp_path)
    before = contents(folder)
    result = run(folder, "--json", "--seed", 3)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    data = json.loads(result.stdout)
    expected = analyse(trials(15), second, seed=3)
    for name, value in json.loads(json.dumps(expected.to_dict())).items():
        assert data[name] == value, name
    assert data["best"]["trial_ids"] == ["t0006"]
    assert data["num_trials"] == 15
    assert [this["round"] for this in data["rounds"]] == [1, 2]
    assert data["rounds"][1]["author"] == "trust box"
    assert data["rounds"][1]["space"] == json.loads(second.to_json())
    assert data["rounds"][1]["moves"][0]["trial_ids"] == ["t0006", "t0007"]
    assert contents(folder) == before


def test_tables_say_the_same(tmp_path: Path) -> None:
    folder, second = moved_sweep(tmp_path)
    result = run(folder)
    assert result.exit_code == 0, result.output
    expected = analyse(trials(15), second, seed=0)
    text = result.stdout
    assert "15 trials, 12 configurations complete" in text
    first = expected.importance[0]
    assert first.share is not None
    importance = text[text.index("Importance") : text.index("The best at the edge")]
    line = next(line for line in importance.splitlines() if first.knob in line)
    assert f"│ {first.share:.2f} " in line
    assert "DIVERGED │ 3" in text
    assert "A complete trial takes 2.0 s" in text
    assert "2.5 s per complete trial" in text
    assert "0.01 to 1" in text
    assert "0.01 to 3" in text
    assert "[high] edge" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_a_sweep_of_one_round(tmp_path: Path) -> None:
    result = run(sweep(tmp_path, count=4))
    assert result.exit_code == 0
    assert "too few trials: 4 complete configurations, but it takes 10" in result.stdout
    assert "Failures: none." in result.stdout
    assert "there was one round" in result.stdout
    data = json.loads(run(tmp_path, "--json").stdout)
    assert data["rounds"] == []
    assert all(entry["share"] is None for entry in data["importance"])


def test_no_complete_trial(tmp_path: Path) -> None:
    sweep(tmp_path)
    (tmp_path / "trials.jsonl").write_text(trials(5)[4].to_json() + "\n")
    result = run(tmp_path)
    assert result.exit_code == 0
    assert "no trial completed" in result.stdout
    assert json.loads(run(tmp_path, "--json").stdout)["best"] is None


def test_a_line_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    folder, _ = moved_sweep(tmp_path)
    for name in ("trials.jsonl", "rounds.jsonl"):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-10])
    before = contents(folder)
    result = run(folder, "--json")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert (data["num_trials"], len(data["rounds"])) == (14, 1)
    assert result.stderr.count("warning: ") == 2
    assert contents(folder) == before


def damage(folder: Path, name: str, data: bytes | None) -> None:
    path = folder / name
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data + path.read_bytes())


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("config.json", None, "no sweep"),
        ("config.json", b"\xff", "config.json cannot be read"),
        ("config.json", b"[]\n", "config.json cannot be read"),
        ("config.json", b"{}" + b" " * 9 + b"\n#", "config.json cannot be read"),
        ("trials.jsonl", None, "no trials yet"),
        ("trials.jsonl", b"\xff\xfe\n", "line 1 of"),
        ("trials.jsonl", b'{"trial_id": NaN}\n', "line 1 of"),
        ("trials.jsonl", b"[]\n", "line 1 of"),
        ("trials.jsonl", trials(1)[0].to_json().encode() + b"\n", "line 2 of"),
        ("rounds.jsonl", b"\x1b[31m\n", "line 1 of"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, name: str, data: bytes | None, complaint: str
) -> None:
    folder, _ = moved_sweep(tmp_path)
    damage(folder, name, data)
    before = contents(folder)
    result = run(folder, "--json")
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr
    assert contents(folder) == before


def test_config_without_a_space_is_refused(tmp_path: Path) -> None:
    sweep(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"format": 2, "base": TrainConfig(algorithm="promp").knobs()})
    )
    result = run(tmp_path)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "config.json cannot be read: space" in result.stderr


def test_the_command_starts_without_ray(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tuning.analyze", str(missing)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    *imports, message = done.stderr.splitlines()
    assert message == f"error: there is no folder {missing}"
    loaded = {line.split("|")[-1].strip() for line in imports}
    assert "tuning.analysis" in loaded
    assert not loaded & {"ray", "matplotlib", "crewai"}
