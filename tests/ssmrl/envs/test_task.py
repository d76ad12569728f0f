"""The distributions that tasks are drawn from."""

import dataclasses
import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmrl.envs.families import ALIASES, FAMILIES, get_family
from ssmrl.envs.locomotion import LocomotionEnv
from ssmrl.envs.task import Alternating, UniformCircle
from tests.contracts.property_settings import PROPERTY


@PROPERTY
@given(seed=st.integers(0, 2**20), num_tasks=st.integers(1, 30))
def test_alternating_gives_every_member_its_share(seed: int, num_tasks: int) -> None:
    """With directions drawn at random a meta-batch could hold one direction only."""
    family = Alternating(((1.0,), (-1.0,), (0.0,)))
    counts = Counter(family.sample(np.random.default_rng(seed), num_tasks))
    shares = [counts[member] for member in family.members]
    assert sum(shares) == num_tasks
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_variables_drawn_at_once_are_the_familys_tasks(name: str) -> None:
    """Relabelling draws thousands as one array; they must be the family's own tasks."""
    for split in (FAMILIES[name].train, FAMILIES[name].test):
        drawn = split.sample_array(np.random.default_rng(3), 7)
        assert drawn.dtype == np.float64
        assert drawn.shape == (7, FAMILIES[name].spec.num_parameters)
        tasks = split.sample(np.random.default_rng(3), 7)
        assert tasks == [tuple(row) for row in drawn.tolist()]


def test_points_of_the_circle_by_hand() -> None:
    angles = np.random.default_rng(0).uniform(0.0, 2.0 * math.pi, 50).tolist()
    wanted = [(3.0 * math.cos(angle), 3.0 * math.sin(angle)) for angle in angles]
    drawn = UniformCircle(3.0).sample(np.random.default_rng(0), 50)
    np.testing.assert_allclose(drawn, wanted, rtol=0.0, atol=1e-15)


def test_a_single_direction_task_may_be_either() -> None:
    seen = {
        get_family("halfcheetah-dir").sample_train(np.random.default_rng(seed), 1)[0].parameters
        for seed in range(20)
    }
    assert seen == {(1.0,), (-1.0,)}


def test_a_spec_says_what_the_family_and_its_environment_are() -> None:
    """It is printed beside results; a dimension or a duration that is off would mislead."""
    for family in FAMILIES.values():
        spec = family.spec
        env = family.make_env(1, 5, 1.0, 1)
        assert json.loads(json.dumps(dataclasses.asdict(spec))) == dataclasses.asdict(spec)
        assert (spec.observation_dim, spec.action_dim) == (env.observation_dim, env.action_dim)
        assert (spec.horizon, spec.action_scale) == (family.horizon, family.action_scale)
        for split in (family.train, family.test):
            (drawn,) = split.sample(np.random.default_rng(0), 1)
            assert len(drawn) == spec.num_parameters, family.name
        if isinstance(env, LocomotionEnv):
            assert spec.dt == pytest.approx(env.physics.dt)


def test_other_names_lead_to_a_family() -> None:
    """The names by which task suites know them."""
    for name in (
        "halfcheetah-vel", "ant-vel", "ant-dir", "walker2d-vel", "halfcheetah-gravity", "ant-mass",
        "humanoid",
    ):  # fmt: skip
        assert get_family(name) in FAMILIES.values()
    assert get_family("ant-dir") is FAMILIES["ant-dir-fb"]
    assert not set(ALIASES) & set(FAMILIES)
    assert get_family("humanoid").spec.observation_dim == 376
