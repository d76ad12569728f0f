"""Every family of this project, held to the rules that other people's are."""

import numpy as np
import pytest

from ssmrl.envs.families import ALIASES, FAMILIES, get_family
from ssmrl.envs.task import TaskFamily
from ssmrl.testing import FamilyContract
from ssmrl.testing.lanes import Lanes, actions, numbers, streams, tasks

TERMS = {"velocity", "direction", "forward", "distance", "survive", "control", "contact"}
# Positions and velocities; what the humanoid sees of its inertia and actuators comes after them.
NUM_BLIND = {"humanoid-mass": 45, "humanoid-inertia": 45}


class TestEveryFamily(FamilyContract):
    @pytest.fixture(autouse=True, params=FAMILIES)
    def _family(self, request: pytest.FixtureRequest) -> None:
        self.family = get_family(request.param)
        self.num_blind = NUM_BLIND.get(request.param)


every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@every_family
def test_a_step_says_the_same_whatever_the_task(family: TaskFamily) -> None:
    """Names of fields and of reward terms; and no number of any of them is the task itself."""
    parameters = tasks(family)
    for step in Lanes(family, parameters).play(actions(family)):
        assert step._fields == (
            "observation", "reward", "terminated", "truncated", "terms", "motion",
        )  # fmt: skip
        assert set(step.terms) <= TERMS
        for lane, said in enumerate(numbers(step).tolist()):
            # Zeros and ones occur in every step.
            assert not (set(parameters[lane]) - {0.0, 1.0, -1.0}) & set(said)


@every_family
def test_another_generator_begins_another_episode(family: TaskFamily) -> None:
    if family.name == "point":
        return  # it starts at the origin
    one, other = (Lanes(family, tasks(family), streams(seed)).first for seed in (0, 5))
    assert (one != other).any(axis=1).all()


def test_tasks_are_named_and_found_again() -> None:
    for name, family in FAMILIES.items():
        assert get_family(family.name) is family
        for sample in (family.sample_train, family.sample_test):
            drawn = sample(np.random.default_rng(0), 50)
            assert {task.family for task in drawn} == {name}
            assert len(set(drawn)) > 1


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="unknown task 'walker'") as caught:
        get_family("walker")
    assert all(name in str(caught.value) for name in (*FAMILIES, *ALIASES))
