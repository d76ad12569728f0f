"""Speed of the batched step against raw ``mujoco.batch`` and the peers' environments."""

from typing import Any

import gymnasium
import numpy as np

from experiments.benchmarks.harness import Measured, Row, Settings, interleaved_seconds
from experiments.benchmarks.raw_physics import (
    ANT,
    HALF_CHEETAH,
    HUMANOID,
    RawPhysics,
    RobotCase,
    generators,
    without_advice,
)
from ssmrl.envs.families import FAMILIES

NUM_ENVS = 256
CONTROL_RANGE = 0.3
"""Bound of the uniform actuator inputs, ours and the peers'."""
TARGETS = {HALF_CHEETAH: 0.85, ANT: 0.93, HUMANOID: 0.93}


def measure(settings: Settings) -> Measured:
    """Time steps of 256 simulations, in units of the raw physics and of the peers."""
    num_steps = 4 if settings.quick else 50
    rows = []
    for robot, target in TARGETS.items():
        if robot.task in FAMILIES:
            rows.append(_against_raw(robot, target, num_steps, settings))
    return Measured(rows + _against_peers(num_steps, settings))


def _against_raw(robot: RobotCase, target: float, num_steps: int, settings: Settings) -> Row:
    """Time our step and the raw physics on equal controls and starts; both must end equally."""
    env = robot.make_env(NUM_ENVS, settings.num_threads)
    raw = RawPhysics(robot.model, NUM_ENVS, settings.num_threads)
    everyone = np.ones(NUM_ENVS, dtype=np.bool_)
    controls = _controls(num_steps, env.action_dim)
    actions = controls * robot.action_per_control

    def prepare(name: str) -> None:
        env.reset(everyone, generators(NUM_ENVS))
        if name == "raw":
            raw.set_state(env.physics.position.copy(), env.physics.velocity.copy())

    def play() -> None:
        for action in actions:
            env.step(action)

    seconds = interleaved_seconds(
        {"raw": lambda: raw.play(controls), "ours": play}, settings.repeats, prepare=prepare
    )
    # A scaled and unscaled control may differ in its last bit.
    if not np.allclose(env.physics.position, raw.position, rtol=0.0, atol=1e-6):
        raise RuntimeError(
            f"{robot.name}: our step and the raw physics must end in the same states, but differ "
            f"by {np.abs(env.physics.position - raw.position).max():.2e}: not the same work"
        )
    rate = NUM_ENVS * num_steps / seconds["raw"]
    return Row(
        f"{robot.name}: batched step / raw mujoco.batch, {NUM_ENVS} simulations",
        seconds["raw"] / seconds["ours"],
        target=target,
        note=f"raw {rate:,.0f} env steps/s; {num_steps} steps from rest, {robot.task}",
    )


def _against_peers(num_steps: int, settings: Settings) -> list[Row]:
    """Time HalfCheetah in the peers' vector environments, stepped as by their users."""
    env = HALF_CHEETAH.make_env(NUM_ENVS, settings.num_threads)
    everyone = np.ones(NUM_ENVS, dtype=np.bool_)
    controls = _controls(num_steps, env.action_dim)
    with without_advice():
        sync = gymnasium.make_vec(
            HALF_CHEETAH.gymnasium_id, num_envs=NUM_ENVS, vectorization_mode="sync"
        )
    pool = _envpool(settings.num_threads)

    def prepare(name: str) -> None:
        if name == "ours":
            env.reset(everyone, generators(NUM_ENVS))
        else:
            {"sync": sync, "pool": pool}[name].reset()

    def play(stepped: Any, actions: np.ndarray) -> None:
        for action in actions:
            stepped.step(action)

    scale = HALF_CHEETAH.action_per_control
    seconds = interleaved_seconds(
        {
            "ours": lambda: play(env, controls * scale),
            "sync": lambda: play(sync, controls),
            "pool": lambda: play(pool, controls),
        },
        settings.repeats,
        prepare=prepare,
    )
    sync.close()
    pool.close()
    rates = {name: f"{NUM_ENVS * num_steps / value:,.0f}" for name, value in seconds.items()}
    return [
        Row(
            f"HalfCheetah: batched step / {name}, {NUM_ENVS} simulations",
            seconds[key] / seconds["ours"],
            target=target,
            note=f"{rates['ours']} against {rates[key]} env steps/s",
        )
        for name, key, target in (
            ("Gymnasium SyncVectorEnv", "sync", 3.0),
            (f"EnvPool ({settings.num_threads} threads)", "pool", 2.0),
        )
    ]


def _envpool(num_threads: int) -> Any:
    import envpool

    return envpool.make(
        HALF_CHEETAH.gymnasium_id, env_type="gymnasium", num_envs=NUM_ENVS, num_threads=num_threads
    )


def _controls(num_steps: int, action_dim: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.uniform(-CONTROL_RANGE, CONTROL_RANGE, (num_steps, NUM_ENVS, action_dim))
