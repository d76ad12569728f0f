"""What the command refuses, and how: one line, exit code 2, and nothing left behind."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.tuning.tiny_gradient import write_space
from tuning.plan import SweepPlan
from tuning.table.trial import TrialTable


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags of a plan whose forecast, which comes before what Ray finds out, takes moments."""
    space = write_space(tmp_path_factory.mktemp("space"))
    size = ["--algorithm", "promp", "--space", str(space), "--max-concurrent", "1"]
    return ["--task", "point", *size]


def test_an_unreachable_cluster_is_one_line_and_exit_code_2(
    small: list[str], tmp_path: Path
) -> None:
    from tuning.sweep import app

    place = ["--storage", str(tmp_path), "--name", "e", "--address", "127.0.0.1:1"]
    result = CliRunner().invoke(app, [*small, *place])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: there is no Ray cluster at '127.0.0.1:1'")


def test_a_folder_that_nodes_do_not_see_is_one_line_and_exit_code_2(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of a cluster that is joined, and of no other, before any trial."""
    import tuning.engine as engine_module
    from cluster.shared_folder import NotSharedError
    from tuning.sweep import app

    asked = []

    def check_shared(folder: Path) -> None:
        asked.append(folder)
        raise NotSharedError("every node must see the folder")

    monkeypatch.setattr(engine_module, "session", lambda *_, **__: nullcontext(4))
    monkeypatch.setattr(engine_module, "check_shared", check_shared)
    place = ["--storage", str(tmp_path), "--name", "e", "--address", "auto"]
    result = CliRunner().invoke(app, [*small, *place])
    assert result.exit_code == 2
    assert result.stderr == "error: every node must see the folder\n"
    assert asked == [tmp_path / "e"]
    assert not TrialTable(tmp_path / "e" / "trials.jsonl").rows


def test_an_empty_token_file_is_one_line_and_exit_code_2(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuning.sweep import app

    (tmp_path / "token").touch()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    place = ["--storage", str(tmp_path), "--name", "e"]
    result = CliRunner().invoke(app, [*small, *place])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: the token file must hold a token")
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "ant-velocity"], "the tasks are: ant-vel"),
        (
            ["--task", "point", "--method", "lstn"],
            "`policy.method` must be one of ['ssm', 'lstm', 'gru', 'transformer', 'mlp'], or",
        ),
        (
            ["--task", "point", "--searcher", "tpo"],
            "the searchers are: tpe, gp, cmaes, qmc, random",
        ),
        (["--task", "point", "--scheduler", "ash"], "the schedulers are: asha, none"),
        (["--task", "point", "--max-concurrent", "4096"], "need 4096 CPUs, but there are"),
        (["--task", "point", "--name", "../x"], "`--name` must be"),
        (["--task", "point", "--rounds", "0"], "`rounds` must be at least 1"),
        (["--task", "point", "--seed", "-1"], "`seed` must be at least 0, but got -1"),
        (["--task", "point", "--rounds", "9"], "each of the 9 rounds must have a trial"),
        (["--task", "point", "--num-confirmed", "12"], "lower `--rounds` or `--num-confirmed`"),
        (["--task", "point", "--num-fresh-seeds", "6"], "or `--num-fresh-seeds`"),
        (["--task", "point", "--trial-seconds", "0"], "`trial_seconds` must be positive"),
        (["--task", "point", "--trial-seconds", "-2"], "`trial_seconds` must be positive"),
        (
            ["--task", "point", "--trial-seconds", "9", "--max-env-steps", "9"],
            "both set the budget; give one",
        ),
        (["--task", "point", "--seeds-per-trial", "0"], "`seeds_per_trial` must be at least 1"),
        (["--task", "point", "--space", "none.yaml"], "none.yaml"),
        (["--task", "point", "--space", "a\x1b[31mb.yaml"], "a?[31mb.yaml"),
        (["--task", "point", "--name", "aux.1"], "Windows does not allow 'aux.1'"),
        (["--task", "point", "--retries", "-1"], "`retries` must be at least 0, but got -1"),
        (
            [
                *("--task", "point", "--address", "127.0.0.1:1", "--device", "cuda"),
                *("--trial-seconds", "60"),
            ],
            "`--trial-seconds` is measured on this machine, but the cluster's GPUs will train",
        ),
        (["--task", "point", "--resume"], "needs `--name`"),
        (["--task", "point", "--resume", "--name", "nothing"], "no sweep in"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuning.sweep import app

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir()), "a refused sweep leaves nothing behind"


@pytest.mark.parametrize("name", ["trials.jsonl", "rounds.jsonl", "config.json"])
def test_a_damaged_file_is_one_line_and_exit_code_3(name: str, tmp_path: Path) -> None:
    from tuning.sweep import app

    folder = tmp_path / "g"
    folder.mkdir()
    (folder / "config.json").write_text(SweepPlan("point", algorithm="promp").to_json())
    (folder / name).write_text('{"damaged":\n{}\n')
    place = ["--storage", str(tmp_path), "--name", "g", "--resume"]
    result = CliRunner().invoke(app, ["--task", "point", *place])
    assert result.exit_code == 3, result.output
    assert result.stderr.startswith("error: ")
    assert name in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_storage_that_is_no_folder_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    from tuning.sweep import app

    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["--task", "point", "--storage", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "file" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
