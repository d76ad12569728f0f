"""Where a sweep starts: folders, addresses and flags that cannot be, and starts that failed."""

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

import tuning.sweep as command
from agents.research import app as research_app
from tests.tuning.tiny_gradient import write_space
from tuning.folder.interruption import FolderError, exclusive
from tuning.folder.run_folder import run_folder
from tuning.plan import SweepPlan

URLS = ["s3://bucket/runs", "gs://bucket", "https://host/x", "file:///tmp/x", "S3:/bucket"]


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(command.app, ["--task", "point", *map(str, arguments)])


def refused(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    return result.stderr


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("app", [command.app, research_app])
def test_a_storage_that_is_no_folder_of_this_machine_is_refused(
    app: Any, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path would make a folder named `s3:` of it, here, without a word."""
    monkeypatch.chdir(tmp_path)
    said = refused(CliRunner().invoke(app, ["--task", "point", "--storage", url, "--name", "a"]))
    assert "`--storage` must be a folder" in said
    assert not list(tmp_path.iterdir())


def test_inside_a_job_of_a_cluster_the_path_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads the job's log elsewhere does not know in which folder of the head it ran."""
    monkeypatch.chdir(tmp_path)
    assert run_folder(Path("runs"), "a") == Path("runs/a")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert run_folder(Path("runs"), "a") == tmp_path / "runs" / "a"


def test_the_sign_of_a_job_is_the_one_of_ray() -> None:
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    from tuning.folder.run_folder import JOB_VARIABLE

    assert JOB_VARIABLE == RAY_JOB_CONFIG_JSON_ENV_VAR


@pytest.mark.parametrize(
    "address",
    [
        *("nonsense", "", " ", "http://head:6379", "ray://", "ray://head", "head:", ":6379"),
        *("head:port", "head:99999", "head:0", "head:-1", "local", "a b:1", "ray://ray://a:1"),
    ],
)
@pytest.mark.parametrize("app", [command.app, research_app])
def test_an_address_that_is_none_is_refused_before_anything_is_written(
    app: Any, address: str, tmp_path: Path
) -> None:
    words = ["--task", "point", "--storage", str(tmp_path / "runs"), "--address", address]
    said = refused(CliRunner().invoke(app, words))
    assert "`--address` must be auto, HOST:PORT or ray://HOST:PORT" in said
    assert repr(address) in said
    assert not list(tmp_path.iterdir())


def test_a_start_that_failed_leaves_its_name_free(tmp_path: Path) -> None:
    words = ["--algorithm", "promp", "--space", write_space(tmp_path), "--max-concurrent", "1"]
    words += ["--storage", tmp_path / "runs", "--name", "e", "--address", "127.0.0.1:1"]
    for _ in range(2):
        assert "there is no Ray cluster at" in refused_at_the_end(sweep(*words))
        assert not list((tmp_path / "runs").iterdir())


def refused_at_the_end(result: Result) -> str:
    """After the forecast, which comes before what only Ray finds out."""
    assert result.exit_code == 2, result.output
    return result.stderr


def test_a_sweep_that_cannot_go_on_now_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "e"
    folder.mkdir()
    (folder / "config.json").write_text(SweepPlan("point", algorithm="promp").begun().to_json())
    place = ["--storage", tmp_path, "--name", "e", "--resume", "--address", "127.0.0.1:1"]
    assert "there is no Ray cluster at" in sweep(*place).stderr
    assert (folder / "config.json").exists()


def kept(folder: Path, **settings: Any) -> Path:
    folder.mkdir()
    plan = SweepPlan("point", algorithm="promp", **settings).begun()
    (folder / "config.json").write_text(plan.to_json())
    return folder


@pytest.mark.parametrize("app", [command.app, research_app])
def test_a_folder_that_cannot_be_written_is_one_line(
    app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the superuser may write everywhere, the folder says itself that it is read-only."""
    folder = kept(tmp_path / "e")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    writable = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != folder and writable(path, mode)
    )
    words = ["--task", "point", "--storage", str(tmp_path), "--name", "e", "--resume"]
    said = refused(CliRunner().invoke(app, words))
    assert f"{folder} cannot be written" in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_lock_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(FolderError, match="cannot be written"), exclusive(tmp_path):
        pass


def test_a_study_names_them_too(tmp_path: Path) -> None:
    kept(tmp_path / "e", num_samples=12)
    words = ["--task", "point", "--storage", str(tmp_path), "--name", "e", "--resume", "--dry-run"]
    words += ["--budget-trials", "13", "--budget-minutes", "5", "--method", "gru"]
    result = CliRunner().invoke(research_app, words)
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line.endswith("are ignored: --budget-trials 13, --method gru")


def test_flags_that_do_not_count_when_going_on_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path / "e", seed=3)
    done: list[SweepPlan] = []

    def carry_out(plan: SweepPlan, *_: Any, **__: Any) -> dict[str, Any]:
        done.append(plan)
        return {"best_trial": "t0000", "exit_code": 0}

    monkeypatch.setattr(command, "_carry_out", carry_out)
    place = ["--storage", tmp_path, "--name", "e", "--resume", "--time-budget-s", "7"]
    result = sweep(*place, "--seed", "3", "--num-samples", "99", "--searcher", "random")
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert "--num-samples 99" in line
    assert "--searcher random" in line
    assert "--seed" not in line.replace("--num-seeds", ""), "it is the sweep's own"
    assert "--time-budget-s" not in line, "it counts"
    assert done[0].time_budget_s == 7.0
    assert done[0].num_samples != 99
    assert sweep(*place).stderr == ""


def test_what_is_lost_on_the_way_is_one_line_and_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tuning.engine as engine_module
    from tuning.ending import LostError

    def run_sweep(*_: Any, **__: Any) -> dict[str, Any]:
        raise LostError("t0003 cannot be evaluated any more")

    monkeypatch.setattr(engine_module, "run_sweep", run_sweep)
    kept(tmp_path / "e", seed=3)
    result = sweep("--storage", tmp_path, "--name", "e", "--resume")
    assert (result.exit_code, result.stderr) == (3, "error: t0003 cannot be evaluated any more\n")
