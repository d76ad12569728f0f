"""Trials for which the device has no room: they fail with the reason, and only they."""

import os
from pathlib import Path
from unittest.mock import Mock

import pytest
import ray

from cluster.session import num_gpus, session
from ssmrl.config import TrainConfig
from tests.tuning.full_device import WIDTH, FullTraining
from tests.tuning.tiny_gradient import TINY
from tuning.engine import Sweep
from tuning.placement import Placement
from tuning.plan import SweepPlan
from tuning.rounds import FIRST
from tuning.table.round_log import Round
from tuning.table.trial import TrialState

CONFIG = TrainConfig.for_task("point", "promp").with_knobs(
    {"meta.num_tasks": 2, "meta.num_episodes": 2, "evaluation.num_tasks": 2}
)


def begun(point: dict[str, int], folder: Path) -> FullTraining:
    """A trial as Tune's actor holds it, without Ray."""
    training = object.__new__(FullTraining)
    training._trial_info = None
    settings = {"sweep": "a", "base": CONFIG, "max_env_steps": 10**6, "folder": folder}
    training.setup(point, **settings)
    return training


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the trials patch in their process is put back in this one."""
    from ssmrl.meta.gradient_learner import GradientLearner

    monkeypatch.setattr(GradientLearner, "__init__", GradientLearner.__init__)
    monkeypatch.setattr(GradientLearner, "iterate", GradientLearner.iterate)


@pytest.mark.parametrize(("width", "num_iterations"), [(48, 1), (96, 0)])
def test_a_trial_without_room_is_over_and_leaves_the_process_to_the_next(
    width: int, num_iterations: int, tmp_path: Path
) -> None:
    training = begun({WIDTH: width}, tmp_path)
    results = [training.step() for _ in range(num_iterations + 1)]
    last = results[-1]
    assert [result["done"] for result in results] == [False] * num_iterations + [True]
    assert last["out_of_memory"]
    assert "2.50 GiB more were wanted, but of 79.11 GiB only 1.20 GiB are free" in last["reason"]
    assert "score" not in last
    assert (last["iterations"], last["received"][WIDTH]) == (num_iterations, width)
    assert not list(tmp_path.rglob("*.safetensors")), "what it had in hand is not kept"
    training.reset_config({WIDTH: 16})
    assert not training.step()["done"]
    training.cleanup()
    assert list(tmp_path.rglob("*.safetensors"))


def test_a_trial_that_cannot_begin_in_a_used_process_fails_in_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There Tune begins it again; where it takes the process over, it gives the trial up."""
    training = begun({WIDTH: 16}, tmp_path)
    monkeypatch.setattr(training, "_begin", Mock(side_effect=ValueError("no friction below 0")))
    assert training.reset_config({WIDTH: 32})
    with pytest.raises(ValueError, match="no friction below 0"):
        training.step()
    training.cleanup()


@pytest.mark.slow
def test_its_siblings_go_on_and_its_row_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Ray: trials share a GPU that Ray is told of, and learn on the CPU."""
    monkeypatch.setattr("tuning.driver.MetaTraining", FullTraining)
    monkeypatch.setattr(Placement, "device_of_trial", "cpu")
    space = tmp_path / "wide.yaml"
    limits = "{kind: int, low: 16, high: 128, step: 16, limits: [8, 512]}"
    assert f"policy.hidden_dim: {limits}" in TINY
    space.write_text(TINY)
    plan = SweepPlan(
        "point",
        algorithm="promp",
        num_samples=6,
        num_confirmed=0,
        max_env_steps=4000,
        scheduler="none",
        searcher="qmc",
        max_concurrent=2,
    ).within(space)
    folder = tmp_path / "a"
    folder.mkdir()
    sweep = Sweep(plan, folder, say=lambda line: None)
    placement = Placement("cuda", (0,), 0.5)
    with session(num_cpus=2, gpus=placement.gpus):
        assert num_gpus() == (1, 1)
        sweep.run_round(
            Round(0, FIRST, plan.space(), (), 6), num_cpus=2, placement=placement, quiet=True
        )
    rows = sweep.table.rows
    assert len(rows) == 6
    full = [row for row in rows if row.knobs[WIDTH] >= 48]
    assert full
    assert len(full) < 6
    for row in rows:
        assert row.state is (TrialState.OOM if row in full else TrialState.COMPLETE)
        assert ("out of memory on the device: 2.50 GiB" in row.reason) == (row in full)
        assert "\n" not in row.reason


@pytest.mark.slow
def test_a_process_sees_the_gpu_that_ray_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of the two that this process sees, by the number that the driver knows it by."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")

    @ray.remote(num_gpus=0.5, num_cpus=0)
    def seen() -> str:
        return os.environ["CUDA_VISIBLE_DEVICES"]

    with session(num_cpus=1, gpus=(1,)):
        assert num_gpus() == (1, 1)
        assert ray.get([seen.remote(), seen.remote()]) == ["7", "7"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"
