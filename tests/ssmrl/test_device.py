"""A device by its name: refused before any work starts, with what to do."""

import warnings

import pytest
import torch

from ssmrl.device import CPU, check_device_name, checked_device, on_cpu, visible_gpus
from ssmrl.optimizer_state import load_optimizer_tensors, optimizer_tensors


def test_the_cpu_is_always_there() -> None:
    assert checked_device("cpu") == checked_device("cpu:0") == CPU


@pytest.mark.parametrize("name", ["gpu", "tpu", "meta", "mps", "cuda:x", "", "cuda:-1"])
def test_what_is_no_device_of_ours_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"`--device` must be cpu, cuda or cuda:N, but got"):
        checked_device(name)


@pytest.mark.parametrize(
    ("is_built", "num_devices", "name", "message"),
    [
        (False, 0, "cuda", "is built without CUDA; install the build of torch"),
        (True, 0, "cuda", "torch sees 0 CUDA devices; use cpu"),
        (True, 1, "cuda:1", "torch sees 1 CUDA devices; use cuda:0, or cpu"),
        (True, 2, "cuda:2", "torch sees 2 CUDA devices; use cuda:0 to cuda:1, or cpu"),
    ],
)
def test_a_device_that_is_not_here_is_named_with_what_is(
    is_built: bool, num_devices: int, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: is_built)
    monkeypatch.setattr("torch.cuda.device_count", lambda: num_devices)
    monkeypatch.setattr("torch.cuda.init", lambda: None)
    with pytest.raises(ValueError, match=message):
        checked_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_a_device_that_is_here_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.init", lambda: None)
    assert checked_device(name) == torch.device(name)
    assert visible_gpus(name) == {"cuda": (0, 1), "cuda:0": (0,), "cuda:1": (1,)}[name]


# As torch 2.13 says it.
OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version from the URL: http://x/index.aspx "
    "Alternatively, go to: https://x to install a PyTorch version that has been compiled with "
    "your version of the CUDA driver."
)


def test_a_driver_that_is_too_old_is_one_line_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the devices are counted without CUDA, which then does not start."""

    def init() -> None:
        raise RuntimeError(OLD_DRIVER)

    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.init", init)
    with pytest.raises(ValueError, match="CUDA does not start") as caught:
        checked_device("cuda")
    assert str(caught.value) == (
        "`--device` is 'cuda', but CUDA does not start: The NVIDIA driver on your system is too "
        "old (found version 11040); update the driver, or install the build of torch that is made "
        "for it, or use cpu"
    )


def test_a_warning_about_the_driver_is_part_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they are counted with CUDA: torch warns, and sees none."""

    def device_count() -> int:
        warnings.warn(f"CUDA initialization: {OLD_DRIVER} (Triggered internally)", stacklevel=1)
        return 0

    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", device_count)
    wanted = r"sees 0 CUDA devices \(The NVIDIA driver .* \(found version 11040\)\); use cpu$"
    with pytest.raises(ValueError, match=wanted):
        checked_device("cuda")


def test_a_name_alone_is_checked_for_devices_of_other_machines() -> None:
    check_device_name("cuda:40")
    with pytest.raises(ValueError, match="must be cpu, cuda or cuda:N, but got 'gpu'"):
        check_device_name("gpu")


def test_a_checkpoint_has_copies() -> None:
    tensor = torch.ones(3, requires_grad=True)
    copy = on_cpu(tensor)
    with torch.no_grad():
        tensor.add_(1.0)
    assert copy.tolist() == [1.0, 1.0, 1.0]
    assert not copy.requires_grad


@pytest.mark.parametrize("fused", [False, True])
def test_moments_go_where_the_parameter_is(fused: bool) -> None:
    """On a device without values: all but the count of steps of a plain optimiser."""
    there = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([there], fused=fused)
    there.grad = torch.ones(2)
    optimizer.step()
    kept = optimizer_tensors("a", optimizer)
    assert set(kept) == {f"a.{name}.0" for name in ("step", "exp_avg", "exp_avg_sq")}
    elsewhere = torch.nn.Parameter(torch.zeros(2, device="meta"))
    other = torch.optim.Adam([elsewhere])
    other.param_groups[0]["fused"] = fused
    load_optimizer_tensors("a", other, kept)
    state = other.state[elsewhere]
    assert state["exp_avg"].is_meta
    assert state["exp_avg_sq"].is_meta
    assert state["step"].is_meta is fused
