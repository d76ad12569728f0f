"""Batched stepping against a loop over single simulations, and what happens when one fails."""

import gc
import weakref
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest

from ssmrl.envs.physics import BatchedPhysics, load_model
from tests.ssmrl.envs.plain_physics import PlainPhysics, quiet_mujoco

FRAME_SKIP = 5


def random_state(
    rng: np.random.Generator, physics: BatchedPhysics
) -> tuple[np.ndarray, np.ndarray]:
    rest = physics.initial_position
    return (
        rest + rng.uniform(-0.1, 0.1, len(rest)),
        0.1 * rng.standard_normal(physics.velocity.shape[1]),
    )


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize(("robot", "body"), [("half_cheetah", "torso"), ("ant", "torso")])
def test_batched_equals_a_loop_over_single_simulations(
    robot: str, body: str, num_threads: int
) -> None:
    """Bit for bit, through resets of some simulations while the others go on."""
    num = 3
    physics = BatchedPhysics(robot, num, frame_skip=FRAME_SKIP, num_threads=num_threads)
    plain = PlainPhysics(robot, num, FRAME_SKIP)
    tracked = physics.body_position(body)
    rng = np.random.default_rng(0)
    assert physics.dt == plain.model.opt.timestep * FRAME_SKIP
    assert physics.control_dim == plain.model.nu
    for t in range(150):
        if t % 40 == 0:
            ids = np.arange(num) if t == 0 else np.array([t // 40 - 1, num - 1])
            ids = np.unique(ids)
            states = [random_state(rng, physics) for _ in ids]
            position, velocity = (np.stack(values) for values in zip(*states, strict=True))
            physics.set_state(ids, position, velocity)
            for index, state in zip(ids, states, strict=True):
                plain.set_state(index, *state)
            assert np.array_equal(tracked, plain.body_position(body))
        control = rng.uniform(-1.0, 1.0, (num, physics.control_dim))
        assert not physics.step(control).any()
        plain.step(control)
        assert np.array_equal(physics.position, plain.position)
        assert np.array_equal(physics.velocity, plain.velocity)
        assert np.array_equal(tracked, plain.body_position(body))


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("robot", ["half_cheetah", "ant", "humanoid"])
def test_contact_forces_equal_those_of_a_loop(robot: str, num_threads: int) -> None:
    """Bit for bit, with both integrators, through resets, and with no simulation left behind.

    MuJoCo's batch does not compute them, its sensors compute other ones, and read one call too
    early they are those of the step before.
    """
    num = 4
    physics = BatchedPhysics(
        robot, num, frame_skip=FRAME_SKIP, num_threads=num_threads, contact_forces=True
    )
    plain = PlainPhysics(robot, num, FRAME_SKIP)
    rng = np.random.default_rng(0)
    fields = ("cfrc_ext", "cinert", "cvel", "qfrc_actuator", "xipos")
    derived = {field: physics.derived(field) for field in fields}
    largest = 0.0
    for t in range(80):
        if t % 30 == 0:
            ids = np.arange(num) if t == 0 else np.array([0, 2])
            states = [random_state(rng, physics) for _ in ids]
            physics.set_state(ids, *(np.stack(values) for values in zip(*states, strict=True)))
            for index, state in zip(ids, states, strict=True):
                plain.set_state(index, *state)
            assert np.array_equal(derived["cfrc_ext"], plain.derived("cfrc_ext"))
        control = rng.uniform(-0.4, 0.4, (num, physics.control_dim))
        physics.step(control)
        plain.step(control)
        for field in fields:
            assert np.array_equal(derived[field], plain.derived(field)), f"{field} at {t=}"
        assert np.array_equal(physics.position, plain.position)
        largest = max(largest, np.abs(derived["cfrc_ext"]).max())
    assert largest > 1.0, "nothing was ever touched"


def test_a_view_outlives_its_physics() -> None:
    """Views are MuJoCo's own memory: freed too early they would show whatever came there next."""
    physics = BatchedPhysics("half_cheetah", 64, frame_skip=FRAME_SKIP, num_threads=1)
    position, derived = physics.position, physics.derived("xipos")
    physics.step(np.full((64, physics.control_dim), 0.3))
    before = position.copy(), derived.copy()
    memory = weakref.ref(physics._batch._memory)
    del physics
    gc.collect()
    for _ in range(20):
        BatchedPhysics("half_cheetah", 64, frame_skip=FRAME_SKIP, num_threads=1)
    assert np.array_equal(position, before[0])
    assert np.array_equal(derived, before[1])
    assert memory() is not None
    del position, derived
    gc.collect()
    assert memory() is None, "and it is freed when the last view is gone"


def test_an_unknown_field_is_refused_by_its_name() -> None:
    physics = BatchedPhysics("half_cheetah", 1, frame_skip=FRAME_SKIP, num_threads=1)
    for refused in (physics.derived, physics.own_model_field):
        with pytest.raises(KeyError, match="body_weight"):
            refused("body_weight")


def test_no_simulations_at_all_are_refused() -> None:
    with pytest.raises(RuntimeError, match="num_simulations=0"):
        BatchedPhysics("half_cheetah", 0, frame_skip=FRAME_SKIP, num_threads=1)


def test_setting_no_state_at_all_changes_nothing() -> None:
    physics = BatchedPhysics("ant", 2, frame_skip=FRAME_SKIP, num_threads=1)
    before = physics.position.copy(), physics.velocity.copy()
    physics.set_state(np.array([], dtype=np.int64), np.empty((0, 15)), np.empty((0, 14)))
    assert np.array_equal(physics.position, before[0])
    assert np.array_equal(physics.velocity, before[1])


def falling(physics: BatchedPhysics, index: int) -> None:
    """Put all high up at rest, but one that is about to hit the ground hard."""
    num = len(physics.position)
    position = np.tile(physics.initial_position, (num, 1))
    position[:, 2] = 5.0
    position[index, 2] = 1.2
    velocity = np.zeros_like(physics.velocity)
    velocity[index, 2] = -30.0
    physics.set_state(np.arange(num), position, velocity)


@pytest.mark.parametrize("contact_forces", [False, True])
def test_a_failed_simulation_is_named_and_the_others_are_intact(
    contact_forces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real failure: the model has so little memory that hitting the ground does not fit in it."""

    def make() -> BatchedPhysics:
        return BatchedPhysics(
            "ant", 3, frame_skip=FRAME_SKIP, num_threads=1, contact_forces=contact_forces
        )

    roomy = make()
    path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "ant.xml"
    spec = mujoco.MjSpec.from_file(str(path))
    spec.memory = 60_000
    with quiet_mujoco():
        model = spec.compile()
    monkeypatch.setattr("ssmrl.envs.physics.load_model", lambda _: model)
    cramped = make()
    for physics in (roomy, cramped):
        falling(physics, index=1)
    before = cramped.position[1].copy(), cramped.velocity[1].copy()
    for _ in range(2):
        control = np.full((3, cramped.control_dim), 0.5)
        assert not roomy.step(control).any()
        assert cramped.step(control).tolist() == [False, True, False]
    assert np.array_equal(cramped.position[1], before[0])
    assert np.array_equal(cramped.velocity[1], before[1])
    assert not np.array_equal(roomy.position[1], before[0])
    for index in (0, 2):
        assert np.array_equal(cramped.position[index], roomy.position[index])
        assert np.array_equal(cramped.velocity[index], roomy.velocity[index])
    cramped.set_state(np.array([1]), roomy.position[:1].copy(), roomy.velocity[:1].copy())
    assert not cramped.step(control).any(), "a failed simulation goes on after a reset"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_state_that_is_no_number_stays_in_its_own_simulation(value: float) -> None:
    with quiet_mujoco():
        sound, broken = (
            BatchedPhysics("half_cheetah", 3, frame_skip=FRAME_SKIP, num_threads=2)
            for _ in range(2)
        )
        broken.position[1, 3] = value
        for _ in range(5):
            control = np.full((3, sound.control_dim), 0.5)
            sound.step(control)
            broken.step(control)
    for index in (0, 2):
        assert np.array_equal(sound.position[index], broken.position[index])


def test_loading_a_model_is_silent_and_leaves_no_file(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MuJoCo's advice about old model files would otherwise break machine-readable output."""
    monkeypatch.chdir(tmp_path)
    load_model("ant")
    load_model("half_cheetah")
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
