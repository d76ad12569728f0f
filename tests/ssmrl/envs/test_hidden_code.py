"""Codes of hidden variables: bounded, exact in both directions, for arrays and tensors."""

import numpy as np
import pytest
import torch

from ssmrl.envs.families import FAMILIES
from ssmrl.envs.hidden_code import DirectionCode, LogCode, RangeCode
from ssmrl.envs.task import TaskFamily

every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def tasks(family: TaskFamily) -> np.ndarray:
    """``(2, 500, P)`` tasks of both distributions."""
    draws = [split.sample(np.random.default_rng(0), 500) for split in (family.train, family.test)]
    return np.array(draws)


@every_family
def test_codes_lie_in_the_unit_cube_and_give_the_task_back(family: TaskFamily) -> None:
    """A scale that is off would weigh one family's loss by another number than the next one's."""
    code = family.hidden
    assert code is not None
    encoded = code.encode(tasks(family))
    assert encoded.shape == (2, 500, code.dim)
    assert np.abs(encoded).max() <= 1.0001
    assert np.abs(encoded).max() > 0.98
    np.testing.assert_allclose(code.decode(encoded), tasks(family), rtol=1e-12, atol=1e-12)


@every_family
def test_tensors_have_the_codes_of_arrays(family: TaskFamily) -> None:
    code = family.hidden
    assert code is not None
    ours = code.encode(torch.tensor(tasks(family), dtype=torch.float32))
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), code.encode(tasks(family)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(code.decode(ours).numpy(), tasks(family), rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    assert RangeCode(-1.0, 3.0).encode(np.array([0.0])) == pytest.approx([-0.5])
    assert RangeCode(-1.0, 3.0).decode(np.array([0.5])) == pytest.approx([2.0])
    # 1.5 ^ -3 is the least multiplier, and 1.5 ^ 1.5 lies halfway up.
    codes = LogCode(1.5, 3.0, 2).encode(np.array([1.5**-3, 1.5**1.5]))
    assert codes == pytest.approx([-1.0, 0.5])


def test_a_direction_that_was_only_come_near_to_is_normalised() -> None:
    """An inference says (0.3, 0.4) while it is unsure; the critic is told a task that exists."""
    decoded = DirectionCode(2).decode(torch.tensor([[0.3, 0.4], [0.0, 0.0]]))
    np.testing.assert_allclose(decoded.numpy(), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    assert DirectionCode(1).decode(np.array([[-0.2], [0.7]])).tolist() == [[-1.0], [1.0]]


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)])
def test_an_empty_range_is_refused_with_its_ends(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="`low < high` must hold") as caught:
        RangeCode(low, high)
    assert str(low) in str(caught.value)


@pytest.mark.parametrize(("base", "limit"), [(1.0, 3.0), (1.5, 0.0), (float("nan"), 1.0)])
def test_powers_that_cannot_be_told_apart_are_refused(base: float, limit: float) -> None:
    with pytest.raises(ValueError, match="`base > 1` and `limit > 0` must hold"):
        LogCode(base, limit, 1)
