"""Streams of randomness: reproducible, independent, and not shared by accident."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmrl.config import TrainConfig
from ssmrl.seeding import Purpose, episode_generators, lane_seeds, stream, whole_seed
from tests.contracts.property_settings import PROPERTY

addresses = st.tuples(
    st.integers(0, 3), st.sampled_from(Purpose), st.lists(st.integers(0, 3), max_size=3)
)


def words(sequence: np.random.SeedSequence) -> tuple[int, ...]:
    return tuple(int(word) for word in sequence.generate_state(4))


@PROPERTY
@given(one=addresses, other=addresses)
def test_streams_are_equal_exactly_at_equal_addresses(
    one: tuple[int, Purpose, list[int]], other: tuple[int, Purpose, list[int]]
) -> None:
    """Also where an address is the beginning of another one, or differs in a trailing zero."""
    states = [words(stream(seed, purpose, *rest)) for seed, purpose, rest in (one, other)]
    assert (states[0] == states[1]) == (one == other)
    again = stream(one[0], one[1], *one[2])
    assert words(again) == states[0]


def test_no_two_addresses_of_a_small_run_share_a_stream() -> None:
    seen = [
        words(stream(seed, purpose, *rest))
        for seed in range(3)
        for purpose in Purpose
        for rest in [(), *((i,) for i in range(5)), *((i, n) for i in range(5) for n in range(5))]
    ]
    assert len(set(seen)) == len(seen)


def draws(
    streams: list[np.random.SeedSequence], phase: int, num_episodes: int
) -> list[tuple[float, ...]]:
    return [tuple(rng.random(3)) for rng in episode_generators(streams, phase, num_episodes)]


def test_the_episodes_of_a_task_do_not_depend_on_the_other_tasks() -> None:
    """This is what makes a result independent of how tasks are spread over workers."""
    streams = [stream(0, Purpose.TRAIN_ROLLOUTS, 4, index) for index in range(3)]
    together = draws(streams, 1, 2)
    alone = [draw for each in streams for draw in draws([each], 1, 2)]
    assert together == alone
    assert draws(streams, 1, 3)[:2] == together[:2], "nor on how many episodes there are"


def test_every_task_phase_and_episode_draws_anew() -> None:
    streams = [stream(0, Purpose.TRAIN_ROLLOUTS, 4, index) for index in range(3)]
    seen = [draw for phase in range(3) for draw in draws(streams, phase, 4)]
    assert len(set(seen)) == 36


def test_drawing_leaves_the_streams_as_they_were() -> None:
    """A SeedSequence that had been spawned from would give other children the second time."""
    streams = [stream(0, Purpose.TEST_ROLLOUTS, 0)]
    assert draws(streams, 0, 2) == draws(streams, 0, 2)


def test_the_numbers_of_the_purposes_never_change() -> None:
    """They are part of every published result; a new purpose takes a new number."""
    assert {purpose.name: int(purpose) for purpose in Purpose} == {
        "INITIAL_WEIGHTS": 0,
        "TRAIN_TASKS": 1,
        "TRAIN_ROLLOUTS": 2,
        "TEST_TASKS": 3,
        "TEST_ROLLOUTS": 4,
        "UPDATES": 5,
    }


NO_SEEDS: list[Any] = [-1, 0.0, np.float32(1.0), float("inf"), "0", b"0", None, [0], {}, 1j]


@pytest.mark.parametrize(
    ("seed", "meant"),
    [(0, 0), (np.int8(3), 3), (np.uint64(2**64 - 1), 2**64 - 1), (np.array(4), 4), (2**99, 2**99)],
)
def test_whole_numbers_of_any_type_and_size_are_seeds(seed: Any, meant: int) -> None:
    assert whole_seed(seed) == meant
    assert type(whole_seed(seed)) is int
    assert lane_seeds(seed, 2) == [meant, meant + 1]
    assert words(stream(whole_seed(seed), Purpose.UPDATES)) == words(stream(meant, Purpose.UPDATES))


@pytest.mark.parametrize("seed", NO_SEEDS, ids=repr)
def test_what_is_no_seed_is_refused_by_its_name(seed: Any) -> None:
    with pytest.raises(ValueError, match="`draw` must be a whole number of at least 0") as caught:
        whole_seed(seed, "draw")
    assert repr(seed) in str(caught.value)


def test_a_seed_from_numpy_is_a_knob_like_any_other() -> None:
    """It can be written to a file, and compares with what is read from there."""
    config = TrainConfig(seed=0).with_knobs({"seed": np.int64(2**40), "env.horizon": np.int32(7)})
    assert config == TrainConfig(seed=2**40).with_knobs({"env.horizon": 7})
    assert config.to_json() == TrainConfig(seed=2**40).with_knobs({"env.horizon": 7}).to_json()
