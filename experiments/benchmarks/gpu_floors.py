"""Lower bounds of an update's time: bytes, launches and matrix products; and a timer."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from experiments.benchmarks.gpu_part import synchronise
from ssmrl.config import TrainConfig
from ssmrl.context.graph import graphs_of
from ssmrl.context.networks import ContextNetworks


def bytes_moved(config: TrainConfig, networks: ContextNetworks) -> float:
    """The fewest bytes that an update can move: all it needs read once, all it changes written.

    For each trained network these are its weights, Adam's two moments, and its target or average.
    Batch and noise are added. Activations are left out, so the floor is never too high.

    Args:
        config: Batch size, and how often the actor is updated.
        networks: Networks, for their sizes.

    Returns:
        Mean number of bytes per update [bytes].
    """
    size, turn = config.meta.batch_size, config.meta.actor_every
    row = 2 * networks.observation_dim + networks.action_dim + 2 + networks.code_dim
    critics = 2 * 4 * networks.critic.flat.numel()  # weights, moments and targets, both ways
    actor = 2 * 4 * networks.actor.flat.numel()  # weights, moments and average, both ways
    noise = size * networks.action_dim
    batch = size * row + noise
    acts = networks.actor.flat.numel()  # read for the target if not updated
    per_update: float = critics + batch + (actor + noise + (turn - 1) * acts) / turn
    return 4.0 * per_update


def copy_bandwidth(device: torch.device, num_bytes: int) -> float:
    """Read and write rate of a copy within the device's memory [bytes/s]."""
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = median_seconds(partial(target.copy_, source), device, 10)
    return 2.0 * num_bytes / seconds


def launch_seconds(device: torch.device, num_launches: int = 1000) -> float:
    """Duration of an operator with hardly any work, in a graph if the device has graphs [s]."""
    value = torch.zeros((), device=device)

    def many() -> None:
        for _ in range(num_launches):
            value.add_(1.0)

    return median_seconds(_in_a_graph(many, device), device, 5) / num_launches


def product_rate(device: torch.device, num: int, height: int, width: int) -> float:
    """Rate of an update's matrix products, in a graph if the device has graphs [FLOP/s]."""
    left = torch.randn(num, height, width, device=device)
    right = torch.randn(num, width, width, device=device)

    def many() -> None:
        for _ in range(100):
            torch.bmm(left, right)

    seconds = median_seconds(_in_a_graph(many, device), device, 5)
    return 100 * 2.0 * num * height * width * width / seconds


def _in_a_graph(work: Callable[[], None], device: torch.device) -> Callable[[], object]:
    graphs = graphs_of(device)
    if graphs is None:
        return work

    def rehearsed() -> tuple[Tensor, ...]:
        work()
        return ()

    graphs.rehearse(rehearsed)
    return graphs.capture(work)


def count_launches(work: Callable[[], object], device: torch.device) -> int:
    """Number of kernels, copies and fills that a call starts.

    A CPU launches nothing: there, operators that call no other one are counted.
    """
    work()
    synchronise(device)
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, acc_events=True) as profiler:
        work()
        synchronise(device)
    events = profiler.events()
    assert events is not None
    if device.type == "cuda":
        return sum(each.device_type.name == "CUDA" for each in events)
    operators = [each for each in events if each.name.startswith("aten::")]
    return sum(not each.cpu_children for each in operators)


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median duration of a call, after an untimed one [s]."""
    seconds = []
    work()
    for _ in range(repeats):
        synchronise(device)
        started = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
