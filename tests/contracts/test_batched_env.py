"""What every task family's environment promises, whatever it simulates."""

import numpy as np
import pytest

from ssmrl.envs.batched_env import BatchedEnv, Step
from ssmrl.envs.families import ALIASES, FAMILIES, get_family
from ssmrl.envs.task import TaskFamily

NUM_ENVS, HORIZON, NUM_STEPS = 4, 12, 6
TERMS = {"velocity", "direction", "forward", "distance", "survive", "control", "contact"}

every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def generators(seed: int) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, index]) for index in range(NUM_ENVS)]


def started(family: TaskFamily, task_seed: int = 0, num_threads: int = 1) -> BatchedEnv:
    """An environment with different tasks, just reset."""
    env = family.make_env(NUM_ENVS, HORIZON, 1.0, num_threads)
    tasks = family.sample_train(np.random.default_rng(task_seed), NUM_ENVS)
    env.set_tasks([task.parameters for task in tasks])
    env.reset(np.ones(NUM_ENVS, dtype=np.bool_), generators(0))
    return env


def actions(env: BatchedEnv, num_steps: int = NUM_STEPS) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1.0, 1.0, (num_steps, NUM_ENVS, env.action_dim))


def play(env: BatchedEnv, num_steps: int = NUM_STEPS) -> list[Step]:
    return [env.step(action) for action in actions(env, num_steps)]


@every_family
def test_shapes_and_the_parts_of_the_reward(family: TaskFamily) -> None:
    env = started(family)
    observation = env.reset(np.zeros(NUM_ENVS, dtype=np.bool_), generators(0))
    assert observation.shape == (NUM_ENVS, env.observation_dim)
    for step in play(env):
        assert step.observation.shape == (NUM_ENVS, env.observation_dim)
        assert step.observation.dtype == np.float64
        assert step.reward.shape == (NUM_ENVS,)
        assert step.terminated.shape == step.truncated.shape == (NUM_ENVS,)
        assert step.terminated.dtype == step.truncated.dtype == np.bool_
        np.testing.assert_allclose(sum(step.terms.values()), step.reward, rtol=1e-14)
        motion = step.motion
        for part in (motion.effort, motion.healthy, motion.contact_cost):
            assert part.shape == (NUM_ENVS,)
        assert motion.achieved.shape[:-1] == (NUM_ENVS,)
        assert motion.healthy.dtype == np.bool_
        assert motion.columns().shape == (NUM_ENVS, motion.achieved.shape[1] + 3)
        assert motion.columns().dtype == np.float64


@every_family
def test_a_returned_step_is_a_copy(family: TaskFamily) -> None:
    """A live view would silently turn every stored observation into the last one."""
    env = started(family)
    first = env.step(actions(env)[0])
    before = first.observation.copy(), first.reward.copy(), first.motion.columns()
    play(env)
    assert np.array_equal(first.observation, before[0])
    assert np.array_equal(first.reward, before[1])
    assert np.array_equal(first.motion.columns(), before[2])


@every_family
def test_reset_touches_exactly_the_mask(family: TaskFamily) -> None:
    """Others go on bit for bit, and their generators are not drawn from."""
    env, twin = started(family), started(family)
    play(env)
    reference = play(twin)
    mask = np.array([False, True, False, True])
    rngs = generators(5)
    unused = generators(5)
    observation = env.reset(mask, rngs)
    assert np.array_equal(observation[~mask], reference[-1].observation[~mask])
    assert (observation[mask] != reference[-1].observation[mask]).any(axis=1).all()
    assert all(
        rngs[i].bit_generator.state == unused[i].bit_generator.state for i in np.flatnonzero(~mask)
    )
    for ours, theirs in zip(play(env), play(twin), strict=True):
        assert np.array_equal(ours.observation[~mask], theirs.observation[~mask])
        assert np.array_equal(ours.reward[~mask], theirs.reward[~mask])


@every_family
def test_equal_generators_give_equal_episodes_for_any_number_of_threads(
    family: TaskFamily,
) -> None:
    for ours, theirs in zip(
        play(started(family)), play(started(family, num_threads=2)), strict=True
    ):
        assert np.array_equal(ours.observation, theirs.observation)
        assert np.array_equal(ours.reward, theirs.reward)


@every_family
def test_truncated_at_the_horizon_counted_from_each_own_reset(family: TaskFamily) -> None:
    env = started(family)
    play(env)
    late = np.array([True, False, False, False])
    env.reset(late, generators(2))
    steps = [step.truncated for step in play(env, HORIZON)]
    ends = np.argmax(steps, axis=0) + 1
    assert ends.tolist() == [HORIZON, *[HORIZON - NUM_STEPS] * 3]


@every_family
def test_the_hidden_task_shows_only_through_what_it_varies(family: TaskFamily) -> None:
    """With the task in the observation there would be nothing left to adapt to."""
    one, other = started(family, task_seed=0), started(family, task_seed=1)
    if family.spec.varies == "reward":
        for ours, theirs in zip(play(one), play(other), strict=True):
            assert np.array_equal(ours.observation, theirs.observation)
            assert (ours.reward != theirs.reward).any()
            assert np.array_equal(ours.motion.columns(), theirs.motion.columns())
    else:
        nobody = np.zeros(NUM_ENVS, dtype=np.bool_)
        # Positions and velocities; the humanoid also sees its inertia.
        seen = [env.reset(nobody, generators(0))[:, :45] for env in (one, other)]
        assert np.array_equal(*seen), "the first observation comes from the generators alone"
        last = [play(env, HORIZON)[-1].observation for env in (one, other)]
        assert (last[0] != last[1]).any()


@every_family
def test_a_step_says_the_same_whatever_the_task(family: TaskFamily) -> None:
    """Names of fields and of reward terms; and no number of any of them is the task itself."""
    for seed in (0, 1):
        env = started(family, task_seed=seed)
        tasks = family.sample_train(np.random.default_rng(seed), NUM_ENVS)
        for step in play(env):
            assert step._fields == (
                "observation", "reward", "terminated", "truncated", "terms", "motion",
            )  # fmt: skip
            assert set(step.terms) <= TERMS
            said = np.column_stack(
                [step.observation, step.reward, *step.terms.values(), step.motion.columns()]
            )
            for lane, task in enumerate(tasks):
                # Zeros and ones occur in every step.
                telling = set(task.parameters) - {0.0, 1.0, -1.0}
                assert not telling & set(said[lane].tolist())


@every_family
def test_each_simulation_keeps_its_own_task(family: TaskFamily) -> None:
    env = started(family)
    tasks = family.sample_train(np.random.default_rng(0), NUM_ENVS)
    alone = family.make_env(NUM_ENVS, HORIZON, 1.0, 1)
    alone.set_tasks([tasks[2].parameters] * NUM_ENVS)
    alone.reset(np.ones(NUM_ENVS, dtype=np.bool_), generators(0))
    for ours, theirs in zip(play(env), play(alone), strict=True):
        assert ours.reward[2] == theirs.reward[2]


@every_family
def test_train_and_test_tasks_come_from_two_objects(family: TaskFamily) -> None:
    assert family.train is not family.test
    assert get_family(family.name) is family
    rng = np.random.default_rng(0)
    trained, held_out = family.sample_train(rng, 50), family.sample_test(rng, 50)
    for tasks in (trained, held_out):
        assert len(tasks) == 50
        assert {task.family for task in tasks} == {family.name}
        assert {len(task.parameters) for task in tasks} == {family.spec.num_parameters}
        assert all(type(value) is float for task in tasks for value in task.parameters)
        assert len(set(tasks)) > 1
    if family.spec.disjoint:
        assert not set(trained) & set(held_out)


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="unknown task 'walker'") as caught:
        get_family("walker")
    assert all(name in str(caught.value) for name in (*FAMILIES, *ALIASES))
