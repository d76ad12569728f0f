"""Every change of the dynamics against Gymnasium's environment on a model compiled for it."""

import warnings
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest

from ssmrl.envs.families import FAMILIES, get_family
from ssmrl.envs.locomotion import LocomotionEnv
from ssmrl.envs.physics import load_model
from tests.ssmrl.envs.plain_physics import GymnasiumRobots, quiet_mujoco

NUM_ENVS, NUM_STEPS = 2, 150
MODELS = {
    "halfcheetah": "half_cheetah",
    "ant": "ant",
    "walker2d": "walker2d_v5",
    "hopper": "hopper",
    "humanoid": "humanoid",
}
DYNAMICS = [name for name, family in FAMILIES.items() if family.spec.varies == "dynamics"]


def multiply_gravity(spec: mujoco.MjSpec, values: np.ndarray) -> None:
    spec.option.gravity = [0.0, 0.0, -9.81 * values[0]]


def multiply_mass(spec: mujoco.MjSpec, values: np.ndarray) -> None:
    """Write out what the compiler derives from the geoms, but for the masses."""
    usual = spec.compile()
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_AUTO
    spec.compiler.settotalmass = -1.0
    for body in spec.bodies[1:]:
        index = body.id  # not every body has a name
        body.explicitinertial = True
        body.mass = usual.body_mass[index] * values[index - 1]
        body.ipos, body.iquat = usual.body_ipos[index], usual.body_iquat[index]
        body.inertia = usual.body_inertia[index]


def multiply_friction(spec: mujoco.MjSpec, values: np.ndarray) -> None:
    for geom, value in zip(spec.geoms, values, strict=True):
        geom.friction = np.array(geom.friction) * value


def multiply_damping(spec: mujoco.MjSpec, values: np.ndarray) -> None:
    damped = [joint for joint in spec.joints if np.any(joint.damping)]
    for joint, value in zip(damped, values, strict=True):
        joint.damping = np.array(joint.damping) * value


def compiled(robot: str, field: str, values: np.ndarray) -> mujoco.MjModel:
    """The robot's model with changed constants, made from its file."""
    folder = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    with quiet_mujoco(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the files are old
        spec = mujoco.MjSpec.from_file(str(folder / f"{MODELS[robot]}.xml"))
        if field == "inertia":
            # The compiler refuses moments that no body of positive density has.
            model = spec.compile()
            model.body_inertia[1:] *= values.reshape(-1, 3)
            mujoco.mj_setConst(model, mujoco.MjData(model))
            return model
        change = {
            "gravity": multiply_gravity,
            "mass": multiply_mass,
            "friction": multiply_friction,
            "damping": multiply_damping,
        }[field]
        change(spec, values)
        return spec.compile()


def make(name: str, num_envs: int = NUM_ENVS, num_threads: int = 2) -> LocomotionEnv:
    env = get_family(name).make_env(num_envs, 1000, 1.0, num_threads)
    assert isinstance(env, LocomotionEnv)
    return env


@pytest.mark.parametrize("name", DYNAMICS)
def test_equals_gymnasium_on_a_model_compiled_for_the_task(name: str) -> None:
    """Each simulation of one batch against its own model, through ends and new starts.

    Observation and end agree bit for bit, and so does the reward up to the order of its sum.
    """
    robot, field = name.split("-")
    env = make(name)
    tasks = get_family(name).train.sample(np.random.default_rng(0), NUM_ENVS)
    models = [compiled(robot, field, np.array(task)) for task in tasks]
    peer = GymnasiumRobots(robot, NUM_ENVS, models)
    usual = GymnasiumRobots(robot, NUM_ENVS)
    env.set_tasks(tasks)
    rng = np.random.default_rng(1)
    limit = 0.4 if robot == "humanoid" else 1.0
    differs = np.zeros(NUM_ENVS, dtype=np.bool_)
    ended, num_ended = np.ones(NUM_ENVS, dtype=np.bool_), 0
    with quiet_mujoco():  # some of these robots are unstable, and MuJoCo says so
        for t in range(NUM_STEPS):
            ids = np.flatnonzero(ended)
            rest, still = peer.rest
            position = rest + rng.uniform(-0.1, 0.1, (len(ids), len(rest)))
            velocity = still + 0.1 * rng.standard_normal((len(ids), len(still)))
            ours_at_rest = env.set_state(ids, position, velocity)
            for row, index in enumerate(ids.tolist()):
                theirs_at_rest = peer.set_state(index, position[row], velocity[row])
                usual.set_state(index, position[row], velocity[row])
                assert np.array_equal(ours_at_rest[index], theirs_at_rest)
            action = rng.uniform(-1.0, 1.0, (NUM_ENVS, env.action_dim))
            control = action if limit == 1.0 else action * limit
            ours, theirs = env.step(action), peer.step(control)
            assert np.array_equal(ours.observation, theirs["observation"]), f"{t=}"
            assert np.array_equal(ours.terminated, theirs["terminated"]), f"{t=}"
            np.testing.assert_allclose(ours.reward, theirs["reward"], rtol=1e-13, atol=1e-13)
            differs |= (ours.observation != usual.step(control)["observation"]).any(axis=1)
            ended = ours.terminated
            num_ended += int(ended.sum())
    assert differs.all(), "the multipliers changed nothing"
    assert (num_ended > 0) == (robot != "halfcheetah"), "it never ends; the others must, to start"


@pytest.mark.parametrize("name", DYNAMICS)
def test_the_range_is_that_of_the_literature(name: str) -> None:
    base = 1.3 if name.endswith("damping") else 1.5
    limit = 2.0 if name == "humanoid-gravity" else 3.0
    family = get_family(name)
    for split in (family.train, family.test):
        values = np.log(np.array(split.sample(np.random.default_rng(0), 2000))) / np.log(base)
        assert np.abs(values).max() <= limit
        assert np.abs(values).max() > 0.9 * limit
        assert np.abs(values.mean(axis=0)).max() < 0.3


@pytest.mark.parametrize("name", ["ant-mass", "humanoid-gravity", "hopper-friction"])
def test_new_tasks_leave_no_trace_of_the_old_ones(name: str) -> None:
    """Workers set tasks again and again on one batch; multipliers must not pile up."""
    family = get_family(name)
    used, new = make(name), make(name)
    everyone = np.ones(NUM_ENVS, dtype=np.bool_)
    for seed in range(3):
        tasks = family.train.sample(np.random.default_rng(seed), NUM_ENVS)
        used.set_tasks(tasks)
        used.reset(everyone, [np.random.default_rng(i) for i in range(NUM_ENVS)])
        used.step(np.full((NUM_ENVS, used.action_dim), 0.3))
    new.set_tasks(tasks)
    rngs = ([np.random.default_rng(i) for i in range(NUM_ENVS)] for _ in range(2))
    assert np.array_equal(used.reset(everyone, next(rngs)), new.reset(everyone, next(rngs)))
    for _ in range(20):
        action = np.full((NUM_ENVS, used.action_dim), 0.5)
        assert np.array_equal(used.step(action).observation, new.step(action).observation)


def test_what_is_no_variable_keeps_its_value() -> None:
    """Multiplied are the elements that the task's words name, and no others."""
    env = make("ant-damping")
    env.set_tasks([(2.0,) * 8, tuple(map(float, range(1, 9)))])
    usual = load_model("ant").dof_damping
    now = env.physics.own_model_field("dof_damping")
    assert np.array_equal(now[0], 2.0 * usual)
    assert np.array_equal(now[1], np.concatenate([usual[:6], usual[6:] * np.arange(1, 9)]))
    assert (usual[:6] == 0.0).all()


@pytest.mark.parametrize("tasks", [[(1.0,)] * 2, [(1.0,) * 13, (0.0,) * 13], [(-1.0,) * 13] * 2])
def test_wrong_multipliers_are_refused(tasks: list[tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match=r"`mass` takes positive multipliers of shape \(2, 13\)"):
        make("ant-mass").set_tasks(tasks)
