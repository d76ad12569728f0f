"""What the progress view prints on a terminal and elsewhere, with a clock that the test moves."""

import io
import re
from typing import Any

import pytest

from tuning.progress import Progress
from tuning.table.trial import Trial, TrialState


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    return Clock()


def ended(number: int, score: float | None, env_steps: int = 1000, **changes: Any) -> Trial:
    state = TrialState.COMPLETE if score is not None else TrialState.DIVERGED
    reason = "" if score is not None else "a loss was not finite"
    arguments: dict[str, Any] = {"env_steps": env_steps, "reason": reason}
    knobs = {"meta.inner_lr": 0.1}
    return Trial(f"t{number:04d}", number, state, score, knobs, **(arguments | changes))


def test_plain_lines_tell_every_event(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(num_trials=4, max_env_steps=1000, stream=stream, clock=clock) as progress:
        progress.started("t0000", {"meta.inner_lr": 0.1, "policy.state_dim": 32})
        progress.reported("t0000", 250, None)
        progress.reported("t0000", 500, 0.5)
        clock.now += 10.0
        progress.finished(ended(0, 1.25), best=ended(0, 1.25))
        progress.started("t0001", {"meta.inner_lr": 0.2})
        clock.now += 10.0
        progress.finished(ended(1, None, env_steps=500), best=ended(0, 1.25))
    lines = stream.getvalue().splitlines()
    assert lines == [
        "t0000 started: inner_lr=0.1 state_dim=32",
        "t0000 evaluated: 500/1,000 env steps, score 0.5",
        # 1000 steps in 10 s; 3 trials of 1000 steps to come.
        "t0000 COMPLETE: score 1.25 | 1/4 finished, best searched 1.25 (t0000), 100 env steps/s, "
        "elapsed 0:10, left 0:30",
        "t0001 started: inner_lr=0.2",
        # 1500 steps in 20 s; 2 trials of 750 steps to come, as trials took so far.
        "t0001 DIVERGED: no score (a loss was not finite) | 2/4 finished, "
        "best searched 1.25 (t0000), 75 env steps/s, elapsed 0:20, left 0:20",
    ]


def test_a_resumed_sweep_counts_earlier_trials_but_not_their_speed(clock: Clock) -> None:
    stream = io.StringIO()
    earlier = [ended(0, 7.0), ended(1, None)]
    options: dict[str, Any] = {"num_trials": 3, "max_env_steps": 1000, "earlier": earlier}
    progress = Progress(**options, stream=stream, clock=clock)
    progress.started("t0002", {})
    clock.now += 5.0
    progress.finished(ended(2, 6.0), best=ended(0, 7.0))
    assert "3/3 finished, best searched 7 (t0000), 200 env steps/s, elapsed 0:05, left 0:00" in (
        stream.getvalue()
    )


def test_time_left_ends_with_the_time_budget(clock: Clock) -> None:
    stream = io.StringIO()
    options: dict[str, Any] = {"num_trials": 1000, "max_env_steps": 1000, "time_budget_s": 60.0}
    progress = Progress(**options, stream=stream, clock=clock)
    progress.finished(ended(0, None, env_steps=0), best=None)
    clock.now += 20.0
    progress.finished(ended(1, 1.0), best=ended(1, 1.0))
    first, second = stream.getvalue().splitlines()
    assert first.endswith("best searched none yet, 0 env steps/s, elapsed 0:00, left at most 1:00")
    assert second.endswith("left 0:40")


def test_the_terminal_gets_a_table_and_no_lines(clock: Clock) -> None:
    stream = Terminal()
    with Progress(num_trials=3, max_env_steps=1000, stream=stream, clock=clock) as progress:
        progress.started("t0000", {"meta.inner_lr": 0.1})
        progress.finished(ended(0, 1.25), best=ended(0, 1.25))
        progress.started("t0001", {"meta.inner_lr": 0.3})
        progress.reported("t0001", 640, -2.0)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    last = text[text.rindex("1/3 finished") :]
    assert "best searched 1.25 (t0000)" in last
    assert re.search(r"t0001\s+│ RUNNING\s+│ 640/1,000\s+│ -2\s+│ inner_lr=0.3", last)
    assert re.search(r"t0000 \*\s*│ COMPLETE\s+│ 1,000/1,000\s+│ 1.25", last)
    assert last.index("t0001") < last.index("t0000 *"), "what runs comes first"
    assert "started" not in text
    assert "\x1b[?25h" in stream.getvalue(), "the cursor must come back"
    progress.close()


def test_a_long_table_is_cut(clock: Clock) -> None:
    stream = Terminal()
    trials = [ended(number, float(number)) for number in range(30)]
    options: dict[str, Any] = {"num_trials": 31, "max_env_steps": 1000, "earlier": trials}
    progress = Progress(**options, stream=stream, clock=clock)
    progress.close()
    text = stream.getvalue()
    assert "and 10 more" in text
    assert "t0029" in text
    assert "t0005" not in text


def test_json_output_keeps_stdout_clean(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(num_trials=1, max_env_steps=10, quiet_stdout=True) as progress:
        progress.started("t0000", {})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("t0000 started")


def test_json_output_reaches_stdout_while_stderr_is_a_live_table(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"num_trials": 1, "max_env_steps": 10, "quiet_stdout": True}
    with Progress(**options, stream=Terminal(), clock=clock):
        print('{"best": "t0000"}')
    assert capsys.readouterr().out == '{"best": "t0000"}\n'
