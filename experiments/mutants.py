"""``python -m experiments.mutants``: how many small wrong changes the quick tests find.

It tries a sample of all mutants of the modules in ``TESTED``. Outcomes are kept, so the same
command resumes after a stop. It is not part of ``make check``: a mutant takes seconds.

Existing libraries do not fit. mutmut 3.8 changes only functions without a decorator: no properties,
and none of the module constants that many comparisons use. It draws no sample either. cosmic-ray
8.7 changes the project itself, and starts a cold process for each mutant, which would mostly
import torch and ray.
"""

import csv
import hashlib
import io
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.folder_option import mounted
from experiments.mutant_trial import Workshop
from experiments.mutation import Mutant, drawn, mutants_of
from ssmrl.command_line import command_app
from ssmrl.files import replace_file
from ssmrl.strict_json import json_object, json_text
from tuning.table.append_only import AppendOnlyFile

PROJECT = Path(__file__).resolve().parents[1]
QUICK = 2.0
"""Longest duration of a test; slower tests are left out [s]."""
_BASELINE_TIMEOUT = 1200.0

_ROLLOUT = "tests/ssmrl/rollout"
TESTED: Mapping[str, tuple[str, ...]] = {
    "ssmrl/rollout/assignment.py": (
        f"{_ROLLOUT}/test_assignment.py",
        f"{_ROLLOUT}/test_sides.py",
        f"{_ROLLOUT}/test_play.py",
    ),
    "ssmrl/rollout/evaluate.py": (
        f"{_ROLLOUT}/test_evaluate.py",
        f"{_ROLLOUT}/test_sides.py",
        f"{_ROLLOUT}/test_report.py",
    ),
    "ssmrl/rollout/play.py": (
        f"{_ROLLOUT}/test_play.py",
        f"{_ROLLOUT}/test_sides.py",
        "tests/ssmrl/adaptation/test_of_some_tasks.py",
    ),
    "ssmrl/rollout/returns.py": (f"{_ROLLOUT}/test_adaptation.py",),
    "ssmrl/rollout/adaptation.py": (f"{_ROLLOUT}/test_adaptation.py",),
    "tuning/comparison.py": ("tests/tuning/test_comparison.py",),
    "tuning/power.py": ("tests/tuning/test_comparison.py",),
    "tuning/table/ranking.py": ("tests/tuning/test_ranking.py",),
    "tuning/scheduler.py": ("tests/tuning/test_scheduler.py",),
    "tuning/rounds.py": (
        "tests/tuning/test_rounds.py",
        "tests/tuning/test_rounds_by_hand.py",
        "tests/tuning/test_further_verdict.py",
    ),
    "tuning/conclusion.py": (
        "tests/tuning/test_conclusion.py",
        "tests/tuning/test_conclusion_of_losses.py",
        "tests/tuning/test_further_verdict.py",
    ),
    "tuning/fresh_returns.py": ("tests/tuning/test_fresh_returns.py",),
    "tuning/kept_plan.py": ("tests/tuning/test_plan.py", "tests/tuning/test_plan_edges.py"),
    "tuning/plan.py": ("tests/tuning/test_plan.py", "tests/tuning/test_plan_edges.py"),
}
"""Modules to change, each with the test files that must find its mutants."""

app = command_app()


@dataclass(frozen=True)
class Outcome:
    """Outcome of one mutant.

    Attributes:
        path: Path of the module.
        line: Line of the change, from 1.
        kind: Kind of the change.
        mutant: Hash of the path and the changed source.
        found_by: The test that failed, or why there was no answer; empty if all passed.
        tests: Hashes of the test files that the outcome depends on, by path.
        seconds: Duration [s].
    """

    path: str
    line: int
    kind: str
    mutant: str
    found_by: str
    tests: Mapping[str, str]
    seconds: float


def name_of(text: str) -> str:
    """Short hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def still_holds(outcome: Outcome, files: Mapping[str, str]) -> bool:
    """Whether an earlier outcome is still valid.

    A mutant that was found stays found while the file of that test is unchanged. One that was not
    is tried again once any of its test files has changed.

    Args:
        outcome: Earlier outcome.
        files: Current hashes of the module's test files, by path.
    """
    if outcome.found_by:
        return all(files.get(path) == name for path, name in outcome.tests.items())
    return dict(outcome.tests) == dict(files)


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """The score of each module, and of all together."""
    lines = []
    for path in [*dict.fromkeys(each.path for each in outcomes), "all"]:
        own = [each for each in outcomes if path in {each.path, "all"}]
        found = sum(bool(each.found_by) for each in own)
        lines.append(f"{path:<32} {found:>4} of {len(own):>4} found  {found / len(own):.0%}")
    return lines


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "line", "kind", "mutant", "found_by", "seconds"])
    for each in outcomes:
        cells = (each.path, each.line, each.kind, each.mutant, each.found_by)
        writer.writerow([*cells, f"{each.seconds:.2f}"])
    return text.getvalue()


class Run:
    """A sample of mutants, and their outcomes so far.

    Args:
        storage: Folder of outcomes, test durations and the copy of the project.
        number: Number of mutants to draw.
        seed: Random seed of the draw.

    Attributes:
        sources: Source of each module, by path.
        num_mutants: Number of all mutants.
        mutants: Mutants of the sample.
    """

    def __init__(self, storage: Path, number: int, seed: int) -> None:
        storage.mkdir(parents=True, exist_ok=True)
        self._storage = storage
        self.sources = {path: (PROJECT / path).read_text() for path in TESTED}
        everything = [
            mutant for path, source in self.sources.items() for mutant in mutants_of(path, source)
        ]
        self.num_mutants = len(everything)
        self.mutants = drawn(everything, number, seed)
        files = {file for of_module in TESTED.values() for file in of_module}
        self._files = {file: name_of((PROJECT / file).read_text()) for file in sorted(files)}
        self._known: dict[str, Outcome] = {}
        self._kept = AppendOnlyFile(storage / "outcomes.jsonl")
        self._kept.read(self._take)

    def _take(self, content: dict[str, Any]) -> bool:
        outcome = Outcome(**content)
        self._known[outcome.mutant] = outcome
        return True

    def outcome(self, mutant: Mutant) -> Outcome | None:
        """Outcome of a mutant; None if it must still be tried."""
        known = self._known.get(name_of(mutant.path + mutant.source))
        holds = known is not None and still_holds(known, self._files_of(mutant.path))
        return known if holds else None

    def measured(self, workshop: Workshop) -> dict[str, float]:
        """Seconds of each quick test by name; unchanged test files are not run again.

        Raises:
            RuntimeError: If a test fails on the unchanged project.
        """
        found: dict[str, float] = {}
        for file, name in self._files.items():
            place = self._storage / f"measured-{name}.json"
            if not place.exists():
                typer.echo(f"measuring {file}")
                told = workshop.measured([file], _BASELINE_TIMEOUT)
                if told.code:
                    raise RuntimeError(
                        f"{told.failed or file} fails though nothing is changed:\n"
                        f"{workshop.last_output()}"
                    )
                text = json_text({"tests": told.seconds, "modules": told.modules})
                replace_file(place, text)
            kept = json_object(place.read_text(), str(place))
            found |= kept["tests"]
            workshop.warm(kept["modules"])
        return {test: seconds for test, seconds in found.items() if seconds <= QUICK}

    def tried(self, workshop: Workshop, mutant: Mutant, tests: Mapping[str, float]) -> Outcome:
        """Try one mutant, and keep its outcome."""
        files = self._files_of(mutant.path)
        own = {test: s for test, s in tests.items() if test.split("::")[0] in files}
        started = time.monotonic()
        told = workshop.tried(mutant.path, mutant.source, own, 20.0 + 5.0 * sum(own.values()))
        if told.code and not told.found:
            raise RuntimeError(f"the tests of {mutant.path} do not run:\n{workshop.last_output()}")
        failed = told.failed.split("::")[0]
        outcome = Outcome(
            mutant.path,
            mutant.line,
            mutant.kind,
            name_of(mutant.path + mutant.source),
            told.failed if told.found else "",
            {failed: files[failed]} if told.found and failed in files else files,
            time.monotonic() - started,
        )
        self._kept.append(asdict(outcome))
        self._known[outcome.mutant] = outcome
        return outcome

    def _files_of(self, path: str) -> dict[str, str]:
        return {file: self._files[file] for file in TESTED[path]}


@app.command()
def mutants(
    number: Annotated[int, typer.Option(min=1, help="Number of mutants to draw.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the draw.")] = 0,
    seconds: Annotated[
        float | None, typer.Option(min=0.0, help="Start no mutant after this time [s].")
    ] = None,
    output: Annotated[Path, typer.Option(help="CSV of the results.", callback=mounted)] = Path(
        "experiments/results/mutants.csv"
    ),
    storage: Annotated[Path, typer.Option(help="Folder of the outcomes.", callback=mounted)] = Path(
        "runs/mutants"
    ),
) -> None:
    """Try a sample of mutants, and show those that no quick test finds."""
    started = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which ends the fork, too
    run = Run(storage, number, seed)
    typer.echo(f"{len(run.mutants)} of {run.num_mutants} mutants, seed {seed}")
    missing = [mutant for mutant in run.mutants if run.outcome(mutant) is None]
    try:
        workshop = Workshop(PROJECT, storage.resolve())
        tests = run.measured(workshop)
        begun = time.monotonic()
        for done, mutant in enumerate(missing, start=1):
            if seconds is not None and time.monotonic() - started > seconds:
                break
            outcome = run.tried(workshop, mutant, tests)
            left = (len(missing) - done) * (time.monotonic() - begun) / done / 60.0
            typer.echo(
                f"{mutant.path}:{mutant.line}, {mutant.kind}: "
                f"{'found' if outcome.found_by else 'NOT FOUND'} in {outcome.seconds:.1f} s; "
                f"{len(missing) - done} to go, about {left:.0f} min"
            )
    except RuntimeError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    known = [(mutant, run.outcome(mutant)) for mutant in run.mutants]
    outcomes = [outcome for _, outcome in known if outcome is not None]
    for mutant, found in known:
        if found is not None and not found.found_by:
            typer.echo(f"\n{mutant.diff(run.sources[mutant.path])}")
    typer.echo("\n" + "\n".join(summary(outcomes)) if outcomes else "nothing tried")
    output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(output, table(outcomes))
    typer.echo(f"{len(outcomes)} of {len(run.mutants)} tried; table in {output}")


if __name__ == "__main__":
    app()
