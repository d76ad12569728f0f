"""Families of custom robots: any MuJoCo model, stepped in batches like those of this project."""

from pathlib import Path

import numpy as np

from ssmrl.envs.dynamics import Dynamics, VariedModel
from ssmrl.envs.hidden_code import HiddenCode
from ssmrl.envs.locomotion import LocomotionEnv
from ssmrl.envs.physics import BatchedPhysics
from ssmrl.envs.rewards import Reward
from ssmrl.envs.robots import Healthy, Robot
from ssmrl.envs.task import (
    FamilySpec,
    TaskDistribution,
    TaskFamily,
    num_parameters,
    ranges_code,
)


def own_robot(
    model: Path | str,
    *,
    frame_skip: int,
    num_hidden_positions: int = 1,
    healthy: Healthy | None = None,
    end: str = "",
    reset_noise: float = 0.1,
) -> Robot:
    """A robot from a model file, from which its sizes and limits are read.

    The policy sees positions and velocities. The velocity that counts is that of the first
    generalised position.

    Args:
        model: Path of an MJCF file.
        frame_skip: Physics steps per env step.
        num_hidden_positions: Leading generalised positions that the policy does not see.
        healthy: Function that says whether the episode may continue; None means always.
        end: Description of when an episode ends.
        reset_noise: Scale of the initial state's noise: uniform in position, normal in velocity.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If MuJoCo cannot read it, or its actuators are not all limited to the same
            ``[-limit, limit]``.
    """
    path = Path(model).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no model at {path}")
    physics = BatchedPhysics(str(path), 1, frame_skip=frame_skip, num_threads=1)
    limits = physics.model_field("actuator_ctrlrange")
    limit = float(limits.max(initial=0.0))
    if not (limit > 0.0 and (limits == [-limit, limit]).all()):
        raise ValueError(
            f"the actuators of {path} must all be limited to one range [-limit, limit], but have "
            f"{limits.tolist()}; give each a `ctrlrange`, and scale by `gear`"
        )
    num_positions, num_velocities = physics.position.shape[1], physics.velocity.shape[1]
    return Robot(
        name=path.stem,
        model=str(path),
        frame_skip=frame_skip,
        dt=physics.dt,
        num_hidden_positions=num_hidden_positions,
        tracked="root",
        healthy=healthy,
        end=end or ("never" if healthy is None else "where the robot is not healthy"),
        num_observations=num_positions - num_hidden_positions + num_velocities,
        num_actuators=physics.control_dim,
        num_bodies=len(physics.model_field("body_mass")) - 1,
        num_geoms=len(physics.model_field("geom_friction")),
        num_damped=int(np.count_nonzero(physics.model_field("dof_damping"))),
        reset_noise=reset_noise,
        control_limit=limit,
    )


def robot_family(
    robot: Robot,
    reward: Reward,
    *,
    hidden: str,
    train: TaskDistribution,
    test: TaskDistribution,
    horizon: int,
    dynamics: Dynamics | None = None,
    code: HiddenCode | None = None,
    bound_per_step: float | None = None,
) -> TaskFamily:
    """A family of tasks for one robot.

    Args:
        robot: From ``own_robot``, or one of this project's.
        reward: Reward of a step. Without ``dynamics`` its goal depends on the hidden variables, and
            rewards are relabelled for other tasks.
        hidden: Description of the hidden variables, with units.
        train: Distribution of the training tasks.
        test: Distribution of the held-out tasks.
        horizon: Length of an episode [env steps].
        dynamics: Constants of the model that the hidden variables multiply; None if tasks differ in
            the reward.
        code: Encoding of the hidden variables for inference. Default: the ranges of ``train`` if it
            is a ``UniformBox``; otherwise they are not inferred.
        bound_per_step: Reward per step that no policy without adaptation exceeds, if known.

    Returns:
        The family, to be passed as ``--task package.module:NAME``.

    Raises:
        ValueError: If a task does not have one multiplier for each constant that varies.
    """
    num_drawn = num_parameters(train)
    if dynamics is not None:
        physics = BatchedPhysics(robot.model, 1, frame_skip=robot.frame_skip, num_threads=1)
        num_variables = VariedModel(physics, dynamics).num_variables
        if num_variables != num_drawn:
            raise ValueError(
                f"`train` must draw {num_variables} multipliers of {dynamics.name} for a task, but "
                f"draws {num_drawn}; give one multiplier for each constant that is not 0"
            )

    def make_env(
        num_envs: int, horizon: int, action_scale: float, num_threads: int
    ) -> LocomotionEnv:
        return LocomotionEnv(
            robot, reward, num_envs, horizon, action_scale, num_threads, dynamics=dynamics
        )

    return TaskFamily(
        robot.name,
        train,
        test,
        make_env,
        FamilySpec(
            hidden,
            num_drawn,
            horizon,
            robot.num_observations,
            robot.num_actuators,
            varies="reward" if dynamics is None else "dynamics",
            train=str(train),
            test=str(test),
            reward=reward.formula,
            control_weight=reward.control_weight,
            termination=robot.end,
            dt=robot.dt,
            observation=f"positions without the first {robot.num_hidden_positions}, velocities",
            source=robot.name,
        ),
        bound_per_step,
        reward=reward if dynamics is None else None,
        hidden=ranges_code(train) if code is None else code,
    )
