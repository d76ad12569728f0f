"""What is reckoned of memory and disk, against what trainings really take."""

import subprocess
import sys

# In a process of its own, whose peak is not that of other tests. What it imports while it trains is
# taken off by a small training of the same kind before.
TRAIN = """
import tempfile
from pathlib import Path
from ssmrl.config import TrainConfig
from ssmrl.memory_need import disk_need, memory_need
from ssmrl.run import LocalEngine, TrainingRun
from tuning.memory_use import forget_peak, peak_bytes

def train(config):
    with tempfile.TemporaryDirectory() as folder:
        engine = LocalEngine(config, 1)
        run = TrainingRun(config, max_env_steps=320, folder=Path(folder), engine=engine)
        while not run.row.finished:
            run.advance()
        run.close()
        return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())

def share(algorithm, small, large):
    config = TrainConfig.for_task("point", algorithm)
    config = config.with_knobs(small | {"env.horizon": 10, "evaluation.num_tasks": 2})
    train(config)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    forget_peak()
    config = config.with_knobs(large)
    saved = train(config)
    return (peak_bytes() - resident) / memory_need(config).total, saved / disk_need(config, 320)

by_gradient = {"policy.method": "mlp", "meta.num_tasks": 4, "meta.num_episodes": 4}
print(*share("promp", by_gradient, {"policy.hidden_dim": 2048}))
by_memory = {
    "meta.replay_env_steps": 10_000,
    "meta.random_env_steps": 160,
    "meta.updates_per_env_step": 0.05,
}
print(*share("context-sac", by_memory, {"meta.critic_hidden_dim": 2048}))
"""


def test_large_trainings_take_about_what_was_reckoned() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN], check=True, stdout=subprocess.PIPE, text=True, timeout=120
    )
    shares = [float(word) for word in done.stdout.split()]
    assert len(shares) == 4
    assert all(0.4 < share < 1.5 for share in shares), shares
