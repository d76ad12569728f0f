"""A checkpoint is whole or refused, and holds nothing that could run."""

import json
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ssmrl.checkpoint import Checkpoint, CheckpointError, read_tensors, write_tensors
from ssmrl.config import TrainConfig
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.meta.learner import MetaLearner

CONFIG = TrainConfig.for_task("point", "promp").with_knobs({"seed": 3, "meta.inner_lr": 0.2})


def small() -> Checkpoint:
    tensors = {
        "actor.weight": torch.arange(6.0).view(2, 3),
        "actor.empty": torch.zeros(0, 4),
        "optimizer.step": torch.tensor(7.0),
        "double": torch.tensor([1.0, torch.pi]).double(),
        "flag": torch.tensor([True, False]),
    }
    progress = {"iteration": 4, "curve": [1.5, -1e-300], "commit": "ü", "nested": {"a": None}}
    return Checkpoint(CONFIG, tensors, progress)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A saved small checkpoint, in a folder that did not exist before."""
    path = tmp_path / "new" / "folder" / "checkpoint.safetensors"
    small().save(path)
    return path


def test_round_trip(path: Path) -> None:
    loaded, saved = Checkpoint.load(path), small()
    assert loaded.config == saved.config
    assert loaded.progress == saved.progress
    assert loaded.tensors.keys() == saved.tensors.keys()
    for name, value in saved.tensors.items():
        assert torch.equal(loaded.tensors[name], value)
        assert loaded.tensors[name].dtype == value.dtype
    assert [each.name for each in path.parent.iterdir()] == [path.name], "nothing else is left"


def test_a_learner_makes_the_round_trip_with_views_and_gradients(tmp_path: Path) -> None:
    """Expanded and transposed tensors, which share memory, are saved by value."""
    actor = initial_actor(CONFIG)
    state = MetaLearner(actor, CONFIG).state()
    base = torch.arange(6.0).view(2, 3)
    views = {"expanded": torch.ones(1, 3).expand(4, 3), "transposed": base.mT, "base": base}
    parameter = {"parameter": torch.nn.Parameter(torch.ones(2))}
    tensors = state | views | parameter
    Checkpoint(CONFIG, tensors, {}).save(tmp_path / "c")
    loaded = Checkpoint.load(tmp_path / "c").tensors
    assert all(torch.equal(loaded[name], value) for name, value in tensors.items())
    assert not loaded["parameter"].requires_grad


@pytest.mark.parametrize("flip", [0x01, 0xFF])
def test_any_changed_byte_is_noticed(path: Path, flip: int) -> None:
    """Every single byte of the file: header, names, numbers, configuration, digest."""
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= flip
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=path.name):
            Checkpoint.load(path)


def test_any_truncation_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="not a complete checkpoint"):
            Checkpoint.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError):
        Checkpoint.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for missing in (tmp_path / "nowhere.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=missing.name):
            Checkpoint.load(missing)


def test_another_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="SHA-256"):
        Checkpoint.load(tmp_path / "other.safetensors")


FORMAT_1 = Path(__file__).parents[1] / "fixtures" / "format1"


@pytest.mark.parametrize("name", ["checkpoint", "maml"])
def test_a_file_of_version_0_1_is_refused_in_a_line(name: str) -> None:
    path = FORMAT_1 / f"{name}.safetensors"
    wanted = f"{path} has no format: version 0.1 of the project wrote it (commit 7ecee47 reads it)"
    for read in (Checkpoint.load, read_tensors):
        with pytest.raises(CheckpointError, match=f"^{re.escape(wanted)}") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_a_later_format_is_refused_in_a_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssmrl.checkpoint.FORMAT", 3)
    small().save(path)
    with pytest.raises(CheckpointError, match="has format '3': another version of the project"):
        Checkpoint.load(path)


def test_a_configuration_that_lacks_a_knob_is_refused(path: Path) -> None:
    """It never silently becomes a default."""
    knobs = {k: v for k, v in json.loads(CONFIG.to_json()).items() if k != "meta.clip"}
    write_tensors(path, {}, {"config": json.dumps(knobs), "progress": "{}"})
    with pytest.raises(CheckpointError, match=r"lacks `meta\.clip`"):
        Checkpoint.load(path)


def test_a_number_that_json_has_not_is_not_written(tmp_path: Path) -> None:
    saved = Checkpoint(CONFIG, {}, {"curve": [float("nan")]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        saved.save(tmp_path / "c.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_types_that_numpy_does_not_know_make_the_round_trip(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    tensors = {"a": torch.arange(4.0).view(2, 2).to(dtype), "b": torch.tensor(2.0).to(dtype)}
    write_tensors(tmp_path / "c", tensors, {})
    loaded, _ = read_tensors(tmp_path / "c")
    for name, value in tensors.items():
        assert loaded[name].dtype == dtype
        assert loaded[name].shape == value.shape
        assert torch.equal(loaded[name].float(), value.float())


class Trap:
    """Unpickling this would create the file that it names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    """Law 10: untrusted bytes are never unpickled."""
    sprung = tmp_path / "sprung"
    (tmp_path / "plain").write_bytes(pickle.dumps(Trap(sprung)))
    torch.save({"weight": Trap(sprung)}, tmp_path / "torch")
    for name in ("plain", "torch"):
        with pytest.raises(CheckpointError):
            Checkpoint.load(tmp_path / name)
    assert not sprung.exists()
    pickle.loads((tmp_path / "plain").read_bytes())
    assert sprung.exists(), "the trap works, so the test could fail"


def test_the_file_is_json_and_numbers_without_gaps(path: Path) -> None:
    """A length, a JSON header, and raw numbers that fill the rest: no room for anything else."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    metadata = header.pop("__metadata__")
    assert metadata.keys() == {"config", "format", "made_with", "progress", "sha256"}
    assert metadata["format"] == "2"
    assert json.loads(metadata["config"]) == {"format": 2} | CONFIG.knobs()
    assert {entry["dtype"] for entry in header.values()} <= {"F32", "F64", "BOOL"}
    end = 0
    for low, high in sorted(entry["data_offsets"] for entry in header.values()):
        assert low == end
        end = high
    assert 8 + length + end == len(whole)


@pytest.mark.parametrize("function", ["os.fsync", "pathlib.Path.replace"])
def test_an_interrupted_save_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """Whether it is Ctrl-C before the bytes are on disk, or before they take the old name."""
    old = path.read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(function, interrupt)
        with pytest.raises(KeyboardInterrupt):
            Checkpoint(CONFIG, {"actor.weight": torch.zeros(9)}, {}).save(path)
    assert path.read_bytes() == old
    assert torch.equal(
        Checkpoint.load(path).tensors["actor.weight"], small().tensors["actor.weight"]
    )
    Checkpoint(CONFIG, {"actor.weight": torch.zeros(9)}, {}).save(path)
    assert Checkpoint.load(path).tensors.keys() == {"actor.weight"}
