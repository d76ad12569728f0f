"""What a verdict compares adaptation with: the best return without, on exactly these tasks."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmrl.config import TrainConfig
from ssmrl.envs.families import FAMILIES, get_family
from ssmrl.envs.point import POINT
from ssmrl.envs.rewards import Motion
from ssmrl.envs.task import TaskFamily
from ssmrl.rollout.assignment import held_out_assignment
from tests.contracts.property_settings import PROPERTY

VELOCITY = [family for name, family in FAMILIES.items() if name.endswith("-vel")]
DIRECTION = [FAMILIES[name] for name in ("halfcheetah-dir", "ant-dir-fb", "ant-dir-2d", "humanoid")]


def earned(family: TaskFamily, tasks: np.ndarray, achieved: list[float]) -> float:
    """Mean reward of a step in which every simulation achieves the same, at no cost."""
    assert family.reward is not None
    nothing = np.zeros(len(tasks))
    motion = Motion(np.tile(achieved, (len(tasks), 1)), nothing, nothing + 1.0, nothing)
    return float(family.reward.total(tasks, motion).mean())


@pytest.mark.parametrize(
    ("name", "wanted"), [("halfcheetah-vel", -67.35), ("ant-vel", 37.65), ("point", -98.07)]
)
def test_the_tasks_of_draw_0_are_easier_than_their_law(name: str, wanted: float) -> None:
    """Against the law's bound alone a policy that does not adapt could seem to."""
    config = TrainConfig.for_task(name).with_knobs({"evaluation.num_tasks": 20})
    tasks = [task.parameters for task in held_out_assignment(config).tasks]
    blind = get_family(name).blind_return(tasks, 100)
    assert blind == pytest.approx(wanted, abs=0.01)
    assert blind > get_family(name).no_adaptation_bound(100)


@PROPERTY
@given(seed=st.integers(0, 2**20), num_tasks=st.integers(1, 25), family=st.sampled_from(VELOCITY))
def test_no_fixed_velocity_earns_more(seed: int, num_tasks: int, family: TaskFamily) -> None:
    rng = np.random.default_rng(seed)
    tasks = np.array(family.test.sample(rng, num_tasks))
    blind = family.blind_return(tasks, 100)
    assert blind is not None
    for velocity in (*np.linspace(-1.0, 4.0, 1000), *tasks[:, 0]):
        assert 100 * earned(family, tasks, [velocity, 0.0]) <= blind + 1e-9


@PROPERTY
@given(seed=st.integers(0, 2**20), num_tasks=st.integers(1, 25))
def test_no_fixed_place_earns_more(seed: int, num_tasks: int) -> None:
    rng = np.random.default_rng(seed)
    tasks = np.array(POINT.test.sample(rng, num_tasks))
    blind = POINT.blind_return(tasks, 20)
    assert blind is not None
    for place in (*tasks, *rng.normal(size=(1000, 2))):
        assert 20 * earned(POINT, tasks, place.tolist()) <= blind + 1e-9


def test_one_task_alone_is_no_secret() -> None:
    """A fixed velocity meets it: only the survival and what is always paid remain."""
    assert get_family("halfcheetah-vel").blind_return([(2.0,)], 100) == pytest.approx(0.0)
    assert get_family("ant-vel").blind_return([(2.0,)], 100) == pytest.approx(105.0)
    assert get_family("walker2d-vel").blind_return([(2.0,)], 100) == pytest.approx(100.0)
    assert POINT.blind_return([(0.0, 1.0)], 20) == pytest.approx(0.0)


def test_unlucky_tasks_are_judged_by_the_law() -> None:
    """Half of the targets at each end: 1.5 m/s off on average, while the law says 0.75."""
    family = get_family("halfcheetah-vel")
    assert family.blind_return([(0.0,), (3.0,)], 100) == pytest.approx(-75.0)


@pytest.mark.parametrize("family", DIRECTION, ids=lambda family: family.name)
def test_directions_are_judged_by_the_law(family: TaskFamily) -> None:
    """Where they cancel, no velocity pays; one alone would pay without limit in the speed."""
    tasks = [(math.cos(angle), math.sin(angle)) for angle in (0.0, math.pi)]
    if family.spec.num_parameters == 1:
        tasks = [task[:1] for task in tasks]
    assert family.blind_return(tasks, 100) == family.no_adaptation_bound(100)
    assert family.blind_return(tasks[:1], 100) == family.no_adaptation_bound(100)
    running = [earned(family, np.array(tasks), [v, 0.0][: len(tasks[0])]) for v in (-3.0, 0.0, 9.0)]
    assert running == pytest.approx([family.bound_per_step] * 3)


def test_a_family_may_know_less() -> None:
    tasks = [(1.0,)]
    assert get_family("ant-gravity").blind_return(tasks, 100) is None
    family = replace(get_family("halfcheetah-vel"), best_fixed=None)
    assert family.blind_return(tasks, 100) == pytest.approx(-75.0)
    family = replace(get_family("halfcheetah-vel"), bound_per_step=None)
    assert family.blind_return(tasks, 100) == pytest.approx(0.0)


@pytest.mark.parametrize("tasks", [[], [(1.0, 2.0)], np.ones(2)])
def test_hidden_variables_of_another_family_are_refused(
    tasks: list[tuple[float, ...]] | np.ndarray,
) -> None:
    with pytest.raises(ValueError, match=r"`parameters` must be \(num_tasks, 1\) for ant-vel"):
        get_family("ant-vel").blind_return(tasks, 100)
