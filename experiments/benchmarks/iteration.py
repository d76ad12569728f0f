"""Speed of a whole ProMP iteration through the RLlib algorithm, against raw physics."""

import numpy as np

from cluster.algorithm import MAML, MAMLConfig
from cluster.session import session
from experiments.benchmarks.collecting import SSM_53K
from experiments.benchmarks.harness import Measured, Row, Settings, interleaved_seconds
from experiments.benchmarks.raw_physics import HALF_CHEETAH, RawPhysics, generators
from ssmrl.config import PolicyConfig, TrainConfig

TASK = "halfcheetah-dir"
MLP_64 = PolicyConfig(method="mlp", hidden_dim=64)
CASES = {"MLP 64 x 64": (MLP_64, 0.5), "SSM 53 K": (SSM_53K, 0.2)}
CONTROL_RANGE = 0.3


def measure(settings: Settings) -> Measured:
    """Time 40 tasks x 20 episodes x 100 steps, before and after adaptation, and 5 update epochs."""
    rows = []
    with session(num_cpus=max(2, settings.num_threads)):
        for name, (policy, target) in CASES.items():
            config = iteration_config(policy, settings)
            algorithm = build_algorithm(config, settings)
            rows.append(_row(name, algorithm, config, target, settings))
            algorithm.stop()
    return Measured(rows)


def iteration_config(policy: PolicyConfig, settings: Settings) -> TrainConfig:
    """ProMP's defaults on the task, with smaller sizes when quick."""
    base = TrainConfig.for_task(TASK, "promp")
    sizes = {"meta.num_tasks": 4, "env.horizon": 10} if settings.quick else {"env.horizon": 100}
    return TrainConfig(base.env, policy, algorithm=base.algorithm).with_knobs(sizes)


def build_algorithm(config: TrainConfig, settings: Settings) -> MAML:
    """The RLlib algorithm that samples in this process."""
    threads = {"num_physics_threads": settings.num_threads}
    algorithm: MAML = MAMLConfig().training(train_config=config, **threads).build_algo()
    return algorithm


def _row(name: str, algorithm: MAML, config: TrainConfig, target: float, settings: Settings) -> Row:
    meta = config.meta
    num_lanes, horizon = meta.num_tasks * meta.num_episodes, config.env.horizon
    env_steps = num_lanes * horizon * (meta.num_inner_steps + 1)
    raw = RawPhysics(HALF_CHEETAH.model, num_lanes, settings.num_threads)
    env = HALF_CHEETAH.make_env(num_lanes, settings.num_threads)
    env.reset(np.ones(num_lanes, dtype=np.bool_), generators(num_lanes))
    start = env.physics.position.copy(), env.physics.velocity.copy()
    shape = (horizon, num_lanes, env.action_dim)
    controls = np.random.default_rng(0).uniform(-CONTROL_RANGE, CONTROL_RANGE, shape)
    parts: list[tuple[float, float]] = []

    def iterate() -> None:
        result = algorithm.train()["env_runners"]
        parts.append((float(result["sample_seconds"]), float(result["update_seconds"])))

    seconds = interleaved_seconds(
        {"raw": lambda: raw.play(controls), "iteration": iterate},
        settings.repeats,
        prepare=lambda turn: raw.set_state(*start) if turn == "raw" else None,
    )
    rates = {
        "raw": num_lanes * horizon / seconds["raw"],
        "iteration": env_steps / seconds["iteration"],
    }
    sample, update = np.median(parts, axis=0)
    return Row(
        f"{name}: whole ProMP iteration / raw mujoco.batch",
        rates["iteration"] / rates["raw"],
        target=target,
        note=f"{rates['iteration']:,.0f} against {rates['raw']:,.0f} env steps/s; {TASK}, "
        f"{meta.num_tasks} x {meta.num_episodes} x {horizon} x {meta.num_inner_steps + 1}, "
        f"sampling {sample:.2f} s, {meta.num_epochs} epochs {update:.2f} s",
    )
