"""Every trial that began leaves one row, whatever Tune says of it; with a clock that tests move."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import ray

from tuning import row_keeper
from tuning.pulse import Sign
from tuning.row_keeper import RowKeeper
from tuning.table.trial import LOST, Trial, TrialState, TrialTable
from tuning.watch import Watch

RESULT: dict[str, Any] = {
    "score": -3.0,
    "curve": ((100, -5.0, -3.0),),
    "all_env_steps": 300,
    "iterations": 2,
    "seconds": 1.5,
    "returns": {"0": -5.0, "1": -3.0},
    "peak_bytes": 7_000,
}


class Tuned:
    """A round as Tune sees it: the keeper, the table behind it and what the user is told."""

    def __init__(self, folder: Path, *, retries: int = 2, time_budget_s: float = 60.0) -> None:
        self.now = 0.0
        self.folder, self.progress, self.numbers = folder, Mock(), dict[str, int]()
        self.searcher = Mock(number=self.numbers.__getitem__)
        self.table = TrialTable(folder / "trials.jsonl")
        self.keeper = RowKeeper(
            0,
            self.table,
            self.searcher,
            self.progress,
            Mock(),
            time_budget_s=time_budget_s,
            num_rounds=1,
            retries=retries,
            pulses=folder / "pulses",
            watch=Watch(clock=lambda: self.now),
            num_spared=Counter(),
        )
        (folder / "pulses").mkdir()

    def trial(self, name: str, **settings: Any) -> Any:
        self.numbers[name] = len(self.numbers)
        usual = {
            "trial_id": name,
            "status": "PENDING",
            "config": {"meta.inner_lr": 0.1},
            "last_result": None,
            "error_file": None,
            "max_failures": 2,
            "run_metadata": SimpleNamespace(num_failures=0),
            "temporary_state": SimpleNamespace(ray_actor=Mock()),
        }
        return SimpleNamespace(**(usual | settings))

    def begun(self, name: str, **settings: Any) -> Any:
        trial = self.trial(name, **settings)
        self.keeper.on_trial_start(1, [], trial)
        trial.status = "RUNNING"
        return trial

    def reports(self, trial: Any, env_steps: int) -> None:
        trial.last_result = RESULT | {"all_env_steps": env_steps}
        self.keeper.on_trial_result(1, [], trial, trial.last_result)

    def look(self, *trials: Any, seconds: float, beats: int | None = None) -> None:
        """Let time pass, and Tune look around."""
        self.now += seconds
        if beats is not None:
            for trial in trials:
                path = self.folder / "pulses" / f"t{self.numbers[trial.trial_id]:04d}"
                path.write_text(f"{beats} 1 elsewhere\n")
        self.keeper._looked = -1e9
        self.keeper.on_step_end(1, list(trials))

    @property
    def row(self) -> Trial:
        (row,) = self.table.rows
        return row


@pytest.fixture
def tuned(tmp_path: Path) -> Tuned:
    return Tuned(tmp_path)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The actors that were ended."""
    ended: list[Any] = []
    monkeypatch.setattr(ray, "kill", ended.append)
    return ended


def written(folder: Path, text: str) -> str:
    path = folder / "error.txt"
    path.write_text(text)
    return str(path)


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


def monitor(living: str = "", **held: float) -> RuntimeError:
    """What Tune raises when Ray's memory monitor has ended processes, which held so much [GB]."""
    error = RuntimeError("Caught unexpected exception")
    selected = "\n".join(
        f"Selected to kill: (Actor(0a): job ID=01, task name=MetaTraining.train, required "
        f"resources={{CPU: 1}}, pid={pid.removeprefix('pid')}, actual memory used={size}GB, "
        "worker ID=0b)"
        for pid, size in held.items()
    )
    users = "".join(f"{pid[3:]}\t{size}\tray::MetaTraining.train\n" for pid, size in held.items())
    error.__cause__ = ray.exceptions.OutOfMemoryError(
        f"{len(held)} worker(s) were killed due to the node running low on memory. Memory on the "
        f"node was 4.70GB used.\nConsidered workers: [\n{selected}\n]\n"
        f"Top 10 memory users: PID\tMEM(GB)\tCOMMAND\n{users}{living}Refer to ..."
    )
    return error


@pytest.fixture
def three(tuned: Tuned) -> Tuned:
    """Trials at work, with the processes 11, 12 and 13."""
    for number, name in enumerate("abc"):
        tuned.begun(name)
        (tuned.folder / "pulses" / f"t000{number}").write_text(f"5 1{number + 1} here\n")
    return tuned


def test_the_largest_that_rays_memory_monitor_ended_has_a_row_and_its_siblings_have_none(
    three: Tuned,
) -> None:
    assert three.keeper.lost_to_memory_monitor(monitor(pid11=0.33, pid12=1.37, pid99=9.0))
    assert (three.row.trial_id, three.row.state) == ("t0001", TrialState.OOM)
    assert three.row.reason == "3 worker(s) were killed due to the node running low on memory"
    assert three.row.peak_bytes == 1_370_000_000
    three.searcher.on_trial_complete.assert_called_once_with("b", error=True)


def failures(folder: Path, *words: str) -> str:
    """The file in which Tune keeps the failures of a trial."""
    heads = (f"Failure # {n} (occurred at 2026-11-28_02-00-00)\n" for n in range(1, 9))
    return written(
        folder, "".join(f"{head}{said}\n" for head, said in zip(heads, words, strict=False))
    )


def in_start(three: Tuned, folder: Path, *words: str) -> RuntimeError:
    """What is raised when ``c`` fails so while its process is being started."""
    starting = three.keeper._open["c"]
    starting.error_file = failures(folder, *words)
    with pytest.raises(RuntimeError, match="running low on memory") as raised:
        three.keeper.on_trial_error(1, [], starting)
    assert not three.table.rows
    return raised.value


def test_one_that_was_killed_in_its_start_is_restarted_where_a_larger_one_was_killed(
    three: Tuned, tmp_path: Path
) -> None:
    """Its process gave no sign of life yet, so that the pulse is that of the one before it."""
    words = str(monitor(pid11=1.37, pid99=0.2).__cause__)
    error = in_start(three, tmp_path, "The actor died", words)
    assert three.keeper.lost_to_memory_monitor(error)
    assert (three.row.trial_id, three.row.state) == ("t0000", TrialState.OOM)
    assert three.row.peak_bytes == 1_370_000_000
    three.searcher.on_trial_complete.assert_called_once_with("a", error=True)


@pytest.mark.parametrize(("pid", "peak"), [("pid13", 200_000_000), ("pid99", 0)])
def test_one_that_was_killed_in_its_start_and_is_the_largest_has_a_row(
    pid: str, peak: int, three: Tuned, tmp_path: Path
) -> None:
    words = str(monitor("11\t0.1\tray::MetaTraining\n" if peak else "", **{pid: 0.2}).__cause__)
    assert three.keeper.lost_to_memory_monitor(in_start(three, tmp_path, words))
    assert (three.row.trial_id, three.row.state) == ("t0002", TrialState.OOM)
    assert three.row.reason == "1 worker(s) were killed due to the node running low on memory"
    assert three.row.peak_bytes == peak
    three.searcher.on_trial_complete.assert_not_called()  # Tune has told it


@pytest.mark.parametrize("is_starting", [True, False])
def test_one_that_was_killed_beside_a_larger_one_that_lives_is_restarted_a_few_times(
    is_starting: bool, three: Tuned, tmp_path: Path
) -> None:
    error = monitor("11\t1.9\tray::MetaTraining\n", pid13=0.4)
    for _ in range(2):
        told = in_start(three, tmp_path, str(error.__cause__)) if is_starting else error
        assert three.keeper.lost_to_memory_monitor(told)
        assert not three.table.rows
    assert three.keeper.lost_to_memory_monitor(error)
    assert (three.row.trial_id, three.row.state) == ("t0002", TrialState.OOM)
    said = [call.args[0] for call in three.progress.note.call_args_list]
    assert said == ["t0002 is restarted: OOM beside a larger trial"] * 2


def test_a_failure_after_one_of_the_monitors_is_what_it_says(three: Tuned, tmp_path: Path) -> None:
    failed = three.keeper._open["c"]
    memory = str(monitor(pid13=0.2).__cause__)
    failed.error_file = failures(tmp_path, memory, "Traceback:\nValueError: no friction")
    three.keeper.on_trial_error(1, [], failed)
    assert (three.row.state, three.row.reason) == (TrialState.FAILED, "ValueError: no friction")


def test_any_other_error_of_tunes_goes_on(three: Tuned) -> None:
    assert not three.keeper.lost_to_memory_monitor(RuntimeError("something else"))
    assert not three.keeper.lost_to_memory_monitor(monitor(pid99=9.0)), "somebody else's"
    assert not three.table.rows


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
