"""A device without room: one line that says what was wanted and what to lower."""

from pathlib import Path

import pytest
import torch

from ssmrl.config import TrainConfig
from ssmrl.device_memory import DeviceMemoryError, device_memory, memory_message
from ssmrl.learner import Metrics
from ssmrl.run import LocalEngine, TrainingRun

# As torch 2.13 says it on a card.
FULL = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 1.20 GiB is free. Process 7 has 77.90 GiB memory in use. Of the allocated memory 70.00 "
    "GiB is allocated by PyTorch, and 1.00 GiB is reserved by PyTorch but unallocated. See "
    "documentation for Memory Management  (https://pytorch.org/docs/stable/notes/cuda.html)"
)
MEMORY = TrainConfig.for_task("point")
GRADIENT = TrainConfig.for_task("point", "promp")


def test_the_line_has_the_numbers_and_the_knobs_that_the_algorithm_has() -> None:
    line = memory_message(FULL, MEMORY)
    assert "\n" not in line
    assert "2.50 GiB more were wanted, but of 79.11 GiB only 1.20 GiB are free" in line
    assert "lower `meta.replay_env_steps`, `meta.batch_size`" in line
    assert "`policy.hidden_dim`" in line
    gradient = memory_message(FULL, GRADIENT)
    assert "replay" not in gradient
    assert "lower `meta.num_tasks`, `meta.num_episodes`, `policy.hidden_dim`" in gradient


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(FULL),
        torch.OutOfMemoryError("something else. And more."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_what_a_full_device_raises_becomes_one_line(error: RuntimeError) -> None:
    with (
        pytest.raises(DeviceMemoryError, match=r"^out of memory on the device: [^\n]+$"),
        device_memory(MEMORY),
        device_memory(MEMORY),  # what is said already is not said again
    ):
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^sizes differ$"), device_memory(MEMORY):
        raise RuntimeError("sizes differ")


class _FullEngine(LocalEngine):
    """Has no room for its second iteration."""

    is_stopped = False

    def iterate(self) -> Metrics:
        if self.learner.iteration:
            raise torch.OutOfMemoryError(FULL)
        return super().iterate()

    def stop(self) -> None:
        self.is_stopped = True


def test_a_run_without_room_can_be_abandoned_and_leaves_what_it_had_saved(tmp_path: Path) -> None:
    config = GRADIENT.with_knobs({"meta.num_tasks": 2, "meta.num_episodes": 2})
    engine = _FullEngine(config, num_threads=1)
    run = TrainingRun(config, max_env_steps=10**6, folder=tmp_path, engine=engine)
    run.advance()
    run.save()
    saved = run.path.read_bytes()
    with pytest.raises(DeviceMemoryError, match=r"2\.50 GiB more were wanted"):
        run.advance()
    run.abandon()
    assert engine.is_stopped
    assert run.path.read_bytes() == saved
    assert TrainingRun(config, max_env_steps=10**6, folder=tmp_path).row.iterations == 1


def test_an_engine_without_room_for_its_learner_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError(FULL)

    monkeypatch.setattr("ssmrl.meta.gradient_learner.GradientLearner.__init__", full)
    with pytest.raises(DeviceMemoryError):
        LocalEngine(GRADIENT, num_threads=1)
