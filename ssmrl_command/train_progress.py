"""Progress lines of a training run, every few seconds."""

import time
from collections.abc import Callable
from statistics import fmean

from ssmrl.run import Row
from ssmrl_command.train_plan import TrainPlan


class TrainProgress:
    """Prints the progress of a run: a line per interval, and one per evaluation.

    Args:
        plan: Plan of the run, with its budget.
        row: State of the run at its start.
        say: Prints a line.
        interval: Time between two lines [s].
    """

    def __init__(
        self, plan: TrainPlan, row: Row, say: Callable[[str], None], interval: float = 4.0
    ) -> None:
        self._plan, self._say, self._interval = plan, say, interval
        self._said, self._env_steps = time.monotonic(), row.env_steps
        self._num_judged = len(row.curve)
        self._returns: list[float] = []

    def show(self, row: Row) -> None:
        """Record an iteration, and print the lines that are due."""
        if row.metrics is not None:
            self._returns.append(row.metrics.return_after)
        now = time.monotonic()
        if row.metrics is not None and now - self._said >= self._interval:
            rate = (row.env_steps - self._env_steps) / (now - self._said)
            losses = "  ".join(f"{name} {value:.3g}" for name, value in _losses(row).items())
            self._say(
                f"{self._share(row):4.0%}  {row.env_steps:,} env steps  {rate:,.0f}/s  "
                f"return {fmean(self._returns):.2f}  {losses}".rstrip()
            )
            self._said, self._env_steps, self._returns = now, row.env_steps, []
        if len(row.curve) > self._num_judged:
            self._num_judged = len(row.curve)
            env_steps, without, used = row.curve[-1]
            self._say(
                f"      held-out tasks after {env_steps:,} env steps: return {used:.2f}, without "
                f"adaptation {without:.2f}"
            )

    def _share(self, row: Row) -> float:
        plan = self._plan
        if plan.max_env_steps is not None:
            return min(1.0, row.env_steps / plan.max_env_steps)
        assert plan.max_cpu_seconds is not None
        return min(1.0, row.train_cpu_seconds / plan.max_cpu_seconds)


def _losses(row: Row) -> dict[str, float]:
    return {} if row.metrics is None else row.metrics.statistics
