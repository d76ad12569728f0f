"""Processes that run a study whose agents are answered by a server, and that may be killed.

As a program it has imported all that is slow, and makes one process for each line that it reads.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.brain import make_brain, quieten_crewai
from tests.agents.made_up_study import MadeUpTrials, make_study
from tuning.placement import Placement
from tuning.plan import SweepPlan

ROOT = Path(__file__).resolve().parents[2]
PLAN = SweepPlan("point", algorithm="promp", rounds=2, num_samples=7, num_confirmed=2)
MODEL = "a-model"


class Nursery:
    """Starts processes that run the study of ``PLAN``, one at a time."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self._program = program

    def start(self, folder: Path, base_url: str, num_trials: int = 1_000_000) -> int:
        """Go on with the study in a folder.

        Args:
            folder: The study's.
            base_url: Where a model answers.
            num_trials: After so many new trials the next one never ends.

        Returns:
            The number of the process.
        """
        task = {"folder": str(folder), "base_url": base_url, "num_trials": num_trials}
        assert self._program.stdin is not None
        self._program.stdin.write(json.dumps(task) + "\n")
        self._program.stdin.flush()
        return self._number()

    def exit_code(self) -> int:
        """How the process ended, once it has; the negative number of a signal."""
        return self._number()

    def _number(self) -> int:
        assert self._program.stdout is not None
        return int(self._program.stdout.readline())


@contextmanager
def nursery(storage: Path) -> Iterator[Nursery]:
    """As long as tests need it.

    Args:
        storage: Folder for what CrewAI keeps.
    """
    command = [sys.executable, "-m", "tests.agents.talking_study"]
    environ = os.environ | {"CREWAI_STORAGE_DIR": str(storage)}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        try:
            yield Nursery(program)
        finally:  # with what a test that failed left behind; and to take leave takes it seconds
            os.killpg(program.pid, signal.SIGKILL)


def run(folder: str, base_url: str, num_trials: int) -> None:
    """The whole study, or what is left of it."""
    with pytest.MonkeyPatch.context() as patch:
        MadeUpTrials(PLAN, num_left=num_trials, hangs=True).install(patch)
        study = make_study(
            PLAN,
            Path(folder),
            brain_of=lambda ledger: make_brain(MODEL, base_url, environ={}, meter=ledger),
        )
        study.run(num_cpus=1, placement=Placement(), quiet=True)


def main() -> None:
    """Make a process for each line, say its number, and how it ended."""
    quieten_crewai()
    import crewai  # noqa: F401  # which takes seconds, and starts no thread

    for line in sys.stdin:
        task: dict[str, Any] = json.loads(line)
        if (process := os.fork()) == 0:
            try:
                run(**task)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
