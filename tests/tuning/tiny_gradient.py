"""A sweep of a gradient learner on ``point`` that trains for moments: usual knobs, few lanes."""

from pathlib import Path

TINY = """
format: 2
knobs:
  policy.state_dim: {kind: int, low: 8, high: 128, step: 8, limits: [2, 512]}
  policy.hidden_dim: {kind: int, low: 16, high: 128, step: 16, limits: [8, 512]}
  meta.inner_lr: {kind: float, low: 0.01, high: 1, log: true, limits: [1e-4, 10]}
  meta.outer_lr: {kind: float, low: 3e-4, high: 0.01, log: true, limits: [1e-5, 0.1]}
  meta.num_epochs: {kind: int, low: 1, high: 3, limits: [1, 5]}
base:
  meta.num_epochs: 2
  meta.num_tasks: 4
  meta.num_episodes: 5
  evaluation.num_tasks: 5
"""


def write_space(folder: Path) -> Path:
    """The space as a file."""
    path = folder / "tiny.yaml"
    path.write_text(TINY)
    return path
