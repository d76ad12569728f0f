"""Contract of task families: rules that custom ones and this project's must pass."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import default_rng

from ssmrl.envs.batched_env import Step
from ssmrl.envs.rewards import Motion
from ssmrl.envs.task import TaskDistribution, TaskFamily
from ssmrl.testing.lanes import (
    EVERYWHERE,
    NUM_LANES,
    Lanes,
    actions,
    horizon,
    numbers,
    played,
    same,
    streams,
    tasks,
)

_NUM_TASKS = 200


class FamilyContract:
    """The rules for a task family; pytest collects them from a subclass that names the family.

    Attributes:
        family: The family.
        num_blind: Number of leading entries of an episode's first observation that do not depend
            on the task; by default all of them.

    Example:
        >>> from ssmrl.envs.point import POINT
        >>> class TestPoint(FamilyContract):
        ...     family = POINT
        >>> TestPoint().test_reward_and_observation_are_finite()
    """

    family: TaskFamily
    num_blind: int | None = None

    def test_sizes_are_those_of_the_environment(self) -> None:
        """Networks are built from the sizes in the family's ``spec``."""
        spec, env = self.family.spec, self._started().env
        assert env.num_envs == NUM_LANES, (
            f"`num_envs` must be the {NUM_LANES} that were asked for, but is {env.num_envs}"
        )
        for size in ("observation_dim", "action_dim"):
            said, own = getattr(spec, size), getattr(env, size)
            assert said == own, (
                f"`{size}` of the environment must be that of `spec`, {said}, but is {own}"
            )

    def test_observation_and_reward_have_their_shapes(self) -> None:
        """Checks a reset and every step, with the parts of the reward and of the motion."""
        (first, steps), width = played(self.family), self.family.spec.observation_dim
        _check_array("the observation of `reset`", first, (NUM_LANES, width), np.float64)
        for step in steps:
            _check_array("`observation`", step.observation, (NUM_LANES, width), np.float64)
            _check_array("`reward`", step.reward, (NUM_LANES,), np.float64)
            _check_array("`terminated`", step.terminated, (NUM_LANES,), np.bool_)
            _check_array("`truncated`", step.truncated, (NUM_LANES,), np.bool_)
            for name, term in step.terms.items():
                _check_array(f"the reward's term {name!r}", term, (NUM_LANES,), np.float64)
            motion = step.motion
            _check_array("`motion.effort`", motion.effort, (NUM_LANES,), np.float64)
            _check_array("`motion.healthy`", motion.healthy, (NUM_LANES,), np.bool_)
            _check_array("`motion.contact_cost`", motion.contact_cost, (NUM_LANES,), np.float64)
            shape = (NUM_LANES, *np.shape(motion.achieved)[1:2])
            _check_array("`motion.achieved`", motion.achieved, shape, np.float64)
            assert len(shape) == 2, "`motion.achieved` must be (B, D), but has one axis"

    def test_reward_and_observation_are_finite(self) -> None:
        """A single number that is not finite ruins all that is learnt from it."""
        first, steps = played(self.family)
        assert np.isfinite(first).all(), (
            f"the observation of `reset` must be finite, but is {first}"
        )
        for number, step in enumerate(steps, 1):
            for name, array in (("reward", step.reward), ("observation", step.observation)):
                assert np.isfinite(array).all(), (
                    f"`{name}` must be finite, but is {array} in step {number}"
                )

    def test_the_reward_is_the_sum_of_its_terms(self) -> None:
        """Curves of the terms are read as the parts of the reward."""
        for step in self._played():
            total = sum(step.terms.values())
            assert np.allclose(total, step.reward, rtol=1e-12, atol=1e-12, equal_nan=True), (
                f"the terms must add up to `reward`, {step.reward}, but come to {total}"
            )

    def test_the_reward_of_the_family_is_what_was_paid(self) -> None:
        """``family.reward`` relabels experience, on arrays and on tensors."""
        reward = self.family.reward
        if reward is None:
            return
        for seed in (0, 1):
            parameters = np.array(tasks(self.family, seed))
            for step in self._played(seed):
                paid = reward.total(parameters, step.motion)
                assert np.array_equal(paid, step.reward, equal_nan=True), (
                    "`family.reward.total(parameters, motion)` must be the reward that was paid, "
                    f"{step.reward}, but is {paid}"
                )
                motion = Motion.of_columns(torch.from_numpy(step.motion.columns()))
                tensor = reward.total(torch.from_numpy(parameters), motion).numpy()
                assert np.allclose(tensor, paid, rtol=1e-12, atol=1e-12, equal_nan=True), (
                    "`family.reward.total` must give the same on tensors as on arrays, "
                    f"{paid}, but gives {tensor}"
                )

    def test_a_returned_step_is_a_copy(self) -> None:
        """A live view would silently turn every stored observation into the last one."""
        lanes = self._started()
        first, *rest = actions(self.family)
        start, start_was = lanes.first, lanes.first.copy()
        (step,) = lanes.play(first[None])
        before = numbers(step)
        lanes.play(np.array(rest))
        assert np.array_equal(numbers(step), before, equal_nan=True), (
            "a step must stay as it was returned, but the next ones changed it; return copies"
        )
        assert np.array_equal(start, start_was, equal_nan=True), (
            "the observation of `reset` must stay as it was returned, but steps changed it; "
            "return a copy"
        )

    def test_reset_touches_exactly_the_mask(self) -> None:
        """Other lanes continue bit for bit, and their generators are not used."""
        lanes, twin = self._started(), self._started()
        half = actions(self.family)[: (horizon(self.family) + 1) // 2]
        lanes.play(half)
        last = twin.play(half)[-1]  # a lane that ended there shows another episode
        mask = np.array([False, True, False, True])
        kept = ~(mask | last.terminated | last.truncated)
        own, unused = streams(5), streams(5)
        observation = lanes.env.reset(mask, own)
        assert np.array_equal(observation[kept], last.observation[kept], equal_nan=True), (
            "`reset` must not touch lanes outside its mask, but it changed their observation"
        )
        for lane in np.flatnonzero(~mask):
            state = own[lane].bit_generator.state
            assert state == unused[lane].bit_generator.state, (
                "`reset` must draw from the generators of its mask alone, but drew from another"
            )
        assert same(lanes.play(half), twin.play(half), ~mask), (
            "`reset` must not touch lanes outside its mask, but it changed their later steps"
        )

    def test_a_reset_leaves_nothing_of_the_episode_before(self) -> None:
        """An episode depends only on its task, its generator and its actions."""
        used = self._started()
        used.play(actions(self.family)[:3])
        fresh = Lanes(self.family, tasks(self.family), streams(5))
        again = streams(5)
        assert np.array_equal(used.env.reset(EVERYWHERE, again), fresh.first, equal_nan=True), (
            "the first observation of an episode must not depend on the one before"
        )
        for action in actions(self.family)[: (horizon(self.family) + 1) // 2]:
            ours, theirs = used.env.step(action), fresh.env.step(action)
            assert same([ours], [theirs]), (
                "an episode must not depend on the one before, but a step of it does"
            )
            if (theirs.terminated | theirs.truncated).any():
                break

    def test_equal_generators_give_equal_episodes(self) -> None:
        """The number of threads does not matter either."""
        ours = self._played()
        theirs = Lanes(self.family, tasks(self.family), num_threads=2).play(actions(self.family))
        assert same(ours, theirs), (
            "equal tasks, generators and actions must give equal steps, with one thread and with "
            "two, but they differ; draw from the generators of `reset` alone"
        )

    def test_the_order_of_the_batch_does_not_matter(self) -> None:
        """Lanes in another order, with their tasks and generators, give the same bit for bit."""
        order = np.array([2, 0, 3, 1])
        parameters, given, generators = tasks(self.family), actions(self.family), streams(0)
        permuted = Lanes(
            self.family,
            [parameters[lane] for lane in order],
            [generators[lane] for lane in order],
        ).play(given[:, order])
        for ours, theirs in zip(self._played(), permuted, strict=True):
            assert np.array_equal(numbers(ours)[order], numbers(theirs), equal_nan=True), (
                "reward and observation must not depend on the batch's order, but lanes in "
                f"another order were paid {theirs.reward} and not {ours.reward[order]}"
            )

    def test_each_lane_keeps_its_own_task(self) -> None:
        """A lane does not depend on the tasks of the other lanes."""
        parameters, lane = tasks(self.family), 2
        alone = Lanes(self.family, [parameters[lane]] * NUM_LANES).play(actions(self.family))
        assert same(self._played(), alone, np.arange(NUM_LANES) == lane), (
            "a lane must depend on its own task alone, but changes with the tasks of other lanes"
        )

    def test_an_episode_is_truncated_at_the_horizon(self) -> None:
        """The horizon counts from each lane's own reset."""
        lanes, length = self._started(), horizon(self.family)
        elapsed = np.zeros(NUM_LANES, dtype=np.int64)
        late = np.array([True, False, False, False])
        generators = streams(2)
        for number, action in enumerate([*actions(self.family), *actions(self.family)]):
            if number == length // 2:
                lanes.env.reset(late, generators)
                elapsed[late] = 0
            step = lanes.env.step(action)
            elapsed += 1
            over = elapsed == length
            assert np.array_equal(step.truncated | step.terminated, over | step.terminated), (
                f"`truncated` must be true after {length} steps from a lane's own reset and not "
                f"before, but after {elapsed.tolist()} steps it is {step.truncated.tolist()}; an "
                "end by the task's own rules is `terminated`"
            )
            if (ended := over | step.terminated).any():
                lanes.env.reset(ended, generators)
                elapsed[ended] = 0

    def test_the_hidden_task_shows_only_through_what_it_varies(self) -> None:
        """If the observation showed the task, there would be nothing to adapt to."""
        one, other = played(self.family, 0), played(self.family, 1)
        ours, theirs = (each.first[:, : self.num_blind] for each in (one, other))
        assert np.array_equal(ours, theirs, equal_nan=True), (
            "an episode's first observation must come from the generators alone, but differs "
            "between tasks: the hidden variable must not be observed"
        )
        assert not same(one.steps, other.steps), (
            "tasks must differ in reward or dynamics, but the steps of two batches of tasks are "
            "equal; make sure that `set_tasks` takes effect"
        )
        if self.family.spec.varies != "reward":
            return
        for mine, yours in zip(one.steps, other.steps, strict=True):
            assert np.array_equal(mine.observation, yours.observation, equal_nan=True), (
                "the observation must not depend on the hidden variable where tasks differ in the "
                'reward, but it does; leave it out, or give `spec` `varies="dynamics"` if the '
                "tasks differ in how they move"
            )
            assert np.array_equal(mine.motion.columns(), yours.motion.columns(), equal_nan=True), (
                "`motion` must not depend on the hidden variable where tasks differ in the reward"
            )

    def test_no_number_of_a_step_is_the_hidden_task(self) -> None:
        """A column that equals a hidden variable in every step and lane would give it away."""
        parameters = np.array(tasks(self.family))
        said = np.stack([numbers(step) for step in self._played()])
        for index, variable in enumerate(parameters.T):
            if len(set(variable.tolist())) > 1:
                shown = (said == variable[None, :, None]).all(axis=(0, 1))
                assert not shown.any(), (
                    f"no number of a step may be the hidden task, but hidden variable {index} is "
                    f"number {np.flatnonzero(shown)[0]} of every step (observation first)"
                )

    def test_train_and_test_are_two_objects(self) -> None:
        """Separate objects, so that no held-out task can be trained on by accident."""
        family = self.family
        assert family.train is not family.test, (
            "`train` and `test` must be two distributions, but are one object"
        )
        if family.spec.disjoint:
            trained, held_out = self._drawn(family.train), self._drawn(family.test)
            assert not set(trained) & set(held_out), (
                "`spec` says that no held-out task is ever trained on, but some are"
            )

    def test_a_task_has_as_many_parameters_as_the_family_says(self) -> None:
        """Parameters are plain floats, and equal generators give equal ones, in both splits."""
        wanted = self.family.spec.num_parameters
        for name in ("train", "test"):
            split: TaskDistribution = getattr(self.family, name)
            drawn = self._drawn(split)
            assert len(drawn) == _NUM_TASKS, (
                f"`{name}` must draw the {_NUM_TASKS} tasks asked for, but drew {len(drawn)}"
            )
            counts = sorted({len(values) for values in drawn})
            assert counts == [wanted], (
                f"tasks of `{name}` must have `num_parameters` of `spec`, {wanted}, but have "
                f"{counts}"
            )
            assert all(type(value) is float for values in drawn for value in values), (
                f"parameters of `{name}` must be plain floats, but are {drawn[0]}"
            )
            assert np.isfinite(drawn).all(), f"parameters of `{name}` must be finite"
            assert drawn == self._drawn(split), (
                f"`{name}` must draw from the generator that it is given and nothing else, but "
                "equal generators gave other tasks"
            )
        assert len(set(self._drawn(self.family.train))) > 1, (
            "training tasks must differ, but all drawn tasks are equal; there is nothing to adapt "
            "to"
        )

    def test_the_hidden_code_decodes_what_it_encodes(self) -> None:
        """It does on arrays and tensors; codes of training tasks lie in [-1, 1]."""
        code = self.family.hidden
        if code is None:
            return
        trained, held_out = (
            np.array(self._drawn(split)) for split in (self.family.train, self.family.test)
        )
        encoded = code.encode(trained)
        assert encoded.shape == (_NUM_TASKS, code.dim), (
            f"`hidden.encode` must give (N, {code.dim}), but gave {encoded.shape}"
        )
        largest = np.abs(encoded).max()
        assert largest <= 1.0 + 1e-9, (
            f"codes of training tasks must lie in [-1, 1], but one is {largest:g}; fit the code's "
            "range to `train`"
        )
        for drawn in (trained, held_out):
            decoded = code.decode(code.encode(drawn))
            assert np.allclose(decoded, drawn, rtol=1e-9, atol=1e-9), (
                "`hidden.decode` must give back what `encode` was given, "
                f"{drawn[0]}, but gives {decoded[0]}"
            )
            tensor = code.encode(torch.from_numpy(drawn))
            assert np.allclose(tensor.numpy(), code.encode(drawn), rtol=1e-9, atol=1e-9), (
                "`hidden.encode` must give the same on tensors as on arrays"
            )
            assert np.allclose(code.decode(tensor).numpy(), decoded, rtol=1e-9, atol=1e-9), (
                "`hidden.decode` must give the same on tensors as on arrays"
            )

    def _started(self, task_seed: int = 0) -> Lanes:
        return Lanes(self.family, tasks(self.family, task_seed))

    def _played(self, task_seed: int = 0) -> Sequence[Step]:
        return played(self.family, task_seed).steps

    def _drawn(self, split: TaskDistribution) -> list[tuple[float, ...]]:
        return split.sample(default_rng(0), _NUM_TASKS)


def _check_array(name: str, array: np.ndarray, shape: tuple[int, ...], kind: type) -> None:
    own = (np.shape(array), getattr(array, "dtype", type(array)))
    assert own == (shape, np.dtype(kind)), (
        f"{name} must be {shape} of {kind.__name__}, but is {own[0]} of {own[1]}"
    )
