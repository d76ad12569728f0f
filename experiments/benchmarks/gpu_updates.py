"""Updates per second on a device, one after another and replayed, beside their floors."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks.gpu_check import context_config
from experiments.benchmarks.gpu_floors import (
    bytes_moved,
    copy_bandwidth,
    count_launches,
    launch_seconds,
    product_rate,
)
from experiments.benchmarks.gpu_part import Job, Tell, synchronise
from experiments.benchmarks.gpu_rates import replayed_row, seconds_of
from experiments.benchmarks.gpu_rows import Row
from experiments.benchmarks.gpu_stacked import SEED_UPDATES_PER_SECOND, stacked_rows
from ssmrl.config import TrainConfig
from ssmrl.context.actor_critic_training import cycle_length
from ssmrl.context.graph import Captured, graphs_of
from ssmrl.context.inference_training import InferenceTraining
from ssmrl.context.learner import ContextLearner
from ssmrl.context.networks import ContextNetworks, hidden_code
from ssmrl.context.settings import MATMULS
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.play import LocalCollector, Mode, Play
from ssmrl.types import Params, Trajectory

TASK = "ant-vel"
RECIPES = {"recipe": {"meta.num_lanes": 32, "meta.batch_size": 256}, "defaults": {}}
"""Settings by name; the goal applies to the first."""

UPDATES_PER_SECOND = 5000.0


def measure(job: Job, tell: Tell) -> None:
    """Rates and floors of each setting, then an iteration's learning as a whole.

    Args:
        job: Job, for its device and size.
        tell: Receives each row.
    """
    device = torch.device(job.device)
    bandwidth = copy_bandwidth(device, 2**22 if job.quick else 2**28)
    tell(Row(job.part, "copies, read and written", bandwidth / 1e9, "GB/s"))
    launch = launch_seconds(device)
    what = "one tiny operator in a graph" if device.type == "cuda" else "one tiny operator"
    tell(Row(job.part, what, launch * 1e6, "us"))
    for name, knobs in RECIPES.items():
        config = context_config(TASK, quick=job.quick, **({} if job.quick else knobs))
        experience = random_play(config)
        goal = UPDATES_PER_SECOND if name == "recipe" and job.has_goals else None
        _rates(job, tell, name, config, experience, goal)
        _floors(job, tell, name, config, experience, bandwidth, launch)
        if name == "recipe":
            wanted = SEED_UPDATES_PER_SECOND if job.has_goals else None
            stacked_rows(job, tell, config, *_prepared(config, experience, device), wanted)
    for matmul in MATMULS[1:]:
        _rounded(job, tell, matmul)
    _inference(job, tell, config)
    _whole(job, tell, config, experience)
    name = next(iter(RECIPES))
    config = context_config(TASK, quick=job.quick, **({} if job.quick else RECIPES[name]))
    tell(compiled_row(job, f"{name}: updates, compiled and replayed", config))


def compiled_row(job: Job, what: str, config: TrainConfig) -> Row:
    """Row of the rate of updates that ``torch.compile`` merged into fewer kernels, in a graph.

    A learner does not compile, because that takes longer than the updates of a short run. This row
    says what compiling would gain.

    Args:
        job: Job, for its device.
        what: Name of the row.
        config: Configuration of context-sac.
    """
    device = torch.device(job.device)
    graphs, turn = graphs_of(device), config.meta.actor_every
    if graphs is None:
        why = "nothing is captured on it"
        return Row(job.part, what, trouble="not on this device", note=why)
    drawn, learner = _prepared(config, random_play(config), device)
    compiled = torch.compile(learner.actor_critic.updates)
    started = time.perf_counter()
    compiled(*(value[:turn] for value in drawn))
    synchronise(device)
    note = f"{time.perf_counter() - started:.0f} s to compile"
    captured = Captured(partial(in_turns, compiled, turn), graphs, "the compiled updates")
    return replayed_row(job, what, captured, drawn, len(drawn[0]), goal=None, note=note)


def in_turns(
    updates: Callable[..., tuple[Tensor, ...] | None], turn: int, *drawn: Tensor
) -> tuple[Tensor, ...]:
    """Run updates one actor turn at a time, so that only one turn need be compiled.

    Args:
        updates: Function that makes the updates of a turn.
        turn: Updates of a turn, of which one updates the actor.
        drawn: Arguments for whole turns, with the updates along the first axis.

    Returns:
        Result of the last turn.
    """
    found: tuple[Tensor, ...] = ()
    for part in zip(*(value.split(turn) for value in drawn), strict=True):
        found = updates(*part) or ()
    return found


def _rates(
    job: Job,
    tell: Tell,
    name: str,
    config: TrainConfig,
    experience: list[Trajectory],
    goal: float | None,
) -> None:
    """Rates of actor and critic updates, reading from the replay included."""
    drawn, learner = _prepared(config, experience, torch.device(job.device))
    note = f"batches of {config.meta.batch_size}, {len(drawn[0])} updates a call"
    captured = learner.captured.get("actor_critic")
    what = f"{name}: updates, replayed"
    tell(replayed_row(job, what, captured, drawn, len(drawn[0]), goal=goal, note=note))
    seconds = seconds_of(partial(learner.actor_critic.updates, *drawn), job)
    what = f"{name}: updates, one after another"
    tell(Row(job.part, what, len(drawn[0]) / seconds, "updates/s", note=note))


def _rounded(job: Job, tell: Tell, matmul: str) -> None:
    """Rates of the recipe's updates with less exact products."""
    name = next(iter(RECIPES))
    knobs = {} if job.quick else RECIPES[name]
    exact = context_config(TASK, quick=job.quick, **knobs)
    if matmul == "tf32" and torch.device(job.device).type != "cuda":
        tell(Row(job.part, f"{name}, {matmul}: updates", trouble="not on this device"))
        return
    config, experience = exact.with_knobs({"meta.matmul": matmul}), random_play(exact)
    _rates(job, tell, f"{name}, {matmul}", config, experience, None)


def _floors(
    job: Job,
    tell: Tell,
    name: str,
    config: TrainConfig,
    experience: list[Trajectory],
    bandwidth: float,
    launch: float,
) -> None:
    """Three lower bounds of an update's time [us]."""
    device = torch.device(job.device)
    drawn, learner = _prepared(config, experience, device)
    num_updates, update = len(drawn[0]), partial(learner.actor_critic.updates, *drawn)
    moved = bytes_moved(config, learner.networks)
    note = f"{moved / 1e6:.2f} MB, everything read once and written once"
    tell(Row(job.part, f"{name}: floor of the bytes", moved / bandwidth * 1e6, "us", note=note))
    launches = count_launches(update, device) / num_updates
    if device.type == "cuda":
        what, note = f"{name}: floor of the launches", f"{launches:.1f} launches an update"
        tell(Row(job.part, what, launches * launch * 1e6, "us", note=note))
    else:
        what, note = f"{name}: operators called", "a CPU launches nothing; views counted in"
        tell(Row(job.part, what, launches, "per update", note=note))
    with FlopCounterMode(display=False) as counter:
        update()
    flops = counter.get_total_flops() / num_updates
    size = (2, config.meta.batch_size, config.meta.critic_hidden_dim)
    rate = product_rate(device, *size)
    note = f"{flops / 1e6:.0f} MFLOP at {rate / 1e9:,.0f} GFLOP/s, float32"
    tell(Row(job.part, f"{name}: floor of the products", flops / rate * 1e6, "us", note=note))


def _inference(job: Job, tell: Tell, config: TrainConfig) -> None:
    """Rates of the inference model's updates."""
    device, networks = torch.device(job.device), _networks(config)
    networks = networks.to(device)
    meta, steps = config.meta, config.meta.episodes_per_task * config.env.horizon
    inputs = networks.observation_dim + networks.action_dim + 2
    lanes = torch.randn(meta.inference_batch, steps, inputs, device=device)
    code = torch.rand(meta.inference_batch, networks.code_dim, device=device)
    training = InferenceTraining(networks.inference, config, device, graphs_of(device))
    note = f"{meta.inference_batch} lanes of {steps} env steps"
    what = "updates of the inference model, replayed"
    tell(replayed_row(job, what, training.captured, (lanes, code), 1, goal=None, note=note))
    seconds = seconds_of(partial(training.plain_update, lanes, code), job)
    what = "updates of the inference model, one after another"
    tell(Row(job.part, what, 1.0 / seconds, "updates/s", note=note))


def _whole(job: Job, tell: Tell, config: TrainConfig, experience: list[Trajectory]) -> None:
    """Rate of a whole iteration's learning, random numbers and inference model included."""
    learner = ContextLearner(config, device=torch.device(job.device))
    seconds = []
    for _ in range(2 if job.quick else 6):
        seconds.append(learner.iterate(partial(_again, experience)).update_seconds)
    num_updates = round(config.meta.updates_per_env_step * learner.env_steps_per_iteration)
    last = statistics.median(seconds[len(seconds) // 2 :])
    what = "updates, all of an iteration's learning counted"
    note = f"{num_updates} updates in {last:.3g} s, the inference model's included"
    tell(Row(job.part, what, num_updates / last, "updates/s", note=note))


def random_play(config: TrainConfig) -> list[Trajectory]:
    """Rollouts of an iteration with random actions."""
    assignment = train_assignment(config, 0, config.meta.num_lanes)
    play = Play(assignment, 1, config.meta.episodes_per_task, Mode.RANDOM)
    return LocalCollector(config)(ContextLearner(config).params(), play)


def _again(experience: list[Trajectory], params: Params, play: Play) -> list[Trajectory]:
    return experience


def _networks(config: TrainConfig) -> ContextNetworks:
    return ContextLearner(config).networks


def _prepared(
    config: TrainConfig, experience: list[Trajectory], device: torch.device
) -> tuple[tuple[Tensor, ...], ContextLearner]:
    """A learner with a replay, and the arguments of as many updates as one graph holds."""
    learner, code = ContextLearner(config, device=device), hidden_code(config)
    tasks = train_assignment(config, 0, config.meta.num_lanes).tasks
    parameters = np.array([task.parameters for task in tasks])
    learner.replay.add(experience, torch.from_numpy(code.encode(parameters)).float())
    learner.networks.set_statistics(learner.replay.observations())
    meta, generator = config.meta, torch.Generator().manual_seed(0)
    num_updates = cycle_length(
        round(meta.updates_per_env_step * learner.env_steps_per_iteration), meta.actor_every
    )
    size, num_other = meta.batch_size, round(meta.relabelled * meta.batch_size)
    places = torch.randint(learner.replay.num_env_steps, (num_updates, size), generator=generator)
    others = torch.from_numpy(parameters[np.arange(num_updates * num_other) % len(parameters)])
    others = others.unflatten(0, (num_updates, num_other))
    noise = torch.randn(num_updates, 2, size, learner.networks.action_dim, generator=generator)
    drawn = (places, others.float(), code.encode(others).float(), noise)
    return tuple(value.to(device) for value in drawn), learner
