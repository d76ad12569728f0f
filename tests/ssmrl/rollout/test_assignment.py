"""Which tasks are played with which randomness."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmrl.config import TrainConfig
from ssmrl.envs.families import FAMILIES
from ssmrl.rollout.assignment import Assignment, held_out_assignment, train_assignment
from tests.contracts.property_settings import PROPERTY


def words(assignment: Assignment) -> list[int]:
    """A number of each task's stream, which tells equal streams from different ones."""
    return [int(stream.generate_state(1)[0]) for stream in assignment.streams]


def config(task: str = "point", **knobs: object) -> TrainConfig:
    return TrainConfig.for_task(task, "promp").with_knobs({"meta.num_tasks": 7} | knobs)


@PROPERTY
@given(num_tasks=st.integers(1, 12), num_parts=st.integers(1, 15))
def test_parts_are_contiguous_even_and_never_empty(num_tasks: int, num_parts: int) -> None:
    whole = train_assignment(config(**{"meta.num_tasks": num_tasks}), 0)
    parts = whole.split(num_parts)
    assert len(parts) == min(num_parts, num_tasks)
    assert [task for part in parts for task in part.tasks] == list(whole.tasks)
    assert [word for part in parts for word in words(part)] == words(whole)
    sizes = [len(part.tasks) for part in parts]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("task", FAMILIES)
def test_training_tasks_follow_from_seed_and_iteration(task: str) -> None:
    one = train_assignment(config(task), 3)
    assert one.tasks == train_assignment(config(task), 3).tasks
    assert words(one) == words(train_assignment(config(task), 3))
    assert {each.family for each in one.tasks} == {task}
    seen = [
        tuple(words(train_assignment(config(task, seed=seed), iteration)))
        for seed in range(3)
        for iteration in range(3)
    ]
    assert len(set(seen)) == 9
    assert len(set(words(one))) == 7


def test_held_out_tasks_follow_from_the_draw_alone() -> None:
    """Two policies, or two seeds of one, must be judged on the same tasks to be compared."""
    one, same = (held_out_assignment(config(seed=seed), 4) for seed in (0, 1))
    assert one.tasks == same.tasks
    assert words(one) == words(same)
    assert one.tasks != held_out_assignment(config(), 5).tasks
    assert len(one.tasks) == config().evaluation.num_tasks
    named = held_out_assignment(config(), 0)
    assert held_out_assignment(config()).tasks == named.tasks, "who names no draw has the first"


def test_no_held_out_task_or_stream_is_trained_on() -> None:
    held_out = held_out_assignment(config(), 0)
    for seed in range(2):
        for iteration in range(20):
            trained = train_assignment(config(seed=seed), iteration)
            assert not set(trained.tasks) & set(held_out.tasks)
            assert not set(words(trained)) & set(words(held_out))


def test_more_tasks_begin_with_the_same_streams() -> None:
    """A stream belongs to its place, not to how many there are."""
    few = train_assignment(config(), 0)
    more = train_assignment(config(**{"meta.num_tasks": 9}), 0)
    assert words(more)[:7] == words(few)
    assert dataclasses.replace(more, tasks=more.tasks[:7]).tasks == few.tasks
