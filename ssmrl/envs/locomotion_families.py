"""All families of running robots: their tasks, their rewards, and the sources of the definitions.

``locomotion.py`` simulates them; ``families.py`` lists all families.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ssmrl.envs import dynamics
from ssmrl.envs.dynamics import Dynamics
from ssmrl.envs.hidden_code import DirectionCode, HiddenCode, LogCode, RangeCode
from ssmrl.envs.locomotion import LocomotionEnv
from ssmrl.envs.rewards import (
    STANDARD,
    Reward,
    along_direction,
    velocity_error,
    velocity_match,
)
from ssmrl.envs.robots import ANT, HALF_CHEETAH, HOPPER, HUMANOID, HUMANOID_376, WALKER, Robot
from ssmrl.envs.striped import (
    TEST_STRIPES,
    TRAIN_STRIPES,
    Direction,
    Powers,
    StripedInterval,
)
from ssmrl.envs.task import Alternating, FamilySpec, TaskDistribution, TaskFamily


@dataclass(frozen=True)
class _Tasks:
    """The part of a family that does not depend on its robot and reward."""

    hidden: str
    train: TaskDistribution
    test: TaskDistribution
    law: str
    disjoint: bool
    code: HiddenCode
    best_fixed: Callable[[np.ndarray], np.ndarray] | None = None


def _striped(law: str) -> tuple[str, str]:
    """Descriptions of the training and test parts of a distribution."""
    return f"{law}, but the middle tenth of each of ten periods", f"{law}, only those tenths"


def _median_velocity(parameters: np.ndarray) -> np.ndarray:
    """The velocity along x with the least mean error [m/s]; other velocities do not count."""
    median: np.ndarray = np.median(parameters, axis=0)
    return median


# No adaptation, targets uniform on [0, 3]: the best fixed velocity is 1.5, its mean error 0.75.
VELOCITIES = _Tasks(
    "target velocity v* along x [m/s]",
    StripedInterval(0.0, 3.0, TRAIN_STRIPES),
    StripedInterval(0.0, 3.0, TEST_STRIPES),
    "v* ~ U[0, 3]",
    disjoint=True,
    code=RangeCode(0.0, 3.0),
    best_fixed=_median_velocity,
)
VELOCITY_ERROR = -0.75
VELOCITY_BOUND = "closed form: the best fixed velocity, 1.5 m/s, misses by 0.75 m/s on average"
DIRECTION_BOUND = "closed form: the mean of the directions is zero, so no fixed velocity pays"
DYNAMICS_BOUND = (
    "none known: a policy that does not adapt may run well under many dynamics, so compare with "
    "one that was trained on the same tasks"
)
# Directions have the robot's dimensions of motion: planar robots move forwards or backwards only.
FORWARDS_OR_BACKWARDS = _Tasks(
    "direction d = +1 or -1 along x",
    Alternating(((1.0,), (-1.0,))),
    Alternating(((1.0,), (-1.0,))),
    "both directions in turn",
    disjoint=False,
    code=DirectionCode(1),
)
FORWARDS_OR_BACKWARDS_IN_THE_PLANE = replace(
    FORWARDS_OR_BACKWARDS,
    hidden="direction d = (1, 0) or (-1, 0)",
    train=Alternating(((1.0, 0.0), (-1.0, 0.0))),
    test=Alternating(((1.0, 0.0), (-1.0, 0.0))),
    code=DirectionCode(2),
)
ANY_DIRECTION = _Tasks(
    "direction d, a unit vector of the plane",
    Direction(StripedInterval(0.0, 2.0 * math.pi, TRAIN_STRIPES)),
    Direction(StripedInterval(0.0, 2.0 * math.pi, TEST_STRIPES)),
    "angle ~ U[0, 2 pi] rad",
    disjoint=True,
    code=DirectionCode(2),
)


def _family(
    name: str,
    robot: Robot,
    reward: Reward,
    tasks: _Tasks,
    bound_per_step: float | None,
    bound: str,
    source: str,
    *,
    horizon: int = 200,
    action_scale: float = 10.0,
    varied: Dynamics | None = None,
) -> TaskFamily:
    def make_env(
        num_envs: int, horizon: int, action_scale: float, num_threads: int
    ) -> LocomotionEnv:
        return LocomotionEnv(
            robot, reward, num_envs, horizon, action_scale, num_threads, dynamics=varied
        )

    train, test = _striped(tasks.law) if tasks.disjoint else (tasks.law, tasks.law)
    spec = FamilySpec(
        hidden=tasks.hidden,
        varies="reward" if varied is None else "dynamics",
        train=train,
        test=test,
        disjoint=tasks.disjoint,
        num_parameters=tasks.code.dim,
        reward=reward.formula,
        control_weight=reward.control_weight,
        termination=robot.end,
        horizon=horizon,
        dt=robot.dt,
        observation=_observation(robot),
        observation_dim=robot.num_observations,
        action_dim=robot.num_actuators,
        action_scale=action_scale,
        bound=bound,
        source=source,
    )
    return TaskFamily(
        name,
        tasks.train,
        tasks.test,
        make_env,
        spec,
        bound_per_step,
        reward=reward if varied is None else None,
        hidden=tasks.code,
        best_fixed=tasks.best_fixed,
    )


def _observation(robot: Robot) -> str:
    hidden = "x" if robot.num_hidden_positions == 1 else "x and y"
    clipped = "" if robot.velocity_limit is None else f", clipped to {robot.velocity_limit:g}"
    derived = "".join(f", {field}" for field, _ in robot.derived)
    return f"positions without {hidden}, velocities{clipped}{derived}"


def _velocity(
    robot: Robot, reward: Reward, source: str, *, horizon: int = 200, paid: float = 0.0
) -> TaskFamily:
    """A family of target velocities; ``paid`` is the constant reward per step if healthy."""
    return _family(
        f"{robot.name}-vel", robot, reward, VELOCITIES, paid + VELOCITY_ERROR, VELOCITY_BOUND,
        source, horizon=horizon,
    )  # fmt: skip


def _velocity_reward(robot: Robot) -> Reward:
    """The standard reward with minus the velocity error instead of the velocity."""
    standard = STANDARD[robot.name]
    _, _, rest = standard.formula.partition("v_x")
    return replace(
        standard,
        name="velocity",
        goal=velocity_error,
        goal_weight=1.0,
        formula=f"-|v_x - v*|{rest}",
    )


def _direction_reward(robot: Robot) -> Reward:
    """The standard reward with the velocity along the wanted direction."""
    standard = STANDARD[robot.name]
    return replace(
        standard,
        name="direction",
        goal=along_direction,
        formula=standard.formula.replace("v_x", "(v . d)"),
    )


def _direction(name: str, robot: Robot, tasks: _Tasks, source: str) -> TaskFamily:
    reward = _direction_reward(robot)
    return _family(name, robot, reward, tasks, reward.healthy, DIRECTION_BOUND, source)


def _dynamics(robot: Robot, varied: Dynamics) -> TaskFamily:
    """A family that varies one model field, with the multipliers of the literature."""
    is_gravity = varied is dynamics.GRAVITY
    num = {
        "gravity": 1,
        "mass": robot.num_bodies,
        "inertia": 3 * robot.num_bodies,
        "friction": robot.num_geoms,
        "damping": robot.num_damped,
    }[varied.name]
    base = 1.3 if varied is dynamics.DAMPING else 1.5
    limit = 2.0 if is_gravity and robot is HUMANOID else 3.0
    element = {
        "gravity": "one",
        "mass": "per body",
        "inertia": "per body and principal axis",
        "friction": "per geom, floor included, for all its coefficients",
        "damping": "per damped degree of freedom",
    }[varied.name]
    law = f"{base} ^ U[-{limit:g}, {limit:g}]"
    tasks = _Tasks(
        f"multipliers of {varied.name}, {element}",
        Powers(base, StripedInterval(-limit, limit, TRAIN_STRIPES, num)),
        Powers(base, StripedInterval(-limit, limit, TEST_STRIPES, num)),
        law,
        disjoint=True,
        code=LogCode(base, limit, num),
    )
    source = (
        "gravity families of the literature: standard reward, disjoint train and test tasks"
        if is_gravity
        else "the literature's random-parameter robots, which vary mass, inertia, friction and "
        "damping at once; here one at a time, each with its own multipliers"
    )
    return _family(
        f"{robot.name}-{varied.name}", robot, STANDARD[robot.name], tasks, None,
        DYNAMICS_BOUND, source, horizon=1000 if is_gravity else 200, varied=varied,
    )  # fmt: skip


_OWN = "this project: Gymnasium's v5 reward with minus the velocity error instead of the velocity"
_ANT_DIR = (
    "the literature's, with Ant-v5's own weights; its contact forces are those of Gymnasium, while "
    "the simulators of most published runs reported none"
)

_CHEETAH_COST = {"control_weight": 0.05}
HALF_CHEETAH_VELOCITY = _velocity(
    HALF_CHEETAH,
    Reward("velocity", velocity_error, "-|v_x - v*| - 0.05 sum(a^2)", **_CHEETAH_COST),
    "ProMP, PEARL, VariBAD: U[0, 3]; MAML's own code draws from U[0, 2] and has another time step",
    horizon=100,
)
HALF_CHEETAH_DIRECTION = _family(
    "halfcheetah-dir",
    HALF_CHEETAH,
    Reward("velocity", along_direction, "d v_x - 0.05 sum(a^2)", **_CHEETAH_COST),
    FORWARDS_OR_BACKWARDS,
    0.0,
    DIRECTION_BOUND,
    "ProMP and others: two tasks, so training and test tasks are the same",
    horizon=100,
)
ANT_VELOCITY = _velocity(
    ANT,
    # The literature's contact cost is absent: see docs/decisions/0002.
    Reward(
        "velocity",
        velocity_match,
        "1 - |v_x - v*| - 0.005 sum(a^2) + 0.05",
        control_weight=0.005,
        always=0.05,
    ),
    "MAML's own code, without its contact cost, and U[0, 3]",
    horizon=100,
    paid=1.05,
)

LOCOMOTION_FAMILIES: tuple[TaskFamily, ...] = (
    ANT_VELOCITY,
    HALF_CHEETAH_VELOCITY,
    HALF_CHEETAH_DIRECTION,
    *(
        _velocity(robot, _velocity_reward(robot), _OWN, paid=STANDARD[robot.name].healthy)
        for robot in (WALKER, HOPPER, HUMANOID)
    ),
    _direction(
        "ant-dir-fb", ANT, FORWARDS_OR_BACKWARDS_IN_THE_PLANE,
        f"{_ANT_DIR}; two tasks, so training and test tasks are the same",
    ),
    _direction("ant-dir-2d", ANT, ANY_DIRECTION, _ANT_DIR),
    _direction(
        "humanoid-dir-2d", HUMANOID, ANY_DIRECTION,
        "the literature's, with the weights and the 348 observations of Humanoid-v5",
    ),
    _direction(
        "humanoid", HUMANOID_376, ANY_DIRECTION,
        "humanoid-dir-2d with the 376 observations of Gymnasium's version 4",
    ),
    *(
        _dynamics(robot, varied)
        for robot in (HALF_CHEETAH, ANT, WALKER, HOPPER, HUMANOID)
        for varied in (
            dynamics.GRAVITY,
            dynamics.MASS,
            dynamics.INERTIA,
            dynamics.FRICTION,
            dynamics.DAMPING,
        )
    ),
)  # fmt: skip
