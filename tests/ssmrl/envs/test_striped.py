"""Train and test tasks: disjoint sets, and yet the same law but for stripes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmrl.envs.families import FAMILIES, get_family
from ssmrl.envs.striped import TEST_STRIPES, TRAIN_STRIPES, Powers, StripedInterval
from ssmrl.envs.task import TaskFamily
from tests.contracts.property_settings import PROPERTY

DISJOINT = [family for family in FAMILIES.values() if family.spec.disjoint]


def place_in_period(family: TaskFamily, tasks: list[tuple[float, ...]] | np.ndarray) -> np.ndarray:
    """Where in its period each variable lies, in [0, 1), from the values that were drawn."""
    values = np.array(tasks)
    if family.name.endswith("-vel"):
        unit = values / 3.0
    elif family.spec.varies == "dynamics":
        base = 1.3 if family.name.endswith("damping") else 1.5
        limit = 2.0 if family.name == "humanoid-gravity" else 3.0
        unit = (np.log(values) / math.log(base) + limit) / (2.0 * limit)
    else:
        unit = (np.arctan2(values[:, 1:], values[:, :1]) % (2.0 * math.pi)) / (2.0 * math.pi)
    assert (unit > -1e-9).all()
    assert (unit < 1.0 + 1e-9).all()
    return (10.0 * unit) % 1.0


def test_only_families_of_two_tasks_and_the_toy_share_their_tasks() -> None:
    shared = {name for name, family in FAMILIES.items() if not family.spec.disjoint}
    assert shared == {"halfcheetah-dir", "ant-dir-fb", "point"}


@pytest.mark.parametrize("family", DISJOINT, ids=lambda family: family.name)
def test_no_held_out_variable_has_a_value_that_is_trained_on(family: TaskFamily) -> None:
    """Not only no draw, no value at all: held-out values lie where training never draws."""
    trained = place_in_period(family, family.train.sample(np.random.default_rng(0), 4000))
    held_out = place_in_period(family, family.test.sample(np.random.default_rng(0), 4000))
    tolerance = 1e-9
    assert ((trained < 0.45 + tolerance) | (trained > 0.55 - tolerance)).all()
    assert ((held_out > 0.45 - tolerance) & (held_out < 0.55 + tolerance)).all()


@pytest.mark.parametrize("family", DISJOINT, ids=lambda family: family.name)
def test_relabelling_never_draws_what_is_held_out(family: TaskFamily) -> None:
    """As many hidden variables as a training run relabels with, none inside a held-out stripe."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        drawn = place_in_period(family, family.train.sample_array(rng, 2000))
        assert ((drawn < 0.45 + 1e-9) | (drawn > 0.55 - 1e-9)).all()


@pytest.mark.parametrize("family", DISJOINT, ids=lambda family: family.name)
def test_held_out_tasks_lie_all_over_the_range(family: TaskFamily) -> None:
    """A far region held out would measure extrapolation, which no published number does."""
    for split in (family.train, family.test):
        values = np.array(split.sample(np.random.default_rng(0), 2000))[:, 0]
        if family.spec.varies == "dynamics":
            values = np.log(values)
        if "dir" in family.name or family.name == "humanoid":
            values = np.arccos(values)
        counts, _ = np.histogram(values, bins=5)
        assert counts.min() > 2000 / 5 * 0.7, f"{counts=}"


@PROPERTY
@given(seed=st.integers(0, 2**20), num_variables=st.integers(1, 5), low=st.floats(-5.0, 5.0))
def test_both_halves_together_are_the_uniform_distribution(
    seed: int, num_variables: int, low: float
) -> None:
    """Nine tenths of the range and one tenth: nothing is drawn by neither, or twice."""
    high = low + 2.0
    halves = [
        StripedInterval(low, high, stripes, num_variables)
        for stripes in (TRAIN_STRIPES, TEST_STRIPES)
    ]
    drawn = [half.sample_array(np.random.default_rng(seed), 500) for half in halves]
    for values, width in zip(drawn, (0.9, 0.1), strict=True):
        assert values.shape == (500, num_variables)
        assert ((values >= low) & (values < high + 1e-12)).all()
        fine = np.unique(np.floor((values - low) / 2.0 * 1000.0))
        assert len(fine) <= 1000 * width + 11  # a cell at a border belongs to both
    assert len(np.unique(drawn[0])) == drawn[0].size


def test_draws_differ_from_uniform_ones_by_less_than_a_twentieth_of_a_period() -> None:
    """The law of the literature is U[0, 3], and its draws are these but for 0.015 m/s."""
    rng = np.random.default_rng(3)
    ours = np.array(get_family("ant-vel").train.sample(np.random.default_rng(3), 1000))[:, 0]
    assert np.abs(ours - rng.uniform(0.0, 3.0, 1000)).max() < 0.015 + 1e-12


def test_powers_are_powers() -> None:
    exponents = StripedInterval(-3.0, 3.0, TRAIN_STRIPES, 4)
    drawn = Powers(1.5, exponents).sample(np.random.default_rng(0), 6)
    np.testing.assert_allclose(drawn, 1.5 ** exponents.sample_array(np.random.default_rng(0), 6))


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)])
def test_an_empty_interval_is_refused_with_its_ends(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="`low < high` must hold") as caught:
        StripedInterval(low, high, TRAIN_STRIPES)
    assert str(low) in str(caught.value)
