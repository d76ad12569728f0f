"""The trials of a sweep, which go wrong by a list; in a module of its own, for Ray's workers."""

from typing import Any

from experiments.faults.injection import Injection
from tuning.training import MetaTraining


class FaultyTraining(MetaTraining):
    """A trial whose process is told when it begins and when it makes an iteration.

    Tune takes a class, and makes it where the fault has to happen: that is why it is not composed.
    """

    _injection: Injection | None = None  # of the process, which trains one trial after another

    def _begin(self, point: dict[str, Any]) -> None:
        cls = type(self)
        if cls._injection is None:
            cls._injection = Injection(self._settings["folder"].parent.parent)
        cls._injection.begin(str(self.trial_name))
        super()._begin(point)
        cls._injection.checkpoint = None if (run := self._run()) is None else run.path

    def step(self) -> dict[str, Any]:
        """One iteration, in which the trial's fault may happen."""
        if self._injection is not None and (run := self._run()) is not None:
            self._injection.iterate(run.row.iterations)
        return super().step()

    def _run(self) -> Any:
        training: Any = self._training
        return None if training is None else training._runs.runs[0]
