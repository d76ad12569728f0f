"""Injects each trial's fault at its moment; ``fault_list`` says which faults there are."""

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

import ssmrl.run
from experiments.faults import fault_list as kinds
from experiments.faults.clock import set_back_if_asked
from experiments.faults.damage import damage
from experiments.faults.fault_list import FaultList, TrialFault
from ssmrl.envs.batched_env import Step
from ssmrl.envs.point import PointEnv
from ssmrl.meta.batch import MetaBatch, Outer

LIST, STRUCK = "faults.json", "struck"
"""In the storage folder: the list, and a folder with a file for each time a fault happened."""

_FOR_EVER = 10**6  # [s]


class Injection:
    """Injects the listed faults into the trials of this process.

    It patches the classes of the environment and of the meta-batch for the whole process. A user's
    own broken environment would not need that.

    Args:
        place: The folder of all sweeps, with the list.

    Attributes:
        checkpoint: Checkpoint of the current trial.
    """

    checkpoint: Path | None

    def __init__(self, place: Path) -> None:
        self._place = place
        self._by_name = {f"t{each.trial:04d}": each for each in FaultList.read(place / LIST).trials}
        self._fault: TrialFault | None = None
        self._name, self._iteration, self._steps, self._epochs = "", 0, 0, 0
        self.checkpoint = None
        set_back_if_asked()
        # A trial takes seconds: save each iteration, so that there is a checkpoint to damage.
        vars(ssmrl.run)["_SECONDS_BETWEEN_CHECKPOINTS"] = 0.0
        self._install()

    def begin(self, name: str) -> None:
        """Note that a trial begins.

        Raises:
            ValueError: If its fault is that the set-up raises.
        """
        self._name, self._fault, self.checkpoint = name, self._by_name.get(name), None
        self.iterate(0)
        if self._fault is not None and self._fault.kind == kinds.SETUP and self._strikes():
            raise ValueError("there is no friction below 0")

    def iterate(self, number: int) -> None:
        """Note that an iteration begins."""
        self._iteration, self._steps, self._epochs = number, 0, 0

    def _install(self) -> None:
        usual_step, usual_reset, usual_gradient = PointEnv.step, PointEnv.reset, MetaBatch.gradient

        def step(env: PointEnv, action: Any) -> Step:
            self._before_step()
            stepped = self._after_step(usual_step(env, action))
            self._steps += 1
            return stepped

        def reset(env: PointEnv, mask: Any, generators: Any) -> Any:
            if (fault := self._due(self._steps)) and fault.detail == "in a reset":
                self._hang(fault)
            return usual_reset(env, mask, generators)

        def gradient(batch: MetaBatch, params: Any, loss: Any) -> Outer:
            outer = self._after_gradient(usual_gradient(batch, params, loss))
            self._epochs += 1
            return outer

        for owner, name, method in (
            (PointEnv, "step", step),
            (PointEnv, "reset", reset),
            (MetaBatch, "gradient", gradient),
        ):
            setattr(owner, name, method)

    def _due(self, moment: int) -> TrialFault | None:
        fault = self._fault
        is_due = fault and (fault.iteration, fault.step) == (self._iteration, moment)
        return fault if is_due else None

    def _before_step(self) -> None:
        fault = self._due(self._steps)
        if fault is None or fault.kind in (kinds.KILLED, kinds.OBSERVATION, kinds.REWARD):
            return
        if fault.kind in (kinds.SLEEPS, kinds.SPINS) and fault.detail != "in a reset":
            self._hang(fault)
        if fault.kind in (kinds.SEGFAULT, kinds.EXIT, kinds.CHECKPOINT) and self._strikes():
            self._die(fault)
        if fault.kind == kinds.RAISES and self._strikes():
            raise RuntimeError("the environment broke")
        if fault.kind == kinds.NO_MEMORY and self._strikes():
            if fault.step % 2:
                np.empty(2**50)
            torch.empty(2**50)

    def _after_step(self, step: Step) -> Step:
        fault = self._due(self._steps)
        if fault is None or fault.kind not in (kinds.OBSERVATION, kinds.REWARD):
            return step
        self._strikes()
        leaf = (step.observation if fault.kind == kinds.OBSERVATION else step.reward).copy()
        leaf.reshape(-1)[0] = float(fault.detail)
        if fault.kind == kinds.OBSERVATION:
            return step._replace(observation=leaf)
        return step._replace(reward=leaf)

    def _after_gradient(self, outer: Outer) -> Outer:
        fault = self._due(self._epochs)
        if fault is None or fault.kind not in (kinds.LOSS, kinds.GRADIENT):
            return outer
        self._strikes()
        wrong = float(fault.detail)
        if fault.kind == kinds.LOSS:
            return outer._replace(loss=torch.full_like(outer.loss, wrong))
        broken = {name: value.clone() for name, value in outer.gradient.items()}
        next(iter(broken.values())).view(-1)[0] = wrong
        return outer._replace(gradient=broken)

    def _strikes(self) -> bool:
        """Whether the fault happens this time; it is recorded before it does."""
        assert self._fault is not None
        folder = self._place / STRUCK
        folder.mkdir(exist_ok=True)
        before = len(list(folder.glob(f"{self._name}.*")))
        if self._fault.is_once and before:
            return False
        if self._fault.kind == kinds.CHECKPOINT and before:
            return False
        (folder / f"{self._name}.{before}").touch()
        return True

    def _hang(self, fault: TrialFault) -> None:
        if not self._strikes():
            return
        if fault.detail == "in C":
            ctypes.PyDLL(None).sleep(_FOR_EVER)  # which holds the interpreter's lock
        while fault.kind == kinds.SLEEPS:
            time.sleep(_FOR_EVER)
        while fault.kind == kinds.SPINS:
            pass

    def _die(self, fault: TrialFault) -> NoReturn:
        if fault.kind == kinds.SEGFAULT:
            ctypes.string_at(0)
        if fault.kind == kinds.CHECKPOINT:
            assert self.checkpoint is not None
            damage(self.checkpoint, fault.detail, np.random.default_rng(fault.trial))
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(7)
