"""Trials that go wrong on purpose; in a module of its own, which Ray's workers import."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from ssmrl.learner import Metrics
from tuning.training import MetaTraining

WIDTH = "policy.hidden_dim"
FINE, IN_SETUP, RAISES, DIES_ONCE, DIES, SLEEPS, SPINS, NO_MEMORY, NAN = range(16, 160, 16)
"""By the width of the policy what goes wrong, from the second iteration on."""

GREEDY = 160
"""Holds ever more memory, up to ``MOST_BYTES``."""

MOST_BYTES = 7 * 2**30


class FaultyTraining(MetaTraining):
    """Goes wrong by the width of the policy."""

    def _begin(self, point: dict[str, Any]) -> None:
        if point[WIDTH] == IN_SETUP:
            raise ValueError("there is no friction below 0")
        super()._begin(point)
        if point[WIDTH] == NO_MEMORY:
            assert self._training is not None
            engine: Any = self._training._runs.runs[0]._engine
            usual = engine.iterate

            def iterate() -> Metrics:
                if engine.learner.iteration:
                    raise MemoryError("Unable to allocate 7.28 TiB for an array")
                metrics: Metrics = usual()
                return metrics

            engine.iterate = iterate

    def step(self) -> dict[str, Any]:
        result = super().step()
        if result["iterations"] < 2:
            return result
        width = self.config[WIDTH]
        if width == RAISES:
            raise RuntimeError("the user's environment broke")
        if width == DIES or (width == DIES_ONCE and self._is_first()):
            os.kill(os.getpid(), signal.SIGKILL)
        while width == SLEEPS:
            time.sleep(1.0)
        while width == SPINS:
            pass
        if width == GREEDY:
            held = []
            for _ in range(MOST_BYTES >> 27):
                held.append(bytearray(b"x") * 2**27)
                time.sleep(0.1)
            time.sleep(5.0)
        if width == NAN and "score" in result:
            result |= {"curve": ((100, float("nan"), -3.0),)}
        return result

    def _is_first(self) -> bool:
        seen: Path = self._settings["folder"] / "died"
        is_first = not seen.exists()
        seen.parent.mkdir(parents=True, exist_ok=True)
        seen.touch()
        return is_first
