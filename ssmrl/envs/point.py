"""A point that seeks a hidden goal: the family whose best return is known in closed form."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from ssmrl.envs.batched_env import BatchedEnv, Camera, Step
from ssmrl.envs.geometric_median import geometric_median
from ssmrl.envs.hidden_code import DirectionCode
from ssmrl.envs.rewards import Motion, Reward, add_up, nearness
from ssmrl.envs.task import FamilySpec, TaskFamily, UniformCircle

GOAL_DISTANCE = 1.0
MAX_STEP = 0.1
PICTURE_SIZE, PICTURE_REACH, PICTURE_LINE = 480, 1.5, 0.01
REWARD = Reward("distance", nearness, "minus the distance to the goal", control_weight=0.0)


class PointEnv(BatchedEnv):
    """Moves a point in the plane; the reward is minus its distance to a goal it cannot see.

    The point starts at the origin and the goal lies on the unit circle. An action is a
    displacement, shortened to ``MAX_STEP`` if it is longer. The observation is the position.

    Args:
        num_envs: Number of simulations, ``B``.
        horizon: Steps until truncation [env steps].
        action_scale: Displacement is ``MAX_STEP * action / action_scale`` before shortening.
        num_threads: Unused.
    """

    observation_dim = 2
    action_dim = 2

    def __init__(
        self, num_envs: int, horizon: int, action_scale: float = 1.0, num_threads: int = 0
    ) -> None:
        self.num_envs = num_envs
        self._horizon = horizon
        self._action_scale = action_scale
        self._position = np.zeros((num_envs, 2))
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._goal = np.zeros((num_envs, 2))

    def set_tasks(self, parameters: Sequence[tuple[float, ...]]) -> None:
        """Set each simulation's goal ``(x, y)``."""
        self._goal = np.asarray(parameters, dtype=np.float64).reshape(self.num_envs, 2)

    def reset(
        self, mask: Bool[np.ndarray, " B"], generators: Sequence[np.random.Generator]
    ) -> Float[np.ndarray, "B O"]:
        """Move the points of the mask to the origin; no random numbers are used."""
        self._position[mask] = 0.0
        self._elapsed[mask] = 0
        return self._position.copy()

    def step(self, action: Float[np.ndarray, "B A"]) -> Step:
        """Move every point."""
        wanted = action / self._action_scale
        length = np.linalg.norm(wanted, axis=1, keepdims=True)
        self._position += MAX_STEP * wanted / np.maximum(length, 1.0)
        self._elapsed += 1
        motion = Motion(
            achieved=self._position.copy(),
            effort=np.square(np.minimum(length[:, 0], 1.0)),
            healthy=np.ones(self.num_envs, dtype=np.bool_),
            contact_cost=np.zeros(self.num_envs),
        )
        terms = REWARD.terms(self._goal, motion)
        return Step(
            observation=self._position.copy(),
            reward=add_up(terms),
            terminated=np.zeros(self.num_envs, dtype=np.bool_),
            truncated=self._elapsed >= self._horizon,
            terms=terms,
            motion=motion,
        )

    def camera(self) -> Camera:
        """A function that draws a point as a disc, and the circle on which all goals lie."""
        return self._picture

    def _picture(self, simulation: int) -> np.ndarray:
        reach = np.linspace(-PICTURE_REACH, PICTURE_REACH, PICTURE_SIZE)
        right, up = np.meshgrid(reach, reach[::-1])
        here = np.clip(self._position[simulation], -PICTURE_REACH, PICTURE_REACH)
        image = np.full((PICTURE_SIZE, PICTURE_SIZE, 3), 255, dtype=np.uint8)
        image[np.abs(np.hypot(right, up) - GOAL_DISTANCE) < PICTURE_LINE] = 160
        image[np.hypot(right - here[0], up - here[1]) < 4 * PICTURE_LINE] = 0
        return image


def shortened(action: np.ndarray) -> np.ndarray:
    """The action, shortened to length 1 if it is longer."""
    return action / max(float(np.linalg.norm(action)), 1.0)


def best_return(horizon: int) -> float:
    """The return of the policy that knows the goal: straight to it, then rest.

    After ``t`` steps at full speed the distance is ``max(0, GOAL_DISTANCE - t * MAX_STEP)``, and
    no policy is nearer, hence the sum over ``t = 1 .. horizon``.

    Example:
        >>> round(best_return(20), 6)
        -4.5
    """
    distance = GOAL_DISTANCE - MAX_STEP * np.arange(1, horizon + 1)
    return -float(np.maximum(distance, 0.0).sum())


# Bound without adaptation: from any position, the mean distance to a uniform point of the circle is
# at least the radius (it is convex in the position and symmetric, so least at the centre).
POINT = TaskFamily(
    name="point",
    train=UniformCircle(GOAL_DISTANCE),
    test=UniformCircle(GOAL_DISTANCE),
    make_env=PointEnv,
    bound_per_step=-GOAL_DISTANCE,
    reward=REWARD,
    hidden=DirectionCode(2),  # the circle's radius is 1
    best_fixed=geometric_median,
    limit_action=shortened,
    spec=FamilySpec(
        hidden="goal (x, y) on the unit circle",
        varies="reward",
        train="angle uniform on the circle",
        test="angle uniform on the circle, drawn independently of the training tasks",
        disjoint=False,
        num_parameters=2,
        reward=REWARD.formula,
        control_weight=REWARD.control_weight,
        termination="never",
        horizon=20,
        dt=0.0,
        observation="position",
        observation_dim=2,
        action_dim=2,
        action_scale=1.0,
        bound="staying at the start: -1 per step",
        source="this project: a toy whose best return is known in closed form",
    ),
)
