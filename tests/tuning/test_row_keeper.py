"""Every trial that began leaves one row, whatever Tune says of it; with a clock that tests move."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.tuning.tuned import RESULT, Tuned, written
from tuning import row_keeper
from tuning.pulse import Sign
from tuning.table.trial import LOST, Trial, TrialState
from tuning.watch import Watch


@pytest.fixture
def tuned(tmp_path: Path) -> Tuned:
    return Tuned(tmp_path)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The actors that were ended."""
    ended: list[Any] = []
    monkeypatch.setattr(ray, "kill", ended.append)
    return ended


def test_what_is_shown_of_a_running_trial_are_the_env_steps_of_all_its_runs(tuned: Tuned) -> None:
    """Beside a budget that is that of all of them."""
    tuned.reports(tuned.begun("a"), 900)
    tuned.progress.reported.assert_called_once_with("t0000", 900, -3.0)


def test_when_time_is_up_a_trial_that_judges_gets_no_row_and_one_that_searches_does(
    tmp_path: Path,
) -> None:
    """Half a training is a result of a search; for a verdict it has to be made whole."""
    tuned = Tuned(tmp_path, time_budget_s=0.0)
    for name, config in (("searches", {}), ("judges", {"seed": 7})):
        tuned.begun(name, config=config, last_result=RESULT)
    tuned.keeper.close()
    assert (tuned.row.trial_id, tuned.row.state) == ("t0000", TrialState.PRUNED)
    ended = [call.args[0] for call in tuned.searcher.on_trial_complete.call_args_list]
    assert ended == ["searches", "judges"], "no trial stays RUNNING in the study"


def test_a_trial_that_fails_before_it_begins_has_a_row_in_the_users_words(
    tuned: Tuned, tmp_path: Path
) -> None:
    words = "ValueError: there is no friction below 0"
    tuned.keeper.on_trial_error(1, [], tuned.trial("a", error_file=written(tmp_path, words)))
    assert (tuned.row.state, tuned.row.reason, tuned.row.score) == (TrialState.FAILED, words, None)
    assert tuned.row.knobs == {"meta.inner_lr": 0.1}
    tuned.progress.finished.assert_called_once()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"curve": ((100, float("nan"), -3.0),)}, "must be finite"),
        ({"score": float("nan"), "seed_scores": ()}, "must be finite"),
        ({"iterations": -1}, "`iterations` must be at least 0"),
        ({"received": {"meta.inner_lr": 0.5}}, "training must receive what was suggested"),
    ],
)
def test_what_contradicts_itself_is_a_row_that_says_so(
    broken: dict[str, Any], said: str, tuned: Tuned
) -> None:
    trial = tuned.begun("a", last_result=RESULT | {"finished": True} | broken)
    tuned.keeper.on_trial_complete(1, [], trial)
    assert tuned.row.state is TrialState.FAILED
    assert tuned.row.reason.startswith("its report is not valid: ")
    assert said in tuned.row.reason
    assert tuned.row.score is None


def test_a_trial_ends_once(tuned: Tuned) -> None:
    trial = tuned.begun("a", last_result=RESULT | {"finished": True})
    tuned.keeper.on_trial_complete(1, [], trial)
    tuned.keeper.on_trial_error(1, [], trial)
    assert (tuned.row.state, tuned.row.peak_bytes) == (TrialState.COMPLETE, 7_000)


def test_a_trial_that_found_no_memory_says_how_much_it_held(tuned: Tuned) -> None:
    last = RESULT | {"out_of_memory": True, "reason": "out of memory: 9 GiB more were wanted"}
    tuned.keeper.on_trial_complete(1, [], tuned.begun("a", last_result=last))
    assert (tuned.row.state, tuned.row.peak_bytes) == (TrialState.OOM, 7_000)
    assert tuned.row.reason == last["reason"]


@pytest.mark.parametrize("kills", [0, 1])
def test_who_was_killed_by_the_kernel_for_want_of_memory_is_told_apart(
    kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = [3, 3 + kills]
    monkeypatch.setattr(row_keeper, "num_memory_kills", lambda: counted.pop(0))
    tuned = Tuned(tmp_path)
    tuned.keeper.on_trial_error(1, [], tuned.begun("a"))
    assert tuned.row.state is (TrialState.OOM if kills else TrialState.FAILED)
    assert "the worker died" in tuned.row.reason


# ------------------------------------------------------------------------------- hangs


def test_a_silent_trial_is_ended_begun_again_once_and_then_hung(
    tuned: Tuned, killed: list[Any]
) -> None:
    trial = tuned.begun("a")
    for attempt in (1, 2):
        for beats in range(1, 6):
            tuned.look(trial, seconds=1.0, beats=beats + 10 * attempt)
        tuned.reports(trial, 100)
        tuned.look(trial, seconds=19.0)
        assert len(killed) == attempt - 1
        tuned.look(trial, seconds=3.0)
        assert killed == [trial.temporary_state.ray_actor] * attempt
        trial.run_metadata.num_failures += 1
        goes_on = trial.run_metadata.num_failures <= trial.max_failures  # as Tune decides
        assert goes_on is (attempt == 1)
        if goes_on:
            tuned.keeper.on_trial_recover(1, [], trial)
    tuned.keeper.on_trial_error(1, [], trial)
    assert (tuned.row.state, tuned.row.score) == (TrialState.HUNG, None)
    assert tuned.row.reason == "no sign of life for 22 s"


def test_a_trial_that_waits_for_its_turn_is_not_watched(tuned: Tuned, killed: list[Any]) -> None:
    waiting = tuned.trial("a")
    for _ in range(10):
        tuned.look(waiting, seconds=100.0)
    assert not killed


def test_a_trial_that_waits_for_a_process_to_be_begun_again_in_is_not_watched(
    tuned: Tuned, killed: list[Any]
) -> None:
    """On a busy machine, or a cluster that has to grow first, that takes minutes."""
    trial = tuned.begun("a")
    tuned.look(trial, seconds=1.0, beats=3)
    trial.status = "PENDING"
    tuned.keeper.on_trial_recover(1, [], trial)
    for _ in range(10):
        tuned.look(trial, seconds=100.0)
    assert not killed
    tuned.keeper.on_trial_error(1, [], trial)
    assert tuned.row.state is TrialState.FAILED


def test_what_a_process_does_that_hangs_before_its_first_beat_is_said_too(
    tuned: Tuned, killed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sign, "cpu_seconds", lambda sign: tuned.now)
    trial = tuned.begun("a")
    tuned.look(trial, seconds=1.0)
    for seconds in (1.0, 1.0, 200.0):
        tuned.look(trial, seconds=seconds, beats=0)
    assert killed
    tuned.keeper.on_trial_error(1, [], trial)
    assert tuned.row.reason == "no sign of life for 202 s, though it computes"


@pytest.mark.parametrize("beats", [0, 7])
def test_a_trial_that_hangs_before_its_first_report_is_ended_too(
    beats: int, tuned: Tuned, killed: list[Any]
) -> None:
    """Later than others: what is used for the first time may have to be loaded from a slow disk."""
    trial = tuned.begun("a")
    tuned.look(trial, seconds=1.0, beats=beats)
    tuned.look(trial, seconds=170.0)
    assert not killed
    tuned.look(trial, seconds=20.0)
    assert killed


@pytest.mark.parametrize(("first", "second", "left"), [(200, 300, 2), (300, 200, 0), (200, 200, 0)])
def test_only_who_has_come_further_may_fail_as_often_again(
    first: int, second: int, left: int, tuned: Tuned
) -> None:
    trial = tuned.begun("a")
    tuned.reports(trial, first)
    trial.run_metadata.num_failures = 2
    tuned.keeper.on_trial_recover(1, [], trial)
    tuned.reports(trial, second)
    assert 2 - trial.run_metadata.num_failures == left
    (told,) = (call.args[0] for call in tuned.progress.note.call_args_list)
    assert told == "t0000 is restarted: FAILED, the worker died"


def beating(seconds: Callable[[int], float], num_beats: int) -> list[float | None]:
    """What a watch says just before each beat of a trial."""
    now, said = 0.0, list[float | None]()
    watch = Watch(clock=lambda: now)
    for beat in range(1, num_beats + 1):
        now += seconds(beat)
        said.append(watch.silence("t0000"))
        watch.hear("t0000", beat)
        watch.report("t0000")
    return said


def test_no_false_alarm_in_a_hundred_trials_whose_pace_jitters() -> None:
    import random

    for number in range(100):
        rng = random.Random(number)
        assert not any(beating(lambda _, rng=rng: rng.uniform(11.0, 19.0), 200))


def test_a_trial_of_a_pace_of_a_second_that_falls_asleep_is_called_within_thirty() -> None:
    *before, last = beating(lambda beat: 1.0 if beat < 50 else 21.0, 50)
    assert not any(before)
    assert last == 21.0


def test_the_states_that_are_lost_have_no_score() -> None:
    for state in LOST:
        with pytest.raises(ValueError, match="has no score"):
            Trial("t0000", 0, state, 1.0, {}, reason="why")
        with pytest.raises(ValueError, match="must say why"):
            Trial("t0000", 0, state, None, {})
