"""What is reckoned of the memory, against what trainings really hold."""

import subprocess
import sys

# In a process of its own, whose peak is not that of other tests. What it imports while it trains is
# taken off by a small training of the same kind before.
TRAIN = """
import tempfile
from pathlib import Path
from ssmrl.config import TrainConfig
from ssmrl.memory_need import memory_need
from ssmrl.run import LocalEngine, TrainingRun
from tuning.memory_use import forget_peak, peak_bytes

def train(config):
    with tempfile.TemporaryDirectory() as folder:
        engine = LocalEngine(config, 1)
        run = TrainingRun(config, max_env_steps=320, folder=Path(folder), engine=engine)
        while not run.row.finished:
            run.advance()
        run.close()

def share(algorithm, small, large):
    config = TrainConfig.for_task("point", algorithm)
    config = config.with_knobs(small | {"env.horizon": 10, "evaluation.num_tasks": 2})
    train(config)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    forget_peak()
    config = config.with_knobs(large)
    train(config)
    return (peak_bytes() - resident) / memory_need(config).total

by_gradient = {"policy.method": "mlp", "meta.num_tasks": 4, "meta.num_episodes": 4}
print(share("promp", by_gradient, {"policy.hidden_dim": 2048}))
by_memory = {
    "meta.replay_env_steps": 10_000,
    "meta.random_env_steps": 160,
    "meta.updates_per_env_step": 0.05,
}
print(share("context-sac", by_memory, {"meta.critic_hidden_dim": 2048}))
"""


def test_large_trainings_hold_about_what_was_reckoned() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN], check=True, stdout=subprocess.PIPE, text=True, timeout=120
    )
    shares = [float(line) for line in done.stdout.split()]
    assert all(0.4 < share < 1.5 for share in shares), shares
