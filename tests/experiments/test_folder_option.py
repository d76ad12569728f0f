"""An address that is given as a folder is refused, before a folder of that name is made here."""

from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

FLAGS = {
    "experiments.benchmarks.__main__": ["--output"],
    "experiments.benchmarks.gpu": ["--output"],
    "experiments.benchmarks.learning": ["--output", "--checkpoints"],
    "experiments.benchmarks.memory_learning": ["--output", "--checkpoints"],
    "experiments.benchmarks.memory_maml": ["--output", "--checkpoints"],
    "experiments.benchmarks.null_comparison": ["--output"],
    "experiments.benchmarks.scaling": ["--output"],
    "experiments.benchmarks.search_quality": ["--output", "--storage"],
    "experiments.benchmarks.throughput": ["--output"],
    "experiments.mutants": ["--output", "--storage"],
    "experiments.serious_benchmark": ["--output-dir"],
    "experiments.visualize_results": ["--results-dir", "--output-dir"],
}


@pytest.mark.parametrize(
    ("module", "flag"), [(module, flag) for module, flags in FLAGS.items() for flag in flags]
)
def test_an_address_is_refused(
    module: str, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(import_module(module).app, [flag, "s3://bucket/results"])
    assert result.exit_code == 2, result.output
    assert flag in result.output
    assert "s3:/bucket/results" in " ".join(result.output.split())
    assert not list(tmp_path.iterdir())
