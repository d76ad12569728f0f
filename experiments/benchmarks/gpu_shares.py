"""Where the time and the device's memory of context-sac go; not how well it learns."""

import resource
import statistics
import time

import torch
from torch.profiler import ProfilerActivity, profile

from experiments.benchmarks.gpu_check import context_config
from experiments.benchmarks.gpu_learning import seeds_of
from experiments.benchmarks.gpu_part import Job, Tell, synchronise
from experiments.benchmarks.gpu_rows import Row
from ssmrl.context.stacked_learner import StackedLearner
from ssmrl.rollout.play import LocalCollector
from ssmrl.run import LocalEngine

TASKS = ("ant-vel", "halfcheetah-vel")
MANY, MAX_RATIO = 16, 2.0
GROUPS = (1, 2)


def measure(job: Job, tell: Tell) -> None:
    """Time shares and memory of an iteration, by task.

    Args:
        job: Job, for its device and size.
        tell: Receives each row.
    """
    for task in TASKS:
        _shares(job, tell, task)
    for num_groups in GROUPS:
        _in_groups(job, tell, TASKS[0], num_groups)
    _at_once(job, tell, TASKS[0])


def _shares(job: Job, tell: Tell, task: str) -> None:
    device = torch.device(job.device)
    engine = LocalEngine(context_config(task, quick=job.quick), device=device)
    sample, update = _seconds(job, engine)
    whole = sample + update
    note = f"{engine.learner.env_steps_per_iteration} env steps, {update:.3g} s of learning"
    tell(Row(job.part, f"{task}: an iteration", whole, "s", note=note))
    what = f"{task}: share of time in which the learner waits for play"
    note = "physics and acting, on the CPU; nothing is learnt beside it"
    tell(Row(job.part, what, sample / whole, note=note))
    what = f"{task}: share of time in which the device computes"
    if device.type == "cuda":
        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
            engine.iterate()
            synchronise(device)
        events = profiler.events()
        assert events is not None
        on_device = [each.time_range for each in events if each.device_type.name == "CUDA"]
        busy = covered([(each.start, each.end) for each in on_device]) * 1e-6
        note = f"{busy:.3g} s of kernels and copies in an iteration"
        tell(Row(job.part, what, busy / whole, note=note))
        memory, what = torch.cuda.max_memory_reserved(device), f"{task}: the device's memory"
        torch.cuda.reset_peak_memory_stats(device)
    else:
        tell(Row(job.part, what, trouble="not on this device", note="a CPU does all of it"))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        what = f"{task}: the process's memory"
    tell(Row(job.part, what, memory / 2**20, "MiB", note="at most, since the start of the part"))


def _in_groups(job: Job, tell: Tell, task: str, num_groups: int) -> None:
    """Time an iteration whose updates run while groups of its lanes collect rollouts."""
    config = context_config(task, quick=job.quick, **{"meta.lane_groups": num_groups})
    sample, update = _seconds(job, LocalEngine(config, device=torch.device(job.device)))
    what = f"{task}: an iteration, learning beside play, groups of lanes: {num_groups}"
    note = f"{sample:.3g} s of play, {update:.3g} s of beginning updates and waiting for them"
    tell(Row(job.part, what, sample + update, "s", note=note))


def _seconds(job: Job, engine: LocalEngine) -> tuple[float, float]:
    """Median times that an iteration spends on rollouts and on updates [s]."""
    warm, num = (2, 2) if job.quick else (4, 10)
    for _ in range(warm):
        engine.iterate()
    found = [engine.iterate() for _ in range(num)]
    return (
        statistics.median(each.sample_seconds for each in found),
        statistics.median(each.update_seconds for each in found),
    )


def _at_once(job: Job, tell: Tell, task: str) -> None:
    """Time an iteration of many stacked seeds against that of one, with the share of play."""
    seconds: dict[int, tuple[float, float]] = {}
    warm, num = (1, 1) if job.quick else (4, 6)
    for num_seeds in (1, MANY):
        configs = seeds_of(context_config(task, quick=job.quick), num_seeds)
        learners = StackedLearner(configs, torch.device(job.device))
        collect, found = LocalCollector(configs[0]), []
        for _ in range(warm + num):
            started = time.perf_counter()
            made, diverged = learners.iterate(range(num_seeds), collect)
            whole = time.perf_counter() - started
            if diverged:
                raise next(iter(diverged.values()))
            found.append((whole, sum(each.sample_seconds for each in made.values())))
        seconds[num_seeds] = (
            statistics.median(whole for whole, _ in found[warm:]),
            statistics.median(play for _, play in found[warm:]),
        )
    (one, _), (many, play) = seconds[1], seconds[MANY]
    note = f"{many:.3g} s against {one:.3g} s; of the many {play / many:.0%} is play, on the CPU"
    what = f"{task}: an iteration of {MANY} stacked seeds, in those of one"
    wanted = MAX_RATIO if job.has_goals else None
    tell(Row(job.part, what, many / one, goal=wanted, at_most=True, note=note))


def covered(intervals: list[tuple[float, float]]) -> float:
    """Length of the union of the intervals.

    Example:
        >>> covered([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.7)])
        4.0
    """
    total, end = 0.0, -float("inf")
    for start, stop in sorted(intervals):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
