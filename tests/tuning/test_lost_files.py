"""What a finished sweep does about each of its files that is cut, zeroed or deleted."""

import dataclasses
import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from experiments.faults.damage import damage
from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.files import replace_file
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.run import checkpoint_path
from tuning import conclusion
from tuning.analyze import app as analyze_app
from tuning.doctor import app as doctor_app
from tuning.ending import LostError
from tuning.engine import Sweep
from tuning.fresh_returns import FreshReturns, saved_run
from tuning.kept_plan import CONFIG, kept_plan
from tuning.plan import SweepPlan
from tuning.rounds import next_round
from tuning.sweep import app
from tuning.table.record import sealed
from tuning.table.trial import Trial, TrialState, TrialTable

PLAN = SweepPlan(
    "point",
    algorithm="promp",
    num_samples=7,
    rounds=2,
    num_confirmed=1,
    num_fresh_seeds=1,
    scheduler="none",
)
DAMAGES: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut at once": lambda path: path.write_bytes(path.read_bytes()[:9]),
}
damaged = pytest.mark.parametrize("how", DAMAGES)


def judged(
    folder: Path, trials: Sequence[Trial], *, with_switched_off: bool = False
) -> FreshReturns:
    """In place of playing."""
    return FreshReturns(tuple(row.score or 0.0 for row in trials), ())


def blank_report(path: Path, **_: Any) -> None:
    """In place of figures, which take seconds."""
    path.write_text("<html></html>\n")


def save(folder: Path, row: Trial) -> None:
    config = TrainConfig.of_knobs(row.config)
    learner = ALGORITHMS[config.algorithm].learner_type()(config)
    Checkpoint(config, learner.tensors(), {}).save(checkpoint_path(folder / "checkpoints", config))


def work(sweep: Sweep, plan: SweepPlan, folder: Path) -> None:
    """All rounds, with made-up scores, as far as the files know of them."""
    while (this := sweep.begin_round(next_round)) is not None:
        search = sweep.searcher(this)
        for _ in range(this.num_trials):
            number = len(sweep.table.rows)
            point = search.suggest(name := f"n{number}")
            search.on_trial_complete(name, {"score": 1.0, "finished": True})
            seed = int(point.pop("seed", plan.seed))
            row = Trial(
                f"t{number:04d}",
                number,
                TrialState.COMPLETE,
                float(number % 4),
                point,
                plan.base().with_knobs({**point, "seed": seed}).knobs(),
                round=this.number,
                seeds=(seed,),
                seed_scores=(float(number % 4),),
            )
            sweep.table.append(row)
            save(folder, row)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("storage") / "a"
    folder.mkdir()
    plan = PLAN.begun()
    replace_file(folder / CONFIG, plan.to_json())
    work(Sweep(plan, folder, say=lambda line: None), plan, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conclusion, "fresh_returns", judged)
        patch.setattr(conclusion, "write_report", blank_report)
        assert resume(folder).exit_code == 0
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a sweep that is finished, and a copy of nobody else's."""
    monkeypatch.setattr(conclusion, "fresh_returns", judged)
    monkeypatch.setattr(conclusion, "write_report", blank_report)
    return Path(shutil.copytree(finished, tmp_path / "a"))


def resume(folder: Path) -> Result:
    """Neither Ray nor training is needed where nothing is left to do."""
    place = ["--storage", str(folder.parent), "--name", folder.name, "--resume"]
    with warnings.catch_warnings():  # of what is torn
        warnings.simplefilter("ignore")
        return CliRunner().invoke(app, ["--task", "point", *place])


def look(folder: Path, *flags: str) -> Result:
    return CliRunner().invoke(doctor_app, [str(folder), *flags])


def plan_of(folder: Path) -> SweepPlan:
    return SweepPlan.from_json((folder / CONFIG).read_text())


def contents(folder: Path) -> dict[str, bytes]:
    names = ("trials.jsonl", "rounds.jsonl", "trials.csv", "best/trial.json")
    return {name: (folder / name).read_bytes() for name in names}


@damaged
def test_a_plan_that_is_lost_is_that_of_its_copy(how: str, folder: Path) -> None:
    plan, said = plan_of(folder), []
    DAMAGES[how](folder / CONFIG)
    found = kept_plan(PLAN, folder, resume=True, say=said.append)
    assert found == dataclasses.replace(plan, max_concurrent=1)
    why = "is gone" if how == "deleted" else "is damaged"
    assert said == [f"{folder / CONFIG} {why}; it is restored from the plan in rounds.jsonl"]


def test_whoever_goes_on_makes_a_plan_that_is_lost_anew(folder: Path) -> None:
    before, plan = contents(folder), plan_of(folder)
    DAMAGES["cut"](folder / CONFIG)
    result = resume(folder)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("it is restored from the plan in rounds.jsonl\n") == 1
    assert plan_of(folder) == plan
    assert contents(folder) == before
    assert resume(folder).stderr == ""


@pytest.mark.parametrize("how", ["deleted", "zeroed"])
def test_a_plan_that_is_lost_is_made_anew_of_its_copy_by_the_doctor(how: str, folder: Path) -> None:
    before = plan_of(folder)
    DAMAGES[how](folder / CONFIG)
    left = (folder / CONFIG).read_bytes() if how != "deleted" else None
    result = look(folder)
    assert (result.exit_code, "config.json: " in result.output) == (3, True), result.output
    assert "`--repair` restores it from the copy in rounds.jsonl" in result.output
    result = look(folder, "--repair")
    assert (result.exit_code, "repaired: " in result.output) == (0, True), result.output
    assert plan_of(folder) == dataclasses.replace(before, max_concurrent=1)
    aside = folder / "config.json.damaged-1"
    assert (aside.read_bytes() if aside.exists() else None) == left
    assert look(folder).exit_code == 0


def test_a_plan_that_is_not_as_it_was_is_named(folder: Path) -> None:
    path = folder / CONFIG
    path.write_text(path.read_text().replace('"num_samples": 7', '"num_samples": 6'))
    result = look(folder)
    assert result.exit_code == 3
    assert "config.json: changed since the start: `num_samples` is 6, and was 7" in result.output


@pytest.mark.parametrize(
    ("how", "copy"), [("deleted", "lost"), ("cut", "lost"), ("zeroed", "never made")]
)
def test_a_plan_without_a_copy_is_exit_code_3_with_its_name(
    copy: str, how: str, folder: Path
) -> None:
    log = folder / "rounds.jsonl"
    if copy == "lost":
        log.unlink()
    else:  # by an older version, which wrote no places either
        old = []
        for line in log.read_bytes().splitlines()[1:]:
            record = json.loads(line)
            content = {n: record[n] for n in record if n not in ("sweep", "place", "checksum")}
            old.append(sealed(content, record["sweep"]) + "\n")
        log.write_text("".join(old))
        assert Sweep(plan_of(folder), folder, say=print).is_finished(), "it is read as before"
    DAMAGES[how](folder / CONFIG)
    left = sorted(path.name for path in folder.iterdir())
    result = resume(folder)
    assert result.exit_code == 3, result.output
    assert len(result.stderr.splitlines()) == 1
    assert str(folder / CONFIG) in result.stderr
    assert "start a new sweep" not in result.stderr
    assert "rounds.jsonl holds no copy of the plan; restore the file" in look(folder).output
    assert {path.name for path in folder.iterdir()} - {".lock"} == set(left) - {".lock"}


def test_a_folder_that_has_lost_its_plan_is_not_taken_for_an_empty_one(folder: Path) -> None:
    (folder / CONFIG).unlink()
    with pytest.raises(ValueError, match=r"there is a sweep in .* already; resume it"):
        kept_plan(PLAN, folder, resume=False)


@pytest.mark.parametrize(
    ("how", "journal"),
    [("deleted", "kept"), ("zeroed", "gone"), ("emptied", "kept"), ("cut", "gone")],
)
def test_rounds_that_are_lost_are_decided_again(journal: str, how: str, folder: Path) -> None:
    before, plan = contents(folder), dataclasses.replace(plan_of(folder), max_concurrent=1)
    path, said = folder / "rounds.jsonl", []
    rounds = Sweep(plan, folder, say=said.append).rounds
    assert ([this.number for this in rounds], said) == ([0, 1, 2, 3], [])
    DAMAGES[how](path)
    if journal == "gone":
        (folder / "optuna.journal").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = Sweep(plan, folder, say=said.append)
    assert again.rounds == rounds
    assert again.is_finished()
    assert len(said) == 1
    assert f"{path} lacked round " in said[0]
    assert contents(folder) == before, "with the copy of the plan"
    assert look(folder).exit_code == 0
    Sweep(plan, folder, say=said.append)
    assert len(said) == 1


def test_a_damaged_round_is_named_set_aside_and_decided_again(folder: Path) -> None:
    before, path, plan = contents(folder), folder / "rounds.jsonl", plan_of(folder)
    for number in (0, 1, len(before["rounds.jsonl"].splitlines()) - 1):
        lines = before["rounds.jsonl"].splitlines(keepends=True)
        lines[number] = lines[number].replace(b":", b";", 1)
        path.write_bytes(b"".join(lines))
        with pytest.raises(
            LostError, match=f"^line {number + 1} of .*rounds.jsonl must be"
        ) as told:
            Sweep(plan, folder, say=print)
        assert f"`ssmrl doctor {folder} --repair` keeps every good record" in str(told.value)
        assert look(folder, "--repair").exit_code == 0
        assert Sweep(plan, folder, say=print).is_finished()
    assert resume(folder).exit_code == 0


def test_a_damaged_row_is_exit_code_3_with_the_way_on(folder: Path) -> None:
    path = folder / "trials.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    result = resume(folder)
    assert result.exit_code == 3
    assert f"line 3 of {path} is record 4, but 3 should come before it" in result.stderr
    assert f"`ssmrl doctor {folder} --repair` keeps every good record" in result.stderr


def test_the_space_of_a_lost_round_is_that_of_its_study(folder: Path) -> None:
    """Also where this version would move the box in another way."""
    plan = plan_of(folder)
    rounds = Sweep(plan, folder, say=print).rounds
    (folder / "rounds.jsonl").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tuning.kept_rounds.next_round", _elsewhere)
        again = Sweep(plan, folder, say=lambda line: None).rounds
    assert [this.space for this in again] == [this.space for this in rounds]
    assert [this.num_trials for this in again] == [this.num_trials for this in rounds]


def _elsewhere(plan: SweepPlan, earlier: Any, rows: Any) -> Any:
    this = next_round(plan, earlier, rows)
    if this is None or this.number == 0:
        return this
    knob = next(iter(this.space.ranges))
    space = this.space.replace_ranges({knob: plan.limits().ranges[knob]})
    return dataclasses.replace(this, space=space)


def test_rounds_that_nobody_can_decide_again_are_exit_code_3(folder: Path) -> None:
    plan = plan_of(folder)
    (folder / "rounds.jsonl").unlink()
    with pytest.raises(LostError, match=r"rounds\.jsonl lacks round 0, .*restore the file"):
        Sweep(plan, folder, say=print, restore=lambda plan, rounds, rows: None)


@pytest.mark.parametrize("how", ["deleted", "cut"])
def test_table_report_and_best_are_made_anew(how: str, folder: Path) -> None:
    before = contents(folder)
    lost = ("trials.csv", "report.html", "best/trial.json", "best/checkpoint.safetensors")
    for name in lost:
        DAMAGES[how](folder / name)
    found = look(folder).output
    assert all(f"{name}: " in found for name in lost)
    result = resume(folder)
    assert result.exit_code == 0, result.output
    assert contents(folder) == before
    assert "</html>" in (folder / "report.html").read_text()
    saved = Checkpoint.load(folder / "best" / "checkpoint.safetensors")
    assert saved.config.algorithm == "promp"
    assert look(folder).exit_code == 0
    shutil.rmtree(folder / "best")
    assert "best/trial.json: is not there" in look(folder).output
    assert resume(folder).exit_code == 0
    assert contents(folder) == before


def test_what_is_only_read_says_what_is_lost(folder: Path) -> None:
    (folder / CONFIG).unlink()
    result = CliRunner().invoke(analyze_app, [str(folder)])
    assert result.exit_code == 2
    assert "config.json" in result.stderr


@pytest.mark.parametrize("how", ["deleted", "cut", "flipped"])
@pytest.mark.parametrize("whose", ["best", "default"])
def test_a_checkpoint_that_the_verdict_needs_is_named_and_all_else_is_made(
    whose: str, how: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a driver that is killed before it concludes; the default's fresh seed is played."""
    monkeypatch.setattr(conclusion, "fresh_returns", loaded)
    rows = TrialTable(folder / "trials.jsonl").rows
    default = plan_of(folder).space().default_point()
    best = Trial.from_json((folder / "best" / "trial.json").read_text())
    of = best if whose == "best" else next(row for row in rows[1:] if row.knobs == default)
    assert best.knobs != default
    path = checkpoint_path(folder / "checkpoints", TrainConfig.of_knobs(of.config))
    content = path.read_bytes()
    for name in ("trials.csv", "report.html"):
        (folder / name).unlink()
    shutil.rmtree(folder / "best")
    if how == "flipped":
        damage(path, how, np.random.default_rng(0))
    else:
        DAMAGES[how](path)
    result = resume(folder)
    assert result.exit_code == 3, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {of.trial_id} cannot be evaluated any more, so there is no ")
    assert str(path) in line
    assert (folder / "trials.csv").exists()
    assert (folder / "report.html").exists()
    assert (folder / "best").exists() is (whose == "default")
    assert f"checkpoint of {of.trial_id}, seed " in look(folder).output
    path.write_bytes(content)
    assert resume(folder).exit_code == 0
    assert (folder / "best" / "checkpoint.safetensors").exists()


def loaded(
    folder: Path, trials: Sequence[Trial], *, with_switched_off: bool = False
) -> FreshReturns:
    """What would be played is loaded; then as ``judged``."""
    for row in trials:
        for seed in row.seeds:
            saved_run(folder, row, seed)
    return judged(folder, trials, with_switched_off=with_switched_off)
