"""Real meta-training of ``point`` as a problem to search; its best possible return is known."""

from collections.abc import Mapping
from itertools import islice
from math import ceil, isfinite
from statistics import fmean

import numpy as np
import torch

from ssmrl.config import KnobValue, TrainConfig
from ssmrl.envs.point import best_return
from ssmrl.meta.diverged import DivergedError
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.meta.settings import GradientSettings
from ssmrl.train import evaluate, train
from tuning.plan import SweepPlan
from tuning.spaces.space import SearchSpace, default_limits, default_space

MAX_ENV_STEPS = 16_000
NUM_CHECKS = 2  # fresh seeds on which the picked configuration is retrained


class PointTraining:
    """Meta-trains a state space policy on ``point`` with the knobs of a point of the default space.

    Args:
        seed: Random seed of all training; the checks have seeds that no search has.

    Attributes:
        name: ``point-training``.
        space: The first box of a sweep of ``point``.
        limits: Its hard limits.
    """

    name = "point-training"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        base = SweepPlan("point", algorithm="promp", seed=seed).base()
        self.space: SearchSpace = default_space(base)
        self.limits: SearchSpace = default_limits(base)

    def evaluate(self, point: Mapping[str, KnobValue], rng: np.random.Generator) -> float | None:
        """The return after adaptation on held-out tasks; None if the training diverges.

        Each call trains with a new seed: equal points have different scores.
        """
        return self._score(point, seed=int(rng.integers(2**31)), draw=0)

    def regret(self, point: Mapping[str, KnobValue]) -> float:
        """Gap between the best possible return and that of retrained policies on fresh tasks.

        Infinite if a training diverges.
        """
        seeds = np.random.SeedSequence([self._seed, 1]).generate_state(NUM_CHECKS)
        scores = [self._score(point, seed=int(seed) % 2**31, draw=1) for seed in seeds]
        known = [score for score in scores if score is not None]
        if len(known) < len(scores):
            return float("inf")
        return best_return(self.space.base.env.horizon) - fmean(known)

    def _score(self, point: Mapping[str, KnobValue], *, seed: int, draw: int) -> float | None:
        config = self.space.base.with_knobs({**point, "seed": seed})
        torch.set_num_threads(1)  # several searches run in parallel
        actor = initial_actor(config)
        try:
            for _ in islice(train(config, actor, num_threads=1), _num_iterations(config)):
                pass
        except DivergedError:
            return None
        num_steps = config.meta.num_inner_steps
        evaluation = evaluate(config, actor, num_steps=num_steps, draw=draw, num_threads=1)
        score = evaluation.mean_returns()[num_steps]
        return score if isfinite(score) else None


def _num_iterations(config: TrainConfig) -> int:
    meta: GradientSettings = config.meta
    lanes = meta.num_tasks * meta.num_episodes * (meta.num_inner_steps + 1)
    return ceil(MAX_ENV_STEPS / (lanes * config.env.horizon))
