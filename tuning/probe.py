"""How fast this machine trains a configuration: a short measurement, then thrown away."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection

import torch

from ssmrl.config import TrainConfig
from ssmrl.device_memory import DeviceMemoryError, device_memory
from ssmrl.meta.diverged import DivergedError
from ssmrl.rollout.play import Mode
from ssmrl.run import NUM_EVALUATIONS, LocalEngine

LIMIT_S = 10.0
MOST_ITERATIONS = 4


@dataclass(frozen=True)
class Rate:
    """Measured speed of a run in one process with one thread.

    Attributes:
        env_steps_per_second: Env steps per second of training, updates included [1/s].
        judge_seconds: Time of all evaluations of a run [s].
        env_steps_per_iteration: Length of an iteration; training ends with a whole one [env steps].
    """

    env_steps_per_second: float
    judge_seconds: float
    env_steps_per_iteration: int

    def seconds(self, env_steps: int) -> float:
        """Time that a run of this budget takes [s].

        Args:
            env_steps: The budget [env steps].
        """
        iterations = -(-env_steps // self.env_steps_per_iteration)
        trained = iterations * self.env_steps_per_iteration / self.env_steps_per_second
        return trained + self.judge_seconds

    def env_steps(self, seconds: float) -> int:
        """The largest budget of whole iterations, at least one, that fits a time [env steps].

        Args:
            seconds: Time for training and evaluation [s].
        """
        steps = (seconds - self.judge_seconds) * self.env_steps_per_second
        iterations = max(1, int(steps // self.env_steps_per_iteration))
        return iterations * self.env_steps_per_iteration


def probe(
    configs: Sequence[TrainConfig],
    *,
    at_once: int = 1,
    limit_s: float = LIMIT_S,
    devices: Sequence[str] = ("cpu",),
) -> list[Rate]:
    """Measure configurations, each in as many processes as trials will run at once.

    Cores share caches and memory: two trials at once each take longer than one alone.

    Args:
        configs: Configurations to train.
        at_once: Number of processes that measure side by side; 1 on the CPU is this process.
        limit_s: Time limit of each configuration, as in ``measured`` [s].
        devices: Devices of the networks, given to the processes in turn. On a GPU this process
            measures nothing, since it would hold memory there until it ends.

    Returns:
        The slowest process's rate for each configuration.

    Raises:
        DeviceMemoryError: If a device has no room for its copies of the first configuration.
    """
    if at_once == 1 and devices[0] == "cpu":
        return [measured(config, limit_s) for config in configs]
    context, processes, answers = get_context("spawn"), [], []
    # Only this process handles Ctrl-C; the others inherit that it is ignored.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for number in range(at_once):
            answer, question = context.Pipe(duplex=False)
            settings = (question, configs, limit_s, devices[number % len(devices)])
            process = context.Process(target=_tell, args=settings, daemon=True)
            process.start()
            question.close()
            processes.append(process)
            answers.append(answer)
        signal.signal(signal.SIGINT, handler)
        told: list[list[Rate] | str] = [answer.recv() for answer in answers]
    finally:
        signal.signal(signal.SIGINT, handler)
        for process in processes:
            process.kill()
    found = []
    for rates in told:
        if isinstance(rates, str):
            raise DeviceMemoryError(rates)
        found.append(rates)
    return [min(rates, key=lambda r: r.env_steps_per_second) for rates in zip(*found, strict=True)]


def _tell(answer: Connection, configs: Sequence[TrainConfig], limit_s: float, device: str) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    rates: list[Rate] = []
    for config in configs:
        try:
            rates.append(measured(config, limit_s, device))
        except DeviceMemoryError as error:
            if not rates:
                answer.send(str(error))
                return
            rates.append(rates[0])  # its trial may fail; the sweep need not
    answer.send(rates)


def _end_with_parent() -> None:
    """End with the parent, which may die without telling this process, as at Ctrl-C."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def measured(config: TrainConfig, limit_s: float = LIMIT_S, device: str = "cpu") -> Rate:
    """Train a few iterations in this process, and evaluate once.

    The first iteration warms everything up; it counts only if there is no time for another one.

    Args:
        config: Configuration to train; the result is thrown away.
        limit_s: Time limit; no iteration starts after half of it [s].
        device: Device of the networks.

    Raises:
        DeviceMemoryError: If the device has no room.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the process of a trial
    try:
        engine = LocalEngine(config, num_threads=1, device=torch.device(device))
        with device_memory(config):
            seconds = _iterations(engine, limit_s / 2.0)
        judged = _judgement(engine)
    finally:
        torch.set_num_threads(num_threads)
    counted = seconds[1:] or seconds
    per_iteration = engine.learner.env_steps_per_iteration
    rate = len(counted) * per_iteration / sum(counted)
    return Rate(rate, NUM_EVALUATIONS * judged, per_iteration)


def _iterations(engine: LocalEngine, limit_s: float) -> list[float]:
    began = time.monotonic()
    seconds: list[float] = []
    while not seconds or (len(seconds) < MOST_ITERATIONS and time.monotonic() - began < limit_s):
        started = time.monotonic()
        try:
            engine.iterate()
        except DivergedError:  # its time counts all the same
            seconds.append(time.monotonic() - started)
            break
        seconds.append(time.monotonic() - started)
    return seconds


def _judgement(engine: LocalEngine) -> float:
    """Time of one evaluation like those of a run [s]."""
    learner, started = engine.learner, time.monotonic()
    modes = [Mode.USED] if learner.knows_nothing_at_first else [Mode.USED, Mode.OFF]
    for mode in modes:
        engine.judge(num_episodes=learner.num_episodes, mode=mode, draw=0)
    return time.monotonic() - started
