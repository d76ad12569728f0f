"""RLlib's learners on a device, shown by another name of the CPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.rllib.utils.actor_manager import ResultOrError

from cluster.checked import checked
from cluster.engine import rllib_engine
from cluster.session import session
from ssmrl.device_memory import DeviceMemoryError, device_memory
from ssmrl.run import LocalEngine, TrainingRun
from tests.cluster.small_training import assert_equal, small_config
from tests.tuning.full_device import FULL

OTHER = torch.device("cpu:0")


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with session(num_cpus=1):
        yield


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What RLlib was asked for when it looked for its learner's device."""
    found: list[float] = []

    def get_device(config: Any, num_gpus: float) -> torch.device:
        found.append(num_gpus)
        return OTHER

    monkeypatch.setattr("ray.rllib.core.learner.torch.torch_learner.get_device", get_device)
    return found


@pytest.mark.parametrize("name", ["context-sac", "promp"])
def test_a_learner_learns_where_rllib_puts_it(name: str, asked: list[float]) -> None:
    config = small_config(name)
    engine: Any = rllib_engine(config, num_env_runners=0, gpus_per_learner=0.25)
    assert asked == [0.25]
    (learner,) = engine.algorithm.learner_group.foreach_learner(lambda learner: learner)
    learner = learner.get()
    assert learner._device == OTHER
    if name == "context-sac":
        assert learner.learner._device == OTHER
    here = LocalEngine(config, 1)
    for _ in range(2):
        engine.iterate()
        here.iterate()
    assert_equal(engine.tensors(), here.tensors())
    engine.stop()


def test_a_learner_without_room_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError(FULL)

    config = small_config("context-sac")
    engine = rllib_engine(config, num_env_runners=0)
    run = TrainingRun(config, max_env_steps=10**6, folder=tmp_path, engine=engine)
    monkeypatch.setattr("ssmrl.context.learner.ContextLearner.iterate", full)
    with pytest.raises(DeviceMemoryError, match=r"2\.50 GiB more were wanted"):
        run.advance()
    run.abandon()


def test_a_learner_elsewhere_without_room_is_no_lost_one() -> None:
    """Ray's error of a task is torch's, too, and device_memory makes its line of it."""

    @ray.remote(num_cpus=0)
    def full() -> None:
        raise torch.OutOfMemoryError(FULL)

    try:
        ray.get(full.remote())
    except ray.exceptions.RayTaskError as error:
        told = error
    with (
        pytest.raises(DeviceMemoryError, match=r"^out of memory on the device: 2\.50 GiB [^\n]+$"),
        device_memory(small_config("promp")),
    ):
        checked([ResultOrError(error=told)])
