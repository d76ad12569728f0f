"""What becomes of trials that Ray's memory monitor kills, alone, together, or while they start."""

from pathlib import Path

import pytest
import ray

from tests.tuning.tuned import Tuned, written
from tuning.table.trial import TrialState


@pytest.fixture
def tuned(tmp_path: Path) -> Tuned:
    return Tuned(tmp_path)


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
    assert three.row.peak_bytes == int(1.37 * 2**30)
    three.searcher.on_trial_complete.assert_called_once_with("b", error=True)


def failures(folder: Path, *words: str) -> str:
    """The file in which Tune keeps the failures of a trial."""
    heads = (f"Failure # {n} (occurred at 2026-11-28_02-00-00)\n" for n in range(1, 9))
    return written(
        folder, "".join(f"{head}{said}\n" for head, said in zip(heads, words, strict=False))
    )


def in_start(three: Tuned, folder: Path, words: str) -> RuntimeError:
    """What is raised when the process of ``c`` died, and is killed so while it is started again."""
    starting, pulse = three.keeper._open["c"], three.folder / "pulses" / "t0002"
    starting.error_file = failures(folder, "The actor died")
    three.keeper._killed_in_start = None  # Tune would have ended, and made another keeper
    three.keeper.on_trial_recover(1, [starting], starting)
    assert not pulse.exists()
    if "pid=13," in words:  # it came as far as to show that it lives
        pulse.write_text("1 13 here\n")
    starting.error_file = failures(folder, "The actor died", words)
    three.keeper.on_step_end(1, [starting])
    three.keeper.on_trial_error(1, [starting], starting)
    with pytest.raises(RuntimeError, match="running low on memory") as raised:
        three.keeper.on_step_end(2, [starting])
    assert not three.table.rows
    return raised.value


def test_one_that_was_killed_in_its_start_is_restarted_where_a_larger_one_was_killed(
    three: Tuned, tmp_path: Path
) -> None:
    words = str(monitor(pid11=1.37, pid99=0.2).__cause__)
    error = in_start(three, tmp_path, words)
    assert three.keeper.lost_to_memory_monitor(error)
    assert (three.row.trial_id, three.row.state) == ("t0000", TrialState.OOM)
    assert three.row.peak_bytes == int(1.37 * 2**30)
    three.searcher.on_trial_complete.assert_called_once_with("a", error=True)


@pytest.mark.parametrize(("pid", "peak"), [("pid13", int(0.2 * 2**30)), ("pid99", 0)])
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
    assert said.count("t0002 is restarted: OOM beside a larger trial") == 2


def test_restarts_by_tune_after_a_kill_count_among_those_beside_a_larger_one(
    three: Tuned, tmp_path: Path
) -> None:
    error = monitor("11\t1.9\tray::MetaTraining\n", pid13=0.4)
    killed = three.keeper._open["c"]
    killed.error_file = failures(tmp_path, str(error.__cause__))
    for _ in range(2):
        three.keeper.on_trial_recover(1, [killed], killed)
    (three.folder / "pulses" / "t0002").write_text("1 13 here\n")
    assert three.keeper.lost_to_memory_monitor(error)
    assert (three.row.trial_id, three.row.state) == ("t0002", TrialState.OOM)


@pytest.mark.parametrize("has_shown_life", [True, False])
def test_one_that_never_began_has_a_row_too(
    has_shown_life: bool, three: Tuned, tmp_path: Path
) -> None:
    """Tune tells of a start only when it is over, also where a process takes over another trial."""
    never = three.trial("d")
    error = monitor(pid14=0.3)
    if has_shown_life:
        (three.folder / "pulses" / "t0003").write_text("1 14 here\n")
        three.keeper.on_step_end(1, [never])
    else:
        never.error_file = failures(tmp_path, str(error.__cause__))
        three.keeper.on_trial_error(1, [never], never)
        with pytest.raises(RuntimeError) as raised:
            three.keeper.on_step_end(1, [never])
        error = raised.value
    assert three.keeper.lost_to_memory_monitor(error)
    assert (three.row.trial_id, three.row.state) == ("t0003", TrialState.OOM)
    assert three.searcher.on_trial_complete.call_count == has_shown_life


def test_one_that_runs_and_says_that_a_process_of_its_own_was_killed_has_a_row_at_once(
    three: Tuned, tmp_path: Path
) -> None:
    running = three.keeper._open["c"]
    words = f"RuntimeError: a learner was lost ({monitor(pid99=0.2).__cause__})"
    running.error_file = failures(tmp_path, words)
    three.keeper.on_trial_error(1, [running], running)
    assert (three.row.trial_id, three.row.state) == ("t0002", TrialState.OOM)
    three.keeper.on_step_end(1, [running])


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
