"""The distributions that tasks are drawn from."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmrl.envs.families import get_family
from ssmrl.envs.task import Alternating, UniformInterval
from tests.contracts.property_settings import PROPERTY


def test_an_interval_is_covered_evenly() -> None:
    values = np.array(UniformInterval(0.0, 3.0).sample(np.random.default_rng(0), 3000))[:, 0]
    counts, _ = np.histogram(values, bins=6, range=(0.0, 3.0))
    assert counts.sum() == 3000
    assert counts.min() > 420


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)])
def test_an_empty_interval_is_refused_with_its_ends(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="`low < high` must hold") as caught:
        UniformInterval(low, high)
    assert str(low) in str(caught.value)


@PROPERTY
@given(seed=st.integers(0, 2**20), num_tasks=st.integers(1, 30))
def test_alternating_gives_every_member_its_share(seed: int, num_tasks: int) -> None:
    """With directions drawn at random a meta-batch could hold one direction only."""
    family = Alternating(((1.0,), (-1.0,), (0.0,)))
    counts = Counter(family.sample(np.random.default_rng(seed), num_tasks))
    shares = [counts[member] for member in family.members]
    assert sum(shares) == num_tasks
    assert max(shares) - min(shares) <= 1


def test_a_single_direction_task_may_be_either() -> None:
    seen = {
        get_family("halfcheetah-dir").sample_train(np.random.default_rng(seed), 1)[0].parameters
        for seed in range(20)
    }
    assert seen == {(1.0,), (-1.0,)}
