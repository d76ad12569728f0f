"""Trials of a sweep with injected faults; a separate module, so that Ray's workers import it."""

from typing import Any

from experiments.faults.injection import Injection
from tuning.training import MetaTraining


class FaultyTraining(MetaTraining):
    """A trial that notifies the injection when it begins and when an iteration begins.

    It inherits because Tune takes a class, and instantiates it in the process the fault must hit.
    """

    _injection: Injection | None = None  # one per process, for all its trials

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
