"""Divides a play, a request for rollouts, among the runners of an algorithm."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS

from cluster.collector import MAX_LOSSES, Collector
from cluster.work_item import NUM_LOST_PARTS, Delivery, RolloutResult, split
from ssmrl.rollout.play import Play
from ssmrl.types import Params


def _none_lost(played: Mapping[int, RolloutResult]) -> set[int]:
    return set()


class DividedPlay:
    """Collects rollouts on the living runners of an algorithm, whatever their number.

    Args:
        algorithm: Owner of the runners; its metrics receive the number of lost parts.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._config, self._runners = algorithm.config, algorithm.env_runner_group
        self._collector = Collector(
            self._runners,
            restore=partial(algorithm.restore_env_runners, self._runners),
            report_lost=self._report_lost,
            max_patience_s=self._config.sample_timeout_s,
        )

    def __call__(
        self,
        params: Params,
        play: Play,
        delivery: Delivery = Delivery.NONE,
        deliver: Callable[[Mapping[int, RolloutResult]], set[int]] = _none_lost,
    ) -> list[RolloutResult]:
        """Collect the rollouts of a play.

        Args:
            params: Policy parameters.
            play: Tasks, their randomness, and what to collect; the result depends on nothing
                else.
            delivery: How the trajectories reach the learners.
            deliver: Hands the trajectories to the learners, and returns the numbers of the parts
                lost in transit, which are then collected again.

        Returns:
            The results of the parts, in the order of the tasks.

        Raises:
            RuntimeError: If parts were lost too many times; the runners' logs say why.
        """
        num_runners, num_shares = self._config.num_env_runners, max(1, self._config.num_learners)
        settings: dict[str, Any] = {"params": params, "delivery": delivery}
        if num_runners == 0:
            (part,) = split(play, 1, num_shares)
            played = {0: self._runners.local_env_runner.sample(part=part, **settings)}
            deliver(played)
            return list(played.values())
        settings["params"] = ray.put(params)
        parts = {part.number: part for part in split(play, num_runners, num_shares)}
        played, missing = {}, dict(parts)
        for _ in range(1 + MAX_LOSSES):
            again = self._collector.play(missing, settings)
            played |= again
            missing = {number: parts[number] for number in deliver(again)}
            if not missing:
                return [played[number] for number in sorted(played)]
            self._report_lost(len(missing))
        raise RuntimeError(
            f"the trajectories of {len(missing)} parts were lost {1 + MAX_LOSSES} times in one "
            "iteration before the learners had them; the runners' logs say why"
        )

    def _report_lost(self, num_lost: int) -> None:
        key = (ENV_RUNNER_RESULTS, NUM_LOST_PARTS)
        self._algorithm.metrics.log_value(key, num_lost, reduce="lifetime_sum")
