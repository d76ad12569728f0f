"""Speed of a context-sac iteration against its floor, and its memory."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks.harness import Measured, Row, Settings, interleaved_seconds
from experiments.benchmarks.memory import growth_row
from experiments.benchmarks.raw_physics import ANT, HALF_CHEETAH, RawPhysics, RobotCase, generators
from experiments.benchmarks.sequence_length import peak_memory_mib
from ssmrl.config import TrainConfig
from ssmrl.context.inference_training import InferenceTraining
from ssmrl.context.learner import ContextLearner
from ssmrl.context.networks import ContextNetworks
from ssmrl.context.sac import Batch, SoftActorCritic
from ssmrl.rollout.worker import env_shape
from ssmrl.run import LocalEngine

MAX_MULTIPLE = 3.0
NUM_ENV_STEPS = 1_000_000


def measure(settings: Settings) -> Measured:
    """Measure on one core, as a trial has, whatever the threads of other benchmarks."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [row for case in (HALF_CHEETAH, ANT) for row in _speed(case, settings)]
        return Measured([*rows, *_memory(settings)])
    finally:
        torch.set_num_threads(num_threads)


def _speed(case: RobotCase, settings: Settings) -> list[Row]:
    """An iteration's time relative to its floor: products at the measured rate, and raw physics.

    As in ``floor``, all other work is left out of the floor, so the multiple is never too small.
    """
    config = TrainConfig.for_task(case.task)
    if settings.quick:
        config = config.with_knobs({"env.horizon": 10, "meta.random_env_steps": 160})
    engine = LocalEngine(config, num_threads=1)
    learner = engine.learner
    assert isinstance(learner, ContextLearner)
    for _ in range(2 if settings.quick else 5):  # until the policy acts, and the caches are warm
        engine.iterate()
    played = learner.replay.segment(learner.replay.kept[-1])
    raw = _RawReplay(case, played["action"].numpy(), played["terminated"].numpy())
    products = _products(config)
    seconds = interleaved_seconds(
        {"iteration": engine.iterate, "raw": raw.play}
        | {name: play for name, (play, _) in products.items()},
        settings.repeats,
    )
    rate = max(size / seconds[name] for name, (_, size) in products.items())
    floors = {
        name: flops / rate for name, flops in count_flops(config, learner.networks).items()
    } | {"raw physics": seconds["raw"]}
    num_updates = config.meta.updates_per_env_step * learner.env_steps_per_iteration
    parts = ", ".join(f"{name} {value:.3f} s" for name, value in floors.items())
    return [
        Row(
            f"{case.task}: context-sac iteration / its products and raw physics",
            seconds["iteration"] / sum(floors.values()),
            target=MAX_MULTIPLE,
            at_most=True,
            note=f"{seconds['iteration']:.3f} s; {parts}, at {rate / 1e9:.1f} GFLOP/s",
        ),
        Row(
            f"{case.task}: updates per second, collecting and inference included",
            num_updates / seconds["iteration"],
            "updates/s",
            note=f"{learner.env_steps_per_iteration / seconds['iteration']:,.0f} env steps/s",
        ),
    ]


def count_flops(config: TrainConfig, networks: ContextNetworks) -> dict[str, float]:
    """Floating-point operations of the matrix products of an iteration's updates.

    Args:
        config: Sizes and numbers of the updates.
        networks: Networks; the few updates that are counted change them.

    Returns:
        Operations of actor and critics, and of the inference model, by name.
    """
    meta, shape = config.meta, env_shape(config.env)
    env_steps = meta.env_steps_per_iteration(config.env.horizon)
    size, code = meta.batch_size, networks.code_dim
    batch = Batch(
        torch.randn(size, shape.observation_dim),
        torch.rand(size, shape.action_dim),
        torch.randn(size),
        torch.randn(size, shape.observation_dim),
        torch.ones(size),
        torch.randn(size, code),
    )
    noise = torch.randn(2, size, shape.action_dim)
    sac = SoftActorCritic(networks, meta)
    still, moving = (
        _flops(partial(sac.update, batch, noise, moves_actor=moves)) for moves in (False, True)
    )
    lanes, steps = meta.inference_batch, meta.episodes_per_task * config.env.horizon
    inputs = torch.randn(lanes, steps, shape.observation_dim + shape.action_dim + 2)
    update = partial(
        InferenceTraining(networks.inference, config).update,
        inputs,
        torch.randn(lanes, code),
        1,
        torch.Generator().manual_seed(0),
    )
    num_updates = round(meta.updates_per_env_step * env_steps)
    num_moving = num_updates // meta.actor_every
    return {
        "products of actor and critics": float(still * (num_updates - num_moving))
        + float(moving * num_moving),
        "products of the inference": float(_flops(update))
        * round(meta.inference_updates_per_meta_episode * env_steps / steps),
    }


def _flops(play: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        play()
    return int(counter.get_total_flops())


def _products(config: TrainConfig) -> dict[str, tuple[Callable[[], object], int]]:
    """Matrix products of the updates' own sizes, a hundred each."""
    meta, policy = config.meta, config.policy
    rows = meta.inference_batch * meta.episodes_per_task * config.env.horizon
    shapes = {
        "critics": (2, meta.batch_size, meta.critic_hidden_dim),
        "inference": (1, rows, policy.hidden_dim),
    }
    products: dict[str, tuple[Callable[[], object], int]] = {}
    for name, (num, height, width) in shapes.items():
        left, right = torch.randn(num, height, width), torch.randn(num, width, width)
        products[name] = (
            partial(_hundred, left, right),
            100 * 2 * num * height * width * width,
        )
    return products


def _hundred(left: torch.Tensor, right: torch.Tensor) -> None:
    for _ in range(100):
        torch.bmm(left, right)


class _RawReplay:
    """Replays an iteration's actions on raw physics, restarted where the robot had fallen."""

    def __init__(self, case: RobotCase, action: np.ndarray, terminated: np.ndarray) -> None:
        num_lanes = len(action)
        self._raw = RawPhysics(case.model, num_lanes, num_threads=1)
        env = case.make_env(num_lanes, num_threads=1)
        env.reset(np.ones(num_lanes, dtype=np.bool_), generators(num_lanes))
        self._start = env.physics.position.copy(), env.physics.velocity.copy()
        self._controls = np.clip(action, -1.0, 1.0).swapaxes(0, 1) * case.control_limit
        never = np.zeros(0, dtype=np.int64)
        self._restarts = [never, *(np.flatnonzero(ended) for ended in terminated.T[:-1])]

    def play(self) -> None:
        self._raw.set_state(*self._start)
        self._raw.play(self._controls, self._restarts)


def _memory(settings: Settings) -> list[Row]:
    """Growth of peak memory over a million env steps; with few updates, which keep nothing."""
    num_env_steps = 32_000 if settings.quick else NUM_ENV_STEPS
    knobs = {
        "meta.replay_env_steps": num_env_steps // 20,
        "meta.inference_env_steps": num_env_steps // 20,
        "meta.updates_per_env_step": 0.002,
        "meta.inference_updates_per_meta_episode": 0.1,
    }
    engine = LocalEngine(TrainConfig.for_task(HALF_CHEETAH.task).with_knobs(knobs), num_threads=1)
    peaks = []
    for _ in range(num_env_steps // engine.learner.env_steps_per_iteration):
        engine.iterate()
        peaks.append(peak_memory_mib())
    note = f"{num_env_steps:,} env steps, a replay of {num_env_steps // 20:,}, an update every 500"
    return [growth_row(HALF_CHEETAH.task, peaks, note)]
