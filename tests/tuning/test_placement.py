"""How trials share GPUs: sums, refusals and what is said; on a machine that needs to have none."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ssmrl.device_record import record_device
from tests.tuning.tiny_gradient import write_space
from tuning import placement as placement_module
from tuning.driver import bundles
from tuning.experience_memory import replay_need
from tuning.forecast import forecast
from tuning.placement import (
    GpuError,
    Placement,
    check_replays_on_gpus,
    placed,
    settled_placement,
)
from tuning.plan import SweepPlan, TooFewCpusError
from tuning.probe import Rate

PLAN = SweepPlan("point", algorithm="promp")
CARD = 80 * 10**9

Cards = Callable[[int], None]


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    """Pretends that the machine has so many GPUs."""

    def pretend(num_gpus: int) -> None:
        monkeypatch.setattr("torch.backends.cuda.is_built", lambda: True)
        monkeypatch.setattr("torch.cuda.device_count", lambda: num_gpus)
        monkeypatch.setattr("torch.cuda.init", lambda: None)
        monkeypatch.setattr(placement_module, "_total_bytes", lambda gpu: CARD)

    return pretend


def place(plan: SweepPlan = PLAN, **given: Any) -> tuple[int, Placement]:
    settings: dict[str, Any] = {"device": "cuda", "gpus_per_trial": None, "max_concurrent": None}
    plan, placement = placed(plan, **(settings | {"num_cpus": 8} | given))
    return plan.max_concurrent, placement


@pytest.mark.parametrize(
    ("num_gpus", "given", "at_once", "share"),
    [
        (1, {}, 8, 0.125),  # as many as there are CPUs for, which share the GPU evenly
        (2, {}, 8, 0.25),
        (3, {}, 8, 0.3333),  # three at once on two of them, two on the third
        (2, {"max_concurrent": 2}, 2, 1.0),
        (2, {"max_concurrent": 1}, 1, 1.0),
        (2, {"device": "cuda:1"}, 8, 0.125),
        (1, {"gpus_per_trial": 0.5}, 2, 0.5),  # GPUs bound it, too
        (2, {"gpus_per_trial": 0.3}, 6, 0.3),
        (4, {"gpus_per_trial": 2.0}, 2, 2.0),
        (2, {"gpus_per_trial": 0.5, "max_concurrent": 3}, 3, 0.5),
    ],
)
def test_trials_at_once_and_their_shares(
    num_gpus: int, given: dict[str, Any], at_once: int, share: float, cards: Cards
) -> None:
    cards(num_gpus)
    found, placement = place(**given)
    assert (found, placement.share) == (at_once, share)
    assert placement.gpus == ((1,) if "device" in given else tuple(range(num_gpus)))


def test_each_learner_of_a_trial_has_a_share_and_its_other_processes_none(cards: Cards) -> None:
    cards(2)
    plan = SweepPlan("point", algorithm="promp", num_learners=2, num_env_runners=1)
    at_once, placement = place(plan, num_cpus=8)
    assert (at_once, placement.share) == (2, 0.5)
    learner = {"CPU": 1, "GPU": 0.5}
    assert bundles(plan, placement, 7) == [{"CPU": 1}, {"CPU": 1}, learner, learner]
    assert bundles(PLAN, placement, 7) == [{"CPU": 1, "GPU": 0.5}], "it learns on the GPU"
    assert bundles(PLAN, Placement(), 7) == [{"CPU": 1, "memory": 7}]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "tpu"}, "`--device` must be cpu, cuda or cuda:N"),
        ({"device": "cuda:2"}, "torch sees 2 CUDA devices"),
        ({"device": "cpu", "gpus_per_trial": 0.5}, "needs `--device cuda`"),
        ({"gpus_per_trial": 0.0}, "must be a share of at most 1, or a whole number, but got 0"),
        ({"gpus_per_trial": 1.5}, "or a whole number, but got 1.5"),
        ({"gpus_per_trial": float("nan")}, "or a whole number, but got nan"),
        ({"gpus_per_trial": 3.0}, "x 3 GPUs do not fit the 2 that there are"),
        ({"gpus_per_trial": 0.5, "max_concurrent": 5}, "`--max-concurrent 5` trials"),
        ({"num_cpus": None, "device": "cuda:1"}, "must be cpu or cuda on a cluster"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], message: str, cards: Cards) -> None:
    cards(2)
    with pytest.raises(ValueError, match=message):
        place(**given)
    with pytest.raises(TooFewCpusError):
        place(max_concurrent=9)


def test_trials_that_do_not_fit_one_card_together_are_refused_with_the_sum() -> None:
    plan = SweepPlan("point", max_concurrent=3, seeds_per_trial=2)
    one = replay_need(plan.base())
    enough = int(4 * one / 0.8) + 1  # two trials of two seeds on one of two cards
    check_replays_on_gpus(plan, [enough, enough])
    with pytest.raises(GpuError, match=r"2 trials at once on one GPU need 2 x 2 seeds x"):
        check_replays_on_gpus(plan, [enough, enough - 10**7])


class TestCluster:
    def test_its_gpus_are_counted_when_it_is_joined(self) -> None:
        at_once, placement = place(num_cpus=None, max_concurrent=6)
        assert (at_once, placement.gpus, placement.gpus_per_trial) == (6, None, None)
        plan = SweepPlan("point", algorithm="promp", max_concurrent=6)
        assert placement.joined(plan, 2, 4).share == 0.3333
        assert placement.joined(plan, 0, 4).share == 0.5, "it will grow"
        of_two = dataclasses.replace(plan, num_learners=2)
        assert placement.joined(of_two, 4, 4).share == 0.3333, "each learner has a share"
        assert Placement("cuda", None, 0.25).joined(plan, 2, 2).share == 0.25
        assert Placement().joined(plan, 0, 0) == Placement()

    def test_one_without_gpus_is_refused(self) -> None:
        with pytest.raises(GpuError, match="the cluster has no GPU, and no kind of node with one"):
            Placement("cuda", None, None).joined(PLAN, 0, 0)
        with pytest.raises(GpuError, match="a trial needs 2 GPUs, but the cluster has at most 1"):
            Placement("cuda", None, 2.0).joined(PLAN, 1, 1)


def test_the_plan_says_where_trials_learn(cards: Cards) -> None:
    cards(2)
    rate = Rate(200.0, 8.0, 1600)
    plan = SweepPlan("ant-vel", max_concurrent=4)
    placement = Placement("cuda", (0, 1), 0.5)
    text = "\n".join(forecast(plan, rate, rate, placement))
    assert "on 2 GPUs of this machine (cuda): 0.5 of a GPU and 1 CPU a trial, at most 2" in text
    assert "in all, of the GPUs' memory" in text
    elsewhere = "\n".join(forecast(plan, None, None, Placement("cuda", None, None)))
    assert "on the cluster's GPUs: 4 trials at once, an even share of a GPU each" in elsewhere
    assert "expected: not measured" in elsewhere
    assert "GPU" not in "\n".join(forecast(plan, rate, rate))


def test_processes_that_measure_take_turns_on_the_gpus() -> None:
    placement = Placement("cuda", (0, 1), 0.5)
    assert [placement.device_of_process(n) for n in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert Placement().device_of_process(1) == "cpu"


def test_a_sweep_goes_on_where_it_was_unless_told_otherwise(tmp_path: Path, cards: Cards) -> None:
    cards(2)
    record_device(tmp_path, "cpu")
    settings: dict[str, Any] = {"gpus_per_trial": None, "max_concurrent": 2, "num_cpus": 2}

    def found(device: str | None) -> str:
        _, placement = settled_placement(PLAN, tmp_path, resume=True, device=device, **settings)
        return placement.device

    assert found(None) == "cpu"
    (tmp_path / "device.json").write_text('{"device": "cuda:1"}')
    assert (found(None), found("cpu"), found("cuda")) == ("cuda:1", "cpu", "cuda")
    (tmp_path / "device.json").write_text('{"device": "cuda:5"}')
    with pytest.raises(ValueError, match="resume it here with `--device cpu`"):
        found(None)


def test_its_flags_make_it_again() -> None:
    assert Placement().flags() == []
    assert Placement("cuda:1", (1,), 0.5).flags() == [
        *("--device", "cuda:1"),
        *("--gpus-per-trial", "0.5"),
    ]
    assert Placement("cuda", None, None).flags() == ["--device", "cuda"]


@pytest.mark.parametrize("module", ["tuning.sweep", "agents.research"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "gpu"], "`--device` must be cpu, cuda or cuda:N, but got 'gpu'"),
        (["--device", "cuda:99"], "`--device` is 'cuda:99', but torch"),
        (["--gpus-per-trial", "0.5"], "needs `--device cuda`"),
        (["--address", "auto", "--device", "cuda:1"], "must be cpu or cuda on a cluster"),
    ],
)
def test_a_device_that_is_not_here_is_refused_before_anything_is_written(
    module: str,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from importlib import import_module

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(import_module(module).app, ["--task", "point", *arguments])
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_time_cannot_be_made_a_budget_of_unknown_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuning.sweep import app

    monkeypatch.chdir(tmp_path)
    words = ["--task", "point", "--address", "auto", "--device", "cuda", "--trial-seconds", "9"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "give `--max-env-steps`" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_cluster_without_gpus_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    import tuning.engine as engine_module
    from tuning.sweep import app

    monkeypatch.setattr(engine_module, "session", lambda *_, **__: nullcontext(4))
    monkeypatch.setattr(engine_module, "check_shared", lambda folder: None)
    monkeypatch.setattr(engine_module, "num_gpus", lambda: (0, 0))
    size = ["--algorithm", "promp", "--space", str(write_space(tmp_path))]
    place = ["--storage", str(tmp_path), "--name", "e", "--address", "auto", "--device", "cuda"]
    result = CliRunner().invoke(app, ["--task", "point", *size, *place])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: `--device` is 'cuda', but the cluster has no GPU")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "e").exists(), "a start that was refused leaves its name free"
