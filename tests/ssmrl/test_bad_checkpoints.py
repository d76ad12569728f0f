"""No file that is given as a checkpoint ends in a traceback, and none is read as what it is not."""

import json
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor
from typer.testing import CliRunner

from ssmrl.__main__ import app
from ssmrl.checkpoint import CheckpointError, write_tensors
from ssmrl.config import TrainConfig
from ssmrl.deployed import load
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.rollout.play import Mode
from ssmrl.rollout.report import PolicyReport, ReportLine
from ssmrl.strict_json import json_text

CONFIG = TrainConfig.for_task("point", "promp").with_knobs(
    {
        "policy.method": "mlp",
        "policy.hidden_dim": 8,
        "evaluation.num_tasks": 3,
        "evaluation.num_episodes": 2,
    }
)
KNOBS = json.loads(CONFIG.to_json())
MEMORY = json.loads(TrainConfig.for_task("point").to_json())
TENSORS: dict[str, Tensor] = {
    f"actor.{name}": value for name, value in initial_actor(CONFIG).state_dict().items()
}
ANY = next(iter(TENSORS))

Content = bytes | Callable[[Path], None]


def foreign(dtype: torch.dtype, metadata: dict[str, str] | None = None) -> bytes:
    """What any other program might leave as safetensors."""
    return save({"weight": torch.ones(4).to(dtype)}, metadata)


def signed(
    tensors: Mapping[str, Tensor] = TENSORS, config: Any = KNOBS, progress: Any = "{}"
) -> Callable[[Path], None]:
    """A file with a digest that fits, whatever it says."""
    text = config if isinstance(config, str) else json.dumps(config)
    return lambda path: write_tensors(path, tensors, {"config": text, "progress": progress})


def without(knob: str) -> dict[str, Any]:
    return {name: value for name, value in KNOBS.items() if name != knob}


def header(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def in_header(dtype: str, num_bytes: int = 4) -> bytes:
    entry = {"weight": {"dtype": dtype, "shape": [1], "data_offsets": [0, num_bytes]}}
    return header(json.dumps(entry).encode()) + bytes(num_bytes)


FILES: dict[str, tuple[Content, str]] = {
    "empty": (b"", "not a complete checkpoint"),
    "text": (b"something else", "not a complete checkpoint"),
    "zeros": (bytes(64), "not a complete checkpoint"),
    "pickle": (pickle.dumps({"a": 1}), "not a complete checkpoint"),
    "torch": (lambda path: torch.save(TENSORS, path), "not a complete checkpoint"),
    "long header": (struct.pack("<Q", 2**62) + b"{}", "not a complete checkpoint"),
    "bad header": (header(b'{"a": '), "not a complete checkpoint"),
    "deep header": (header(b"[" * 100_000), "not a complete checkpoint"),
    "list header": (header(b"[]"), "not a complete checkpoint"),
    "unknown type": (in_header("F7"), "not a complete checkpoint"),
    "half a byte": (in_header("F4", 1), "not a complete checkpoint"),
    "no tensors": (save({}), "was not written by ssmrl"),
    "foreign float32": (foreign(torch.float32), "was not written by ssmrl"),
    "foreign float16": (foreign(torch.float16), "was not written by ssmrl"),
    "foreign bfloat16": (foreign(torch.bfloat16), "was not written by ssmrl"),
    "foreign float8": (foreign(torch.float8_e4m3fn), "was not written by ssmrl"),
    "foreign float8 of 5 bits": (foreign(torch.float8_e5m2), "was not written by ssmrl"),
    "foreign complex": (foreign(torch.complex64), "was not written by ssmrl"),
    "foreign metadata": (foreign(torch.bfloat16, {"format": "pt"}), "was not written by ssmrl"),
    "other digest": (foreign(torch.bfloat16, {"format": "2", "sha256": "0"}), "does not fit"),
    "format 1": (foreign(torch.float32, {"format": "1", "sha256": "0"}), "has format '1'"),
    "no format": (foreign(torch.float32, {"sha256": "0"}), "has no format"),
    "adapter": (lambda path: write_tensors(path, TENSORS, {"adapter": "{}"}), "not a checkpoint"),
    "config without end": (signed(config='{"format": 2'), "must be JSON"),
    "config empty": (signed(config=""), "must be JSON"),
    "config deep": (signed(config="[" * 100_000), "must be JSON"),
    "config list": (signed(config=[1]), "must be a JSON object"),
    "config null": (signed(config=None), "must be a JSON object"),
    "config NaN": (signed(config=KNOBS | {"meta.inner_lr": float("nan")}), "NaN"),
    "config infinite": (signed(config=json.dumps(KNOBS)[:-1] + ', "a": 1e999}'), "1e999"),
    "config twice": (signed(config=json.dumps(KNOBS)[:-1] + ', "seed": 1}'), "occurs twice"),
    "config of format 1": (signed(config=KNOBS | {"format": 1}), "has format 1"),
    "config of format 3": (signed(config=KNOBS | {"format": 3}), "has format 3"),
    "config without format": (signed(config=without("format")), "has no format"),
    "unknown knob": (signed(config=KNOBS | {"meta.magic": 1}), "unknown knob 'meta.magic'"),
    "missing knob": (signed(config=without("meta.clip")), "lacks `meta.clip`"),
    "missing algorithm": (signed(config=without("algorithm")), "lacks `algorithm`"),
    "unknown algorithm": (signed(config=KNOBS | {"algorithm": "sarsa"}), "'sarsa'"),
    "algorithm no text": (signed(config=KNOBS | {"algorithm": [1]}), "of type str"),
    "unknown task": (signed(config=KNOBS | {"env.task": "moon"}), "unknown task 'moon'"),
    "task no text": (signed(config=KNOBS | {"env.task": 5}), "of type str"),
    "knob null": (signed(config=KNOBS | {"meta.clip": None}), "`meta.clip`"),
    "knob of a section": (signed(config=KNOBS | {"meta": {}}), "unknown knob 'meta'"),
    "knob too small": (signed(config=KNOBS | {"env.horizon": 0}), "`env.horizon`"),
    "other width": (signed(config=KNOBS | {"policy.hidden_dim": 16}), "must hold the same model"),
    "other model": (signed(config=KNOBS | {"policy.method": "gru"}), "must hold the same model"),
    "other algorithm": (signed(config=MEMORY), "must hold the same model"),
    "huge width": (signed(config=KNOBS | {"policy.hidden_dim": 10**9}), "`policy.hidden_dim` is 1"),
    "huge memory": (signed(config=KNOBS | {"policy.state_dim": 10**9}), "`policy.state_dim` is 1"),
    "huge critic": (
        signed(config=MEMORY | {"meta.critic_hidden_dim": 10**9}),
        "`meta.critic_hidden_dim` is 1000000000",
    ),
    "huge width of nothing": (
        signed(TENSORS | {"actor.x": torch.zeros(10**9, 0)}, KNOBS | {"policy.hidden_dim": 10**9}),
        "`policy.hidden_dim` is 1000000000",
    ),
    "countless layers": (
        signed(config=KNOBS | {"policy.num_layers": 10**9}),
        "`policy.num_layers` is 1000000000",
    ),
    "progress no JSON": (signed(progress="{"), "must be JSON"),
    "progress list": (signed(progress="[]"), "must be a JSON object"),
    "progress NaN": (signed(progress='{"score": NaN}'), "NaN"),
    "all tensors missing": (signed({}), f"{ANY.removeprefix('actor.')} is missing"),
    "a tensor missing": (
        signed({k: v for k, v in TENSORS.items() if k != ANY}),
        f"{ANY.removeprefix('actor.')} is missing",
    ),
    "a tensor more": (signed(TENSORS | {"actor.more": torch.zeros(1)}), "more is unknown"),
    "other shape": (signed(TENSORS | {ANY: torch.zeros(3)}), "must hold the same model"),
    "bfloat16": (
        signed({name: value.bfloat16() for name, value in TENSORS.items()}),
        "torch.bfloat16",
    ),
    "whole numbers": (
        signed({name: value.long() for name, value in TENSORS.items()}),
        "torch.int64",
    ),
    "not finite": (
        signed(TENSORS | {ANY: torch.full_like(TENSORS[ANY], float("nan"))}),
        "not finite",
    ),
}


def written(path: Path, content: Content) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    return path


@pytest.mark.parametrize("kind", FILES)
def test_a_bad_file_is_one_line_and_exit_code_2(kind: str, tmp_path: Path) -> None:
    content, message = FILES[kind]
    path = written(tmp_path / "policy.safetensors", content)
    result = CliRunner().invoke(app, ["evaluate", str(path), "--json"])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert path.name in result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert len(result.stderr) < 1000


@pytest.mark.parametrize("kind", FILES)
def test_the_function_says_it_by_its_own_error(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path / "policy.safetensors", FILES[kind][0])
    with pytest.raises(CheckpointError, match=r"policy\.safetensors"):
        load(path)


@pytest.mark.parametrize("name", ["n" * 300, "nothing", "nothing/policy.safetensors"])
def test_a_path_that_is_none_is_one_line_and_exit_code_2(name: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / name)])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert name in result.stderr


def test_returns_that_are_not_finite_are_null_in_json() -> None:
    """Steps of adaptation can lead anywhere, and JSON has no NaN."""
    lines = tuple(
        ReportLine(Mode.USED, episode, (1, CONFIG.env.horizon), 0, mean, (mean, float("inf")))
        for episode, mean in enumerate((-3.0, float("nan"), float("inf")))
    )
    content = json.loads(json_text(PolicyReport(CONFIG, 0, lines, None, -20.0).to_json()))
    assert content["returns"] == {"0": -3.0, "1": None, "2": None}
    assert [line["return"] for line in content["lines"]] == [-3.0, None, None]
    assert [line["low"] for line in content["lines"]] == [-3.0, None, None]
    assert [line["high"] for line in content["lines"]] == [None] * 3


def test_the_same_file_without_a_fault_is_evaluated(tmp_path: Path) -> None:
    """So that none of the above is refused for what they have in common."""
    path = written(tmp_path / "policy.safetensors", signed())
    result = CliRunner().invoke(app, ["evaluate", str(path), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["task"] == "point"
