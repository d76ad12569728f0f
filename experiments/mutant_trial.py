"""Run tests against a mutant, on a copy of the project, in a fork of a warm process.

Only the copy is changed, so a process that dies leaves no mutant in the project.
"""

import contextlib
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

ROOMS = ("ssmrl", "cluster", "tuning", "agents", "experiments", "ssmrl_command")
_FORK = multiprocessing.get_context("fork")


@dataclass
class Told:
    """Result of a pytest run.

    Attributes:
        seconds: Duration of each test that passed, fixtures included [s].
        failed: The first test or file that failed, or why the run gave no result; empty if all
            tests passed.
        code: Pytest's exit code.
        modules: Third-party modules that it imported.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    failed: str = ""
    code: int = 0
    modules: list[str] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether a test failed or could not be imported, or the run gave no result."""
        return self.code in {1, 2} and bool(self.failed)


class Workshop:
    """A copy of the project in which one module at a time is changed.

    Args:
        project: Root of the project.
        folder: Folder of the copy and of the last run's log.
    """

    def __init__(self, project: Path, folder: Path) -> None:
        self._project, self.copy, self._log = project, folder / "copy", folder / "last.log"
        ignored = shutil.ignore_patterns("__pycache__", "results", "*.png")
        for name in (*ROOMS, "tests", "docs"):
            shutil.copytree(project / name, self.copy / name, ignore=ignored, dirs_exist_ok=True)
        shutil.copy2(project / "pyproject.toml", self.copy)

    @staticmethod
    def warm(modules: Sequence[str]) -> None:
        """Import the tests' third-party modules once, so that forks need not.

        Args:
            modules: ``Told.modules`` of a run; modules that fail to import here are left to the
                forks.
        """
        for name in modules:
            with contextlib.suppress(ImportError, AttributeError):
                importlib.import_module(name)

    def measured(self, files: Sequence[str], timeout: float) -> Told:
        """Run test files on the unchanged copy, until one test fails.

        Args:
            files: Test files, relative to the project.
            timeout: Time after which the run counts as failed [s].
        """
        return self._run(files, None, timeout, writes_code=True)

    def tried(self, path: str, source: str, tests: Mapping[str, float], timeout: float) -> Told:
        """Run tests with a module changed, the quickest first, until one fails.

        Args:
            path: Path of the module.
            source: Changed source of the module.
            tests: Duration of each test, by name [s].
            timeout: Time after which the run counts as failed [s].
        """
        files = sorted({name.split("::")[0] for name in tests})
        place = self.copy / path
        original, times = place.read_bytes(), place.stat()
        try:
            place.write_text(source)
            # Python reuses compiled code of equal time and size: this time prevents it.
            os.utime(place, (times.st_atime, times.st_mtime + 3600.0))
            return self._run(files, tests, timeout)
        finally:
            place.write_bytes(original)
            os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))

    def last_output(self, num_lines: int = 30) -> str:
        """The last lines of the last run's output."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-num_lines:])

    def _run(
        self,
        files: Sequence[str],
        tests: Mapping[str, float] | None,
        timeout: float,
        *,
        writes_code: bool = False,
    ) -> Told:
        ours, theirs = _FORK.Pipe(duplex=False)
        process = _FORK.Process(target=self._played, args=(theirs, files, tests, writes_code))
        process.start()
        theirs.close()
        told = Told(failed="no answer", code=1)
        try:
            if ours.poll(timeout):
                told = Told(*ours.recv())
            else:
                told.failed = f"not finished after {timeout:.0f} s"
        except EOFError:
            told.failed = "the process died"
        finally:
            _end(process)
        return told

    def _played(
        self,
        answer: Any,
        files: Sequence[str],
        tests: Mapping[str, float] | None,
        writes_code: bool,
    ) -> None:
        """Run pytest in the fork, and send its result."""
        os.setsid()
        threading.Thread(target=_end_with_parent, daemon=True).start()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        with self._log.open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        for name in [name for name in sys.modules if name.split(".")[0] in (*ROOMS, "tests")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        sys.path[:] = [str(self.copy), *(p for p in sys.path if Path(p or ".") != self._project)]
        sys.dont_write_bytecode = not writes_code
        os.environ |= {"PYTHONPATH": str(self.copy), "PYTHONDONTWRITEBYTECODE": "1"}
        os.chdir(self.copy)
        # Any failing example is enough: hypothesis need not shrink it.
        quick = settings(phases=(Phase.explicit, Phase.generate), database=None)
        settings.register_profile("mutants", quick)
        settings.load_profile("mutants")
        listener = _Listener(tests)
        flags = ["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", "--rootdir", "."]
        listener.told.code = int(pytest.main([*flags, *files], plugins=[listener]))
        told = listener.told  # sent as plain values: the class was imported anew
        answer.send((told.seconds, told.failed, told.code, _of_others()))
        os._exit(0)


def _of_others() -> list[str]:
    """Names of third-party modules with a file, in the order of their import."""
    return [
        name
        for name, module in sys.modules.items()
        if name.split(".")[0] not in {*ROOMS, "tests", "conftest"}
        and (spec := getattr(module, "__spec__", None)) is not None
        and spec.name == name
        and spec.has_location
    ]


def _end_with_parent() -> None:
    """End the fork once its parent is dead: a mutant may loop for ever."""
    parent = multiprocessing.parent_process()
    while parent is not None and os.getppid() == parent.pid:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


def _end(process: Any) -> None:
    """Kill a process and all that it started, which shares its process group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()  # it has no group yet, or has ended
    process.join()


class _Listener:
    """Pytest plugin that selects tests, and records their results."""

    def __init__(self, tests: Mapping[str, float] | None) -> None:
        self._tests, self.told = tests, Told()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if (tests := self._tests) is not None:
            items[:] = sorted(
                (item for item in items if item.nodeid in tests),
                key=lambda item: tests[item.nodeid],
            )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        seconds = self.told.seconds
        if report.failed:
            self.told.failed = self.told.failed or report.nodeid
        else:
            seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
        if report.skipped:
            seconds.pop(report.nodeid, None)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.told.failed = self.told.failed or report.nodeid
