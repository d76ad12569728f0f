"""The script for a GPU, on the CPU: its cheapest parts, its rows, its limit, and bad input."""

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import Result
from torch import Tensor
from typer.testing import CliRunner

from experiments.benchmarks import (
    gpu,
    gpu_check,
    gpu_floors,
    gpu_part,
    gpu_rates,
    gpu_stacked,
    gpu_updates,
)
from experiments.benchmarks.gpu_part import MODULES, Job
from experiments.benchmarks.gpu_rows import COLUMNS, Record, Row, table

ROOT = Path(__file__).resolve().parents[2]
HERE = Job("check", "cpu", quick=True, share=60.0, started=time.time())
TINY = {
    "env.horizon": 10,
    "meta.num_lanes": 2,
    "meta.random_env_steps": 20,
    "meta.replay_env_steps": 40,
    "meta.batch_size": 8,
    "meta.critic_hidden_dim": 8,
    "meta.actor_hidden_dim": 8,
    "meta.updates_per_env_step": 2.0,
    "meta.inference_updates_per_meta_episode": 2.0,
    "policy.hidden_dim": 8,
    "policy.state_dim": 16,
}

IMPORT_THE_SCRIPT = """
import importlib, json, sys
for name in ("glfw", "OpenGL", "etils", "scipy"):
    sys.modules[name] = None  # not among the wheels that docs/gpu.md names
from experiments.benchmarks import gpu, gpu_part
for name in set(gpu_part.MODULES.values()):
    importlib.import_module(name)
print(json.dumps(sorted(name for name, module in sys.modules.items() if module)))
"""


TRACE_THE_UPDATES = """
import torch
from functools import partial
from experiments.benchmarks import gpu_check, gpu_updates
config = gpu_check.context_config("halfcheetah-vel", quick=True)
experience, found = gpu_updates.random_play(config), []
for traced in (False, True):
    drawn, learner = gpu_updates._prepared(config, experience, torch.device("cpu"))
    updates = learner.actor_critic.updates
    updates = torch.compile(updates, backend="aot_eager") if traced else updates
    losses = gpu_updates.in_turns(updates, 2, *drawn)
    found.append({"losses": torch.stack(losses)} | learner.tensors())
print(gpu_check.distance(*found)[0])
"""


class CallsAgain:
    """In place of a device's graphs: makes a call again, or refuses to take it down."""

    def __init__(self, refuses: bool) -> None:
        self._refuses = refuses

    def rehearse(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return work()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        if self._refuses:
            raise RuntimeError("no")
        return work


def run(*flags: str) -> Result:
    return CliRunner().invoke(gpu.app, list(flags))


def last_line_of(code: str) -> str:
    """What a new process prints last."""
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()[-1]


# ------------------------------------------------------------------------------------- the script


def test_a_part_leaves_a_table_and_two_files(tmp_path: Path) -> None:
    found = run("--device", "cpu", "--quick", "--only", "promp", "--output", str(tmp_path))
    assert found.exit_code == 0, found.output
    assert "quick: not a measurement" in found.output
    assert "20 M env steps, extrapolated and not run" in found.output
    with (tmp_path / "gpu.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["what"].partition(":")[0] for row in rows] == ["an iteration"] * 3 + [
        "20 M env steps, extrapolated and not run"
    ]
    assert all(float(row["value"]) >= 0.0 for row in rows)
    kept = json.loads((tmp_path / "gpu.json").read_text())
    assert kept["device"] == "cpu"
    assert torch.__version__ in kept["device_name"]
    assert [row["what"] for row in kept["rows"]] == [row["what"] for row in rows]


def test_it_needs_the_engine_alone() -> None:
    """So it runs where Ray and what searches are not installed."""
    loaded = set(json.loads(last_line_of(IMPORT_THE_SCRIPT)))
    assert {"ssmrl.context.learner", "experiments.benchmarks.gpu_promp"} <= loaded
    rooms = {"tuning", "cluster", "agents", "ssmrl_command"}
    libraries = {"ray", "optuna", "pandas", "scipy", "matplotlib", "crewai", "psutil"}
    assert not loaded & (rooms | libraries)
    own = {name for name in loaded if name.startswith("experiments.benchmarks.")}
    assert all(name.startswith("experiments.benchmarks.gpu") for name in own), own


def test_parts_for_which_no_time_is_left_are_named(tmp_path: Path) -> None:
    found = run("--device", "cpu", "--quick", "--limit", "0.5", "--output", str(tmp_path))
    assert found.exit_code == 0, found.output
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [(row["part"], row["verdict"]) for row in rows] == [
        (name, "not run") for name in MODULES
    ]


def test_a_part_is_stopped_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SHORTEST", 0.0)
    job = Job("halfcheetah-vel", "cpu", quick=True, share=0.2, started=time.time())
    (stopped,) = gpu.part_rows(job, 0.2)
    assert (stopped.trouble, stopped.what) == ("not run", "stopped at the time limit")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only", "chess"], "unknown ['chess']; the parts are: check, updates, ant-vel"),
        (["--device", "gpu"], "`--device` must be cpu, cuda or cuda:N, but got 'gpu'"),
        (["--device", "cuda:99"], "`--device` is 'cuda:99', but torch"),
        (["--limit", "0"], "`--limit` must be positive and finite, but got 0.0"),
        (["--limit", "-3"], "`--limit` must be positive and finite, but got -3.0"),
        (["--limit", "nan"], "`--limit` must be positive and finite, but got nan"),
    ],
)
def test_bad_input_is_one_line(flags: list[str], message: str, tmp_path: Path) -> None:
    device = [] if "--device" in flags else ["--device", "cpu"]
    refused = run(*device, *flags, "--output", str(tmp_path / "new"))
    assert refused.exit_code == 2
    assert message in refused.output
    assert len(refused.output.splitlines()) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["gpu.csv", "gpu.json"])
def test_what_was_measured_is_not_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("kept\n")
    refused = run("--device", "cpu", "--output", str(tmp_path))
    assert refused.exit_code == 2
    assert "move away what was measured" in refused.output
    assert len(refused.output.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "kept\n"


# ------------------------------------------------------------------------------------- the checks


def test_the_cpu_computes_what_the_cpu_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "QUICK", TINY)
    rows: list[Row] = []
    gpu_part.run(HERE, rows.append)
    assert rows[0].what == "device"
    assert [row.verdict for row in rows[1:]] == ["met"] * 3 + ["not on this device", "met"]
    assert not any(row.is_failure for row in rows)


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.filterwarnings("ignore:.*runs without it, more slowly")
def test_a_graph_that_is_not_replayed_fails(refuses: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "QUICK", TINY)
    config = gpu_check.context_config("halfcheetah-vel", quick=True)
    episodes = gpu_check.Played(config, 2)
    device = torch.device("cpu")
    learner = episodes.learnt(config, device, lambda device: CallsAgain(refuses))
    row = gpu_check.replay_row(HERE, config, episodes, learner)
    assert (row.verdict, row.is_failure) == (("failed", True) if refuses else ("met", False))
    captured = learner.captured["actor_critic"]
    drawn, _ = gpu_updates._prepared(config, gpu_updates.random_play(config), device)
    rate = gpu_rates.replayed_row(HERE, "rate", captured, drawn, len(drawn[0]), goal=None, note="")
    assert rate.is_failure is refuses


def test_updates_a_turn_at_a_time_are_those_of_all_turns_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_check, "QUICK", TINY)
    config = gpu_check.context_config("halfcheetah-vel", quick=True)
    experience, device = gpu_updates.random_play(config), torch.device("cpu")
    found = []
    for by_turns in (False, True):
        drawn, learner = gpu_updates._prepared(config, experience, device)
        updates = learner.actor_critic.updates
        if by_turns:
            updates = partial(gpu_updates.in_turns, updates, 2)
        found.append({"losses": torch.stack(updates(*drawn))} | learner.tensors())
    assert gpu_check.distance(*found) == (0.0, "the same bits")


def test_stacked_seeds_have_a_row_each_with_hardly_more_operators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_check, "QUICK", TINY)
    config = gpu_check.context_config("halfcheetah-vel", quick=True)
    experience, device = gpu_updates.random_play(config), torch.device("cpu")
    prepared, rows = gpu_updates._prepared(config, experience, device), list[Row]()
    gpu_stacked.stacked_rows(HERE, rows.append, config, *prepared, 1e-3)
    assert [row.what for row in rows] == [f"updates of {n} stacked seeds" for n in (1, 4, 16)]
    assert {row.unit for row in rows} == {"seed-updates/s"}
    assert [row.verdict for row in rows] == ["", "", "met"], "the goal is that of the most seeds"
    called = [float(row.note.split(" a call, ")[1].split()[0]) for row in rows]
    assert called[2] <= 1.2 * called[0]


@pytest.mark.slow
def test_the_updates_can_be_compiled() -> None:
    """As far as that goes without a compiler, and in a process whose shapes nobody checks.

    Traced, an operator is taken apart into others that may round another way: the last bits differ.
    """
    assert float(last_line_of(TRACE_THE_UPDATES)) < 1e-6


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB\nmore"),
            "lower `meta.batch_size`",
        ),
        (RuntimeError("no kernel image\nmore"), "ended by an error"),
    ],
)
def test_an_error_is_a_row_and_the_script_goes_on(
    error: Exception, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(job: Job, tell: gpu_part.Tell) -> None:
        raise error

    monkeypatch.setattr(
        gpu_part.importlib, "import_module", lambda _: SimpleNamespace(measure=broken)
    )
    rows: list[Row] = []
    gpu_part.run(HERE, rows.append)
    assert rows[-1].is_failure
    assert what in rows[-1].what
    assert str(error).splitlines()[0] in rows[-1].note
    assert "\n" not in rows[-1].note
    assert "Traceback" in capsys.readouterr().err


def test_a_number_that_is_none_does_not_pass_a_check() -> None:
    first = {"a": torch.tensor([1.0]), "b": torch.tensor([float("nan")]), "c": torch.tensor([3.0])}
    second = {name: torch.tensor([2.0]) for name in first}
    error, worst = gpu_check.distance(first, second)
    assert (error, worst) == (float("inf"), "b")
    row = Row("check", "error", error, goal=1e-10, at_most=True, must=True)
    assert row.is_failure
    assert Row("check", "error", float("nan"), goal=1e-10, at_most=True, must=True).is_failure
    assert not Row("updates", "rate", 1.0, goal=5000.0).is_failure, "a missed goal is a result"


def test_the_fewest_bytes_are_those_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "QUICK", TINY)
    config = gpu_check.context_config("halfcheetah-vel", quick=True)
    networks = gpu_updates._networks(config)
    actor = (18 * 8 + 8) + (8 * 8 + 8) + (8 * 12 + 12)  # 17 observations and the code, 6 actions
    critics = 2 * ((24 * 8 + 8) + (8 * 8 + 8) + (8 + 1))
    transition = 17 + 6 + 1 + 17 + 1 + 1
    moving = 8 * critics + 8 * actor + 8 * transition + 2 * 8 * 6
    still = 8 * critics + actor + 8 * transition + 8 * 6
    assert gpu_floors.bytes_moved(config, networks) == 4 * (moving + still) / 2


# --------------------------------------------------------------------------------------- the rows


def test_rows_are_on_the_disk_as_they_come(tmp_path: Path) -> None:
    record = Record(tmp_path / "new", {"device": "cpu"})
    rows = [
        Row("check", "error", 1e-12, goal=1e-10, at_most=True, must=True),
        Row("updates", "rate", 12345.6, "updates/s", goal=5000.0, note="two, of three"),
        Row("ant-vel", "stacked", trouble="not run"),
    ]
    for number, row in enumerate(rows, start=1):
        record.add(row)
        with record.path.open(newline="") as file:
            assert len(list(csv.DictReader(file))) == number
        assert Row.of_json(row.to_json()) == row
    text = table(record.rows, "a card")
    assert text.splitlines()[0] == "a card"
    assert "12,346 updates/s    met     two, of three" in text
    assert "not run" in text
