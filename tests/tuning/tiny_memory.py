"""A sweep of a memory on ``point`` that takes seconds: what is searched, and sizes to match."""

from pathlib import Path

TINY_KNOBS = {
    "policy.state_dim": 8,
    "policy.hidden_dim": 16,
    "meta.num_lanes": 4,
    "meta.batch_size": 32,
    "meta.inference_batch": 4,
    "meta.actor_hidden_dim": 16,
    "meta.critic_hidden_dim": 16,
    "meta.random_env_steps": 80,
    "meta.replay_env_steps": 10000,
    "evaluation.num_tasks": 5,
}
_BASE = "\n".join(f"  {name}: {value}" for name, value in TINY_KNOBS.items())
TINY = f"""
format: 2
knobs:
  policy.state_dim: {{kind: int, low: 4, high: 16, step: 4, limits: [2, 64]}}
  policy.hidden_dim: {{kind: int, low: 8, high: 32, step: 8, limits: [8, 64]}}
  meta.outer_lr: {{kind: float, low: 3e-4, high: 0.01, log: true, limits: [1e-5, 0.1]}}
base:
{_BASE}
"""
ENV_STEPS = 400


def write_space(folder: Path) -> Path:
    """The space as a file."""
    path = folder / "tiny.yaml"
    path.write_text(TINY)
    return path
