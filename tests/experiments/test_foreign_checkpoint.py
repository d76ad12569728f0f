"""A run of ``learning`` does not go on from what another command saved."""

from pathlib import Path

import torch
from typer.testing import CliRunner

from experiments.benchmarks.learning import app, configured
from ssmrl.checkpoint import Checkpoint
from ssmrl.run import checkpoint_path


def test_the_checkpoint_of_another_command_is_refused_in_a_line(tmp_path: Path) -> None:
    config = configured("point", "mlp", {}, preset=None, knobs={}, seed=0)
    path = checkpoint_path(tmp_path / "checkpoints", config)
    Checkpoint(config, {"weight": torch.zeros(1)}, {"iterations": 3}).save(path)
    place = ["--output", str(tmp_path / "out"), "--checkpoints", str(path.parent)]
    refused = CliRunner().invoke(app, ["--task", "point", "--method", "mlp", *place])
    assert refused.exit_code == 2, refused.output
    (line,) = refused.output.splitlines()
    assert f"{path} lacks `rows`: another program wrote it" in line
    assert not (tmp_path / "out").exists()
