"""Distributes the parts of a play, a request for rollouts, among the living runners."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from cluster.work_item import RolloutResult, WorkItem

MAX_LOSSES = 10
"""Times in one iteration that parts may be lost before the training gives up."""

_REVIVAL_SECONDS = 60.0
# A runner counts as lost after this multiple of the longest time per episode so far, times the
# episodes of its part.
_PATIENCE = 5.0
_LEAST_PATIENCE_SECONDS = 30.0


class Collector:
    """Collects every part of a play, even if runners die or hang meanwhile.

    If a runner dies or is much slower than any runner before, another runner collects its part
    again. A part's randomness belongs to its tasks, so the result is the same. RLlib replaces each
    lost runner.

    Args:
        runners: RLlib's group, with at least one remote runner.
        restore: Takes back the runners that RLlib has restarted.
        report_lost: Receives the number of lost parts.
        max_patience_s: Longest wait for a part [s].
    """

    def __init__(
        self,
        runners: EnvRunnerGroup,
        *,
        restore: Callable[[], object],
        report_lost: Callable[[int], None],
        max_patience_s: float,
    ) -> None:
        self._runners = runners
        self._restore, self._report_lost = restore, report_lost
        self._max_patience_s = max_patience_s
        self._slowest = 0.0  # [s per episode]

    def play(
        self, parts: Mapping[int, WorkItem], settings: Mapping[str, Any]
    ) -> dict[int, RolloutResult]:
        """Collect all parts.

        Args:
            parts: Parts by number.
            settings: Keyword arguments of a runner's ``sample`` besides its part.

        Returns:
            The result of each part, by number.

        Raises:
            RuntimeError: If parts were lost too many times; the runners' logs say why.
        """
        waiting, done = dict(parts), dict[int, RolloutResult]()
        num_losses = 0
        while waiting:
            results, num_lost = self._play_once(waiting, settings)
            for played in results:
                done[played.number] = played
                del waiting[played.number]
            if num_lost or not results:
                num_losses += 1
                self._report_lost(num_lost)
                if num_losses > MAX_LOSSES:
                    raise RuntimeError(
                        f"parts of a play were lost {num_losses} times in one iteration on "
                        f"{self._runners.num_remote_workers()} runners; their logs say why"
                    )
                self._revive()
        return done

    def _play_once(
        self, waiting: Mapping[int, WorkItem], settings: Mapping[str, Any]
    ) -> tuple[list[RolloutResult], int]:
        """Give each living runner one of the waiting parts.

        Returns:
            The results that came back, and the number of lost parts.
        """
        ids = self._runners.healthy_env_runner_ids()[: len(waiting)]
        if not ids:
            return [], 0
        parts = list(waiting.values())[: len(ids)]
        most = max(part.num_episodes for part in parts)
        began = time.monotonic()
        results: list[RolloutResult] = self._runners.foreach_env_runner(
            ["sample"] * len(ids),
            kwargs=[{"part": part, **settings} for part in parts],
            local_env_runner=False,
            remote_worker_ids=ids,
            timeout_seconds=self._patience_s(most),
        )
        came = {played.number for played in results}
        if len(results) == len(ids):
            self._slowest = max(self._slowest, (time.monotonic() - began) / most)
        else:
            asked = zip(ids, parts, strict=True)
            self._end_silent([runner for runner, part in asked if part.number not in came])
        return results, len(ids) - len(results)

    def _patience_s(self, num_episodes: int) -> float:
        """How long to wait for a part [s]; the more episodes it has, the longer."""
        if not self._slowest:
            return self._max_patience_s
        wanted = _PATIENCE * self._slowest * num_episodes
        return min(self._max_patience_s, max(_LEAST_PATIENCE_SECONDS, wanted))

    def _end_silent(self, ids: list[int]) -> None:
        """Kill the runners that are alive but do not answer: they would keep their CPUs."""
        manager = self._runners._worker_manager
        for silent in set(manager.healthy_actor_ids()).intersection(ids):
            ray.kill(manager.actors()[silent], no_restart=False)
            manager.set_actor_state(silent, healthy=False)  # until its replacement answers

    def _revive(self) -> None:
        """Wait for replacements of dead runners, but only if no runner is left alive."""
        deadline = time.monotonic() + _REVIVAL_SECONDS
        while not self._runners.num_healthy_remote_workers() and time.monotonic() < deadline:
            self._restore()
            time.sleep(0.2)
