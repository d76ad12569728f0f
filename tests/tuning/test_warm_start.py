"""Sweeps that begin with the rows of an earlier one: what is taken, learnt and kept of them."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ssmrl.files import replace_file
from tests.tuning.tiny_gradient import write_space
from tuning.doctor import app as doctor_app
from tuning.engine import DamagedError, Sweep
from tuning.kept_plan import CONFIG
from tuning.plan import SweepPlan
from tuning.rounds import next_round, winner
from tuning.spaces.ranges import Float
from tuning.spaces.space import SearchSpace
from tuning.spaces.space_file import SpaceFile
from tuning.sweep import app
from tuning.table.record_files import WARM_ROWS
from tuning.table.trial import Trial, TrialState, TrialTable
from tuning.warm_start import WarmStart

LR = "meta.inner_lr"
PLAN = SweepPlan(
    "point",
    algorithm="promp",
    num_samples=10,
    rounds=2,
    num_confirmed=1,
    num_fresh_seeds=0,
    scheduler="none",
)
NEW = dataclasses.replace(PLAN, seed=5)


def score(point: dict[str, Any]) -> float:
    """Best at a large step; a function of the point, so that a table says the same again."""
    return -abs(math.log10(float(point[LR])) + 0.1) - int(point["policy.hidden_dim"]) / 1e3


def play(sweep: Sweep, plan: SweepPlan, num_trials: int = 1000) -> None:
    """At most so many trials, with made-up scores."""
    made = 0
    while made < num_trials and (this := sweep.begin_round(next_round)) is not None:
        search = sweep.searcher(this)
        while made < num_trials and not sweep.is_complete(this):
            point = search.suggest(name := f"n{made}")
            number, seed = search.number(name), int(point.pop("seed", plan.seed))
            search.on_trial_complete(name, {"score": score(point), "finished": True})
            sweep.table.append(
                Trial(
                    f"t{number:04d}",
                    number,
                    TrialState.COMPLETE,
                    score(point),
                    point,
                    plan.base().with_knobs({**point, "seed": seed}).knobs(),
                    round=this.number,
                    judged_at=plan.max_env_steps,
                )
            )
            made += 1


def played(folder: Path, plan: SweepPlan) -> Path:
    folder.mkdir()
    plan = plan.begun()
    replace_file(folder / CONFIG, plan.to_json())
    play(Sweep(plan, folder, say=print), plan)
    return folder


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep to its end."""
    return played(tmp_path_factory.mktemp("storage") / "earlier", PLAN)


def begun(folder: Path, warm: WarmStart, plan: SweepPlan = NEW) -> SweepPlan:
    """A sweep that is written down, and has no trial yet."""
    folder.mkdir()
    plan = dataclasses.replace(
        plan,
        warm_start=str(warm.path),
        num_warm_rows=len(warm.rows),
        sweep_id="0123456789abcdef",
    )
    warm.keep(folder, plan.sweep_id)
    replace_file(folder / CONFIG, plan.to_json())
    return plan


def narrowed(low: float, high: float) -> SweepPlan:
    space = NEW.space().replace_ranges({LR: Float(low, high, log=True)})
    return dataclasses.replace(NEW, space_file=SpaceFile(space, NEW.limits()))


# ------------------------------------------------------------------------- what is taken


def test_all_rows_of_the_same_search_are_taken_from_the_folder_or_its_table(earlier: Path) -> None:
    warm = WarmStart.of(earlier, NEW)
    rows = TrialTable(earlier / "trials.jsonl").rows
    inside = [row for row in rows if NEW.space().contains(row.knobs)]
    assert [row.trial_id for row in warm.rows] == [f"warm-{row.trial_id}" for row in inside]
    assert [row.score for row in warm.rows] == [row.score for row in inside]
    assert warm.num_read == len(rows) == 10
    assert WarmStart.of(earlier / "trials.jsonl", NEW) == warm
    assert warm.line().startswith(f"warm start: {len(inside)} of 10 rows of {earlier}/trials.jsonl")


def test_rows_outside_of_the_space_are_left(earlier: Path) -> None:
    rows = TrialTable(earlier / "trials.jsonl").rows
    inside = [row.trial_id for row in rows if 0.05 <= float(row.knobs[LR]) <= 0.5]
    assert 0 < len(inside) < len(rows)
    warm = WarmStart.of(earlier, narrowed(0.05, 0.5))
    assert [row.trial_id for row in warm.rows] == [f"warm-{name}" for name in inside]


def test_a_knob_that_was_not_searched_there_has_the_value_that_training_received(
    tmp_path: Path,
) -> None:
    space = SearchSpace(
        {knob: a_range for knob, a_range in PLAN.space().ranges.items() if knob != "meta.outer_lr"},
        PLAN.base(),
    )
    fewer = dataclasses.replace(PLAN, space_file=SpaceFile(space, space))
    warm = WarmStart.of(played(tmp_path / "fewer", fewer), NEW)
    assert {row.knobs["meta.outer_lr"] for row in warm.rows} == {NEW.base().meta.outer_lr}
    assert all(NEW.space().contains(row.knobs) for row in warm.rows)


def test_what_was_lost_or_never_began_tells_nothing(earlier: Path, tmp_path: Path) -> None:
    first, *others = TrialTable(earlier / "trials.jsonl").rows
    gone: dict[str, Any] = {"score": None, "reason": "why", "judged_at": 0}
    rows = [
        dataclasses.replace(others[0], state=TrialState.FAILED, **gone),
        dataclasses.replace(others[1], state=TrialState.DIVERGED, **gone),
        dataclasses.replace(others[2], state=TrialState.PRUNED, reason="why", judged_at=7),
        dataclasses.replace(others[3], config={}),
        first,
    ]
    table = TrialTable(tmp_path / "trials.jsonl")
    for row in rows:
        table.append(row)
    states = [row.state for row in WarmStart.of(tmp_path, NEW).rows]
    assert states == [TrialState.DIVERGED, TrialState.PRUNED, TrialState.COMPLETE]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"task": "halfcheetah-vel"}, "`env.task` is 'point' for t0000 of .* and 'halfcheetah"),
        ({"algorithm": "e-maml"}, "`algorithm` is 'promp' for t0000 of .* and 'e-maml' here"),
        ({"settings": ("env.horizon=30",)}, "`env.horizon` is 20 for t0000 of .* and 30 here"),
        ({"settings": ("env.action_scale=2",)}, "`env.action_scale` is .* and 2.0 here"),
        ({"settings": ("evaluation.num_tasks=7",)}, "`evaluation.num_tasks` is .* and 7 here"),
        ({"settings": ("meta.num_inner_steps=2",)}, "`meta.num_inner_steps` is 1 .* and 2 here"),
        ({"max_env_steps": 5000}, "`max_env_steps` is 300000 for t0000 of .* and 5000 here"),
        ({"max_env_steps": 400_000}, "`max_env_steps` is 300000 for t0000 of .* and 400000 here"),
        ({"settings": ("meta.num_epochs=9",)}, "none of the 10 rows of .* is one"),
        ({"method": "gru"}, "none of the 10 rows of .* is one"),
    ],
)
def test_scores_that_do_not_compare_are_refused_with_what_differs(
    changes: dict[str, Any], told: str, earlier: Path
) -> None:
    with pytest.raises(ValueError, match=told):
        WarmStart.of(earlier, dataclasses.replace(NEW, **changes))


# ------------------------------------------------------------------------- what is learnt


def drawn(folder: Path, plan: SweepPlan, num: int = 3) -> list[dict[str, Any]]:
    """The first points after the default, each told its score."""
    sweep = Sweep(plan, folder, say=print)
    this = sweep.begin_round(next_round)
    assert this is not None
    search, points = sweep.searcher(this), []
    for name in map(str, range(num)):
        points.append(search.suggest(name))
        search.on_trial_complete(name, {"score": score(points[-1]), "finished": True})
    assert points[0] == plan.space().default_point()
    assert [search.number(str(number)) for number in range(num)] == list(range(num))
    return points[1:]


def test_the_first_points_are_others_than_without_and_each_time_the_same(
    earlier: Path, tmp_path: Path
) -> None:
    warm = WarmStart.of(earlier, NEW)
    one = drawn(tmp_path / "one", begun(tmp_path / "one", warm))
    other = drawn(tmp_path / "other", begun(tmp_path / "other", warm))
    (tmp_path / "cold").mkdir()
    cold = drawn(tmp_path / "cold", NEW)
    assert one == other
    assert all(here != there for here, there in zip(one, cold, strict=True))


def test_gone_on_with_without_the_old_table_it_is_as_if_undisturbed(
    earlier: Path, tmp_path: Path
) -> None:
    """Also in the second round, and where the journal is made anew."""
    copy = Path(shutil.copytree(earlier, tmp_path / "copy"))
    warm = WarmStart.of(copy, NEW)
    plan = begun(tmp_path / "undisturbed", warm)
    play(Sweep(plan, tmp_path / "undisturbed", say=print), plan)
    begun(tmp_path / "part", warm)
    shutil.rmtree(copy)
    for number in range(4):
        play(Sweep(plan, tmp_path / "part", say=print), plan, 3)
        if number == 0:
            (tmp_path / "part" / "optuna.journal").unlink()
    one, other = (
        (tmp_path / name / "trials.jsonl").read_bytes() for name in ("undisturbed", "part")
    )
    assert one == other


def test_they_count_as_no_trials_and_win_nothing(earlier: Path, tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    table = TrialTable(tmp_path / "table" / "trials.jsonl")
    for row in TrialTable(earlier / "trials.jsonl").rows:
        table.append(dataclasses.replace(row, score=1e6))
    plan = begun(tmp_path / "new", WarmStart.of(tmp_path / "table", NEW))
    sweep = Sweep(plan, tmp_path / "new", say=print)
    play(sweep, plan)
    assert [row.number for row in sweep.table.rows] == list(range(10))
    best = winner(sweep.table.rows, plan)
    assert best is not None
    assert (best.score or 0.0) < 1.0
    assert [this.number for this in sweep.rounds] == [0, 1, 2]
    assert sweep.is_finished()


# ------------------------------------------------------------------------- what is kept


def test_a_damaged_row_is_named_set_aside_and_gone_on_without(
    earlier: Path, tmp_path: Path
) -> None:
    plan = begun(folder := tmp_path / "new", WarmStart.of(earlier, NEW))
    play(Sweep(plan, folder, say=print), plan, 2)
    path = folder / WARM_ROWS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1].replace("COMPLETE", "COMPLATE"), *lines[2:]]))
    with pytest.raises(DamagedError, match=rf"line 2 of \S+{WARM_ROWS} .* `ssmrl doctor"):
        Sweep(plan, folder, say=print)
    found = CliRunner().invoke(doctor_app, [str(folder), "--repair"])
    assert f"{WARM_ROWS}, line 2: " in found.stdout
    assert "repaired: " in found.stdout
    said: list[str] = []
    Sweep(plan, folder, say=said.append)
    assert said == [
        f"{path} holds {len(lines) - 1} of the {len(lines)} rows with which the sweep began; "
        "rounds that have not started are searched without the others"
    ]


def test_a_plan_keeps_where_they_came_from() -> None:
    plan = dataclasses.replace(NEW, warm_start="runs/old", num_warm_rows=9)
    assert SweepPlan.from_json(plan.to_json()) == plan
    assert plan.flags()[-2:] == ["--warm-start", "runs/old"]
    old = {
        name: value
        for name, value in json.loads(NEW.to_json()).items()
        if name not in ("warm_start", "num_warm_rows")
    }
    assert SweepPlan.from_json(json.dumps(old)) == NEW, "a plan of before is read as it was"


# ------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A tiny search, and an earlier table of it."""
    folder = tmp_path_factory.mktemp("small")
    space = write_space(folder)
    plan = SweepPlan(
        "point", algorithm="promp", num_samples=3, num_confirmed=0, max_env_steps=4000
    ).within(space)
    table = played(folder / "earlier", plan)
    size = ["--num-samples", "3", "--num-confirmed", "0", "--max-env-steps", "4000"]
    base = ["--task", "point", "--algorithm", "promp", "--space", str(space), *size]
    return [*base, "--max-concurrent", "1", "--warm-start", str(table)]


def test_the_command_says_what_it_takes_and_keeps_it(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.engine.run_sweep", lambda *_, **__: {"exit_code": 0})
    result = CliRunner().invoke(app, [*small, "--storage", str(tmp_path), "--name", "new"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("warm start: 3 of 3 rows of ")
    plan = SweepPlan.from_json((tmp_path / "new" / CONFIG).read_text())
    assert (plan.warm_start, plan.num_warm_rows) == (small[-1], 3)
    assert len(TrialTable(tmp_path / "new" / WARM_ROWS, plan.sweep_id).rows) == 3


def test_a_start_that_is_refused_leaves_no_rows(small: list[str], tmp_path: Path) -> None:
    place = ["--storage", str(tmp_path), "--name", "e", "--address", "127.0.0.1:1"]
    result = CliRunner().invoke(app, [*small, *place])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: there is no Ray cluster at '127.0.0.1:1'")
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--max-env-steps", "8000"], "`max_env_steps` is 4000 for t0000"),
        (["--searcher", "random"], "'random' learns from no row"),
        (["--warm-start", "nothing"], "there is no table at nothing"),
        (["--warm-start", "trials.csv"], "a CSV holds what was searched"),
        (["--warm-start", "damaged.jsonl"], "line 1 of damaged.jsonl"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    more: list[str],
    told: str,
    small: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.jsonl").write_text("{}\n{}\n")
    result = CliRunner().invoke(app, [*small, *more])
    assert result.exit_code == 2
    assert told in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_budget_that_is_measured_is_not_that_of_a_table(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    at = small.index("--max-env-steps")
    flags = [*small[:at], *small[at + 2 :], "--trial-seconds", "5"]
    result = CliRunner().invoke(app, flags)
    assert result.exit_code == 2
    assert "`--trial-seconds` must be left out with `--warm-start`" in result.stderr
