"""Families that break one rule each: the point, with one thing wrong about it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ssmrl.envs.batched_env import BatchedEnv, Camera, Step
from ssmrl.envs.hidden_code import RangeCode
from ssmrl.envs.point import POINT, PointEnv
from ssmrl.envs.task import TaskFamily


class Spoilt(BatchedEnv):
    """Points whose steps, tasks or resets are made wrong."""

    def __init__(
        self,
        spoil: Callable[["Spoilt", Step], Step],
        num_envs: int,
        horizon: int,
        action_scale: float,
        num_threads: int,
        *,
        resets_all: bool = False,
        takes_tasks: bool = True,
    ) -> None:
        self._points = PointEnv(num_envs, horizon, action_scale)
        self._spoil, self._resets_all, self._takes_tasks = spoil, resets_all, takes_tasks
        self.num_envs, self.horizon, self.num_steps = num_envs, horizon, 0
        self.observation_dim, self.action_dim = 2, 2
        self.goals = np.zeros((num_envs, 2))
        self.live = np.zeros((num_envs, 2))

    def set_tasks(self, parameters: Sequence[tuple[float, ...]]) -> None:
        self.goals = np.array(parameters)
        self._points.set_tasks(parameters if self._takes_tasks else [(1.0, 0.0)] * self.num_envs)

    def reset(self, mask: np.ndarray, generators: Sequence[np.random.Generator]) -> np.ndarray:
        return self._points.reset(np.ones_like(mask) if self._resets_all else mask, generators)

    def step(self, action: np.ndarray) -> Step:
        self.num_steps += 1
        return self._spoil(self, self._points.step(action))

    def camera(self) -> Camera:
        return self._points.camera()


def with_step(spoil: Callable[[Spoilt, Step], Step], **how: bool) -> TaskFamily:
    return replace(POINT, make_env=partial(Spoilt, spoil, **how))


def paid(step: Step, more: np.ndarray | float) -> Step:
    reward = step.reward + more
    return step._replace(reward=reward, terms={"distance": reward})


def living(env: Spoilt, step: Step) -> Step:
    env.live[:] = step.observation
    return step._replace(observation=env.live)


def told(env: Spoilt, step: Step) -> Step:
    goal = env.goals[:, 0]
    return step._replace(terms={"distance": step.reward - goal, "goal": goal.copy()})


def as_it_is(env: Spoilt, step: Step) -> Step:
    return step


class CrookedCode(RangeCode):
    """Decodes something else than it encoded."""

    def decode(self, code: np.ndarray) -> np.ndarray:
        return 2.0 * code


WRONG_SIZE = replace(POINT, spec=replace(POINT.spec, action_dim=1))
WRONG_SHAPE = with_step(lambda env, step: step._replace(observation=step.observation[:, :1]))
WRONG_REWARD_SHAPE = with_step(lambda env, step: step._replace(reward=step.reward[:, None]))
NAN_REWARD = with_step(lambda env, step: paid(step, np.where(env.goals[:, 0] > 0, np.nan, 0.0)))
WRONG_TERMS = with_step(lambda env, step: step._replace(terms={"distance": 2.0 * step.reward}))
ANOTHER_REWARD = with_step(lambda env, step: paid(step, 1.0))
LIVE_VIEW = with_step(living)
RESETS_ALL = with_step(as_it_is, resets_all=True)
NEVER_FORGETS = with_step(lambda env, step: paid(step, 0.01 * env.num_steps))
UNSEEDED = with_step(lambda env, step: paid(step, np.random.default_rng().random(env.num_envs)))
BATCH_ORDER = with_step(lambda env, step: paid(step, 0.01 * np.arange(env.num_envs)))
OTHERS_TASKS = with_step(lambda env, step: paid(step, env.goals.mean()))
NEVER_TRUNCATES = with_step(
    lambda env, step: step._replace(truncated=np.zeros(env.num_envs, dtype=np.bool_))
)
COMMON_CLOCK = with_step(
    lambda env, step: step._replace(
        truncated=np.full(env.num_envs, env.num_steps % env.horizon == 0)
    )
)
TASK_OBSERVED = with_step(lambda env, step: step._replace(observation=step.observation + env.goals))
TASK_TOLD = with_step(told)
TASKS_WITHOUT_EFFECT = with_step(as_it_is, takes_tasks=False)
ONE_SPLIT = replace(POINT, test=POINT.train)
WRONG_COUNT = replace(POINT, spec=replace(POINT.spec, num_parameters=3))
NARROW_CODE = replace(POINT, hidden=RangeCode(0.0, 1.0, 2))
CROOKED_CODE = replace(POINT, hidden=CrookedCode(-1.0, 1.0, 2))

CODE = "the_hidden_code_decodes_what_it_encodes"
LENGTH = "an_episode_is_truncated_at_the_horizon"
SHAPES = "observation_and_reward_have_their_shapes"
SHOWS = "the_hidden_task_shows_only_through_what_it_varies"
BROKEN = {
    "WRONG_SIZE": ("sizes_are_those_of_the_environment", "that of `spec`, 1, but is 2"),
    "WRONG_SHAPE": (SHAPES, r"`observation` must be \(4, 2\) of float64, but is \(4, 1\)"),
    "WRONG_REWARD_SHAPE": (SHAPES, r"`reward` must be \(4,\) of float64, but is \(4, 1\)"),
    "NAN_REWARD": ("reward_and_observation_are_finite", "`reward` must be finite, but is"),
    "WRONG_TERMS": ("the_reward_is_the_sum_of_its_terms", "terms must add up to `reward`"),
    "ANOTHER_REWARD": ("the_reward_of_the_family_is_what_was_paid", "must be the reward that was"),
    "LIVE_VIEW": ("a_returned_step_is_a_copy", "return copies"),
    "RESETS_ALL": ("reset_touches_exactly_the_mask", "must not touch lanes outside its mask"),
    "NEVER_FORGETS": ("a_reset_leaves_nothing_of_the_episode_before", "not depend on the one"),
    "UNSEEDED": ("equal_generators_give_equal_episodes", "draw from the generators of `reset`"),
    "BATCH_ORDER": ("the_order_of_the_batch_does_not_matter", "not depend on the batch's order"),
    "OTHERS_TASKS": ("each_lane_keeps_its_own_task", "must depend on its own task alone"),
    "NEVER_TRUNCATES": (LENGTH, "must be true after 12 steps"),
    "COMMON_CLOCK": (LENGTH, "from a lane's own reset"),
    "TASK_OBSERVED": (SHOWS, "must not depend on the hidden variable"),
    "TASK_TOLD": ("no_number_of_a_step_is_the_hidden_task", "hidden variable 0 is number 6"),
    "TASKS_WITHOUT_EFFECT": (SHOWS, "make sure that `set_tasks` takes effect"),
    "ONE_SPLIT": ("train_and_test_are_two_objects", "but are one object"),
    "WRONG_COUNT": ("a_task_has_as_many_parameters_as_the_family_says", r"3, but have \[2\]"),
    "NARROW_CODE": (CODE, r"must lie in \[-1, 1\], but one is 3"),
    "CROOKED_CODE": (CODE, "must give back what `encode` was given"),
}
"""By name, the rule that it breaks and part of what is said of it."""
