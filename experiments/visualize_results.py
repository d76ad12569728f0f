"""``python -m experiments.visualize_results``: figures and a summary of the serious benchmark.

It trains and tests nothing: it only reads the result files of the benchmark.
"""

import math
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

if not __package__:
    # Run as a script: the root replaces this folder, whose modules would shadow the stdlib's.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import typer

from experiments.benchmark_result import (
    REPORTED_STEPS,
    TEST_DRAW,
    BenchmarkResult,
    Estimate,
    ResultError,
    estimate,
)
from experiments.folder_option import mounted
from ssmrl.command_line import command_app, refuse
from ssmrl.config import METHODS
from ssmrl.files import replace_file
from ssmrl.shared_options import JsonOption
from ssmrl.strict_json import json_text

SUMMARISED_STEPS = (0, 1, 3)
FIGURES = ("training_curves", "test_performance", "adaptation_curves")


@dataclass(frozen=True)
class MethodResults:
    """The results of one method, one per seed, in the order of the seeds."""

    method: str
    results: tuple[BenchmarkResult, ...]

    def row(self) -> dict[str, Any]:
        """The method's row of the summary."""
        first = self.results[0]
        row: dict[str, Any] = {
            "method": self.method,
            "num_parameters": first.num_parameters,
            "seeds": [result.config.seed for result in self.results],
            "env_steps": first.env_steps,
            "seconds": sum(result.seconds for result in self.results) / len(self.results),
        }
        for num_steps in SUMMARISED_STEPS:
            row[f"return_{num_steps}"] = asdict(estimate(self.results, num_steps))
        return row | {"mean_return_1": asdict(self._mean_after_one()), "verdict": self.verdict()}

    def label(self) -> str:
        """Label of the method in legends."""
        return f"{self.method} ({_seeds(len(self.results))})"

    def verdict(self) -> str:
        """How the mean return after one adaptation step compares with the no-adaptation bound.

        The bound limits the mean return, so the mean is compared with it, not the interquartile
        mean.
        """
        first = self.results[0]
        if (bound := first.no_adaptation_bound) is None:
            return "no bound is known"
        found = self._mean_after_one()
        if found.low is not None and found.low > bound:
            return "above"
        is_below = found.high is not None and found.high < bound
        return "below" if is_below else "not told apart"

    def _mean_after_one(self) -> Estimate:
        return estimate(self.results, 1, trim=0.0)


def read_results(folder: Path, task: str | None = None) -> tuple[MethodResults, ...]:
    """The results of one task in a folder, by method.

    Args:
        folder: Output folder of the benchmark.
        task: Name of the task; None if the folder holds only one.

    Raises:
        FileNotFoundError: If there is no result.
        ResultError: If a result is damaged, or the results are not comparable.
        ValueError: If there are several tasks and none was chosen.
    """
    results = [BenchmarkResult.load(path) for path in sorted(folder.glob("result-*.json"))]
    if not results:
        raise FileNotFoundError(
            f"there is no result in {folder}; make some with "
            f"`python -m experiments.serious_benchmark --output-dir {folder}`"
        )
    tasks = sorted({result.config.env.task for result in results})
    if task is None and len(tasks) > 1:
        raise ValueError(f"{folder} holds several tasks; choose one with `--task`: {tasks}")
    chosen = [result for result in results if result.config.env.task == (task or tasks[0])]
    if not chosen:
        raise FileNotFoundError(f"there is no result of {task!r} in {folder}, only of {tasks}")
    check_comparable(chosen)
    methods = []
    for method in METHODS:
        of_method = [result for result in chosen if result.method == method]
        if of_method:
            of_method.sort(key=lambda result: result.config.seed)
            methods.append(MethodResults(method, tuple(of_method)))
    return tuple(methods)


def check_comparable(results: list[BenchmarkResult]) -> None:
    """Check that results of one task differ only in method, sizes and seed.

    Raises:
        ResultError: If results of one method differ in more than the seed, results of different
            methods in more than the policy, or a seed occurs twice.
    """
    first_of: dict[str, BenchmarkResult] = {}
    seen: set[tuple[str, int]] = set()
    for result in results:
        name = f"{result.method} with seed {result.config.seed}"
        if (result.method, result.config.seed) in seen:
            raise ResultError(f"there are two results of {name}; move one of them away")
        seen.add((result.method, result.config.seed))
        for other in (results[0], first_of.setdefault(result.method, result)):
            here, there = _settings(result), _settings(other)
            if result.method != other.method:
                here = {k: v for k, v in here.items() if not k.startswith("policy.")}
            if different := [knob for knob, value in here.items() if value != there[knob]]:
                raise ResultError(
                    f"results must be made with the same settings to be compared, but {name} and "
                    f"{other.method} with seed {other.config.seed} differ in "
                    f"{', '.join(different)}; keep them in different folders"
                )


def _settings(result: BenchmarkResult) -> dict[str, Any]:
    knobs = {k: v for k, v in result.config.knobs().items() if k != "seed"}
    return {"epochs": result.num_iterations, **knobs}


def unfinished(folder: Path, methods: tuple[MethodResults, ...]) -> list[str]:
    """Names of runs with a curve but no result: they were stopped, or diverged."""
    task = methods[0].results[0].config.env.task
    curves = [
        (path, method)
        for method in METHODS
        for path in sorted(folder.glob(f"curve-{task}-{method}-seed*.csv"))
    ]
    return [
        f"{method} with seed {path.stem.rpartition('-seed')[2]}"
        for path, method in curves
        if not (folder / f"result-{path.stem.removeprefix('curve-')}.json").exists()
    ]


def draw(methods: tuple[MethodResults, ...], folder: Path) -> list[Path]:
    """Draw the three figures; return their paths."""
    from experiments.plots import Band, Curve, interval_bars, interval_lines, learning_curves

    first = methods[0].results[0]
    task, bound = first.config.env.task, first.no_adaptation_bound
    num_test_tasks = first.config.evaluation.num_tasks
    curves = []
    for each in methods:
        x = [row["env_steps"] for row in each.results[0].curve]
        for column, style in (("return_after", "-"), ("return_before", ":")):
            y = [[row[column] for row in result.curve] for result in each.results]
            # Curves share a color if their names agree before the comma.
            curves.append(Curve(f"{each.method}, {column.removeprefix('return_')}", x, y, style))
    bands = []
    for each in methods:
        estimates = [estimate(each.results, k) for k in REPORTED_STEPS]
        middle = [e.middle for e in estimates]
        low, high = ([getattr(e, end) for e in estimates] for end in ("low", "high"))
        bands.append(Band(each.label(), REPORTED_STEPS, middle, _known(low), _known(high)))
    what = f"interquartile mean return of {num_test_tasks} held-out tasks"
    picked = [REPORTED_STEPS.index(k) for k in SUMMARISED_STEPS]
    picked_bands = [
        Band(
            band.name,
            SUMMARISED_STEPS,
            *([ends[i] for i in picked] for ends in (band.middle, band.low, band.high)),
        )
        for band in bands
    ]
    return [
        learning_curves(
            folder / "training_curves.png",
            curves,
            title=f"{task}: return on training tasks, before and after adaptation"
            + (", 95 % intervals over seeds" if any(len(c.y) > 1 for c in curves) else ""),
            bound=bound,
            y_label="return",
        ),
        interval_bars(
            folder / "test_performance.png",
            picked_bands,
            title=f"{task}: {what}, 95 % intervals",
            bound=bound,
            groups=[f"after {_steps(k)}" if k else "before adaptation" for k in SUMMARISED_STEPS],
            y_label="return",
        ),
        interval_lines(
            folder / "adaptation_curves.png",
            bands,
            title=f"{task}: {what}, 95 % intervals",
            bound=bound,
            x_label="adaptation steps",
            y_label="return",
        ),
    ]


def summary(methods: tuple[MethodResults, ...], folder: Path) -> str:
    """The summary as Markdown, with the commands that reproduce it.

    Args:
        methods: Results by method.
        folder: Folder they were read from.
    """
    first = methods[0].results[0]
    config, bound = first.config, first.no_adaptation_bound
    shown = "none is known" if bound is None else f"{bound:.2f}"
    lines = [
        f"# {config.env.task}",
        "",
        f"Meta-trained with ProMP for {first.num_iterations} iterations of "
        f"{config.meta.num_tasks} tasks x {config.meta.num_episodes} episodes x "
        f"{config.env.horizon} env steps before and after adaptation; tested on "
        f"{config.evaluation.num_tasks} held-out tasks (draw {TEST_DRAW}).",
        "",
        f"Bound on the mean return without adaptation: {shown}.",
        "",
        "| method | parameters | seeds | env steps | before adaptation | after 1 step "
        "| after 3 steps | mean after 1 step | against the bound |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in methods:
        row = each.row()
        returns = [_cell(row[f"return_{k}"]) for k in SUMMARISED_STEPS]
        cells = [
            row["method"],
            f"{row['num_parameters']:,}",
            str(len(row["seeds"])),
            f"{row['env_steps']:,}",
            *returns,
            _cell(row["mean_return_1"]),
            row["verdict"],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Returns are interquartile means over seeds and tasks; the last but one column is a mean, "
        "because the bound limits the mean. Intervals are 95 %, over seeds and tasks; with one "
        "seed, over tasks only. Env steps are per seed.",
    ]
    if left_out := unfinished(folder, methods):
        lines += ["", f"Stopped or diverged, and not in the table: {', '.join(left_out)}."]
    lines += ["", *(f"![{name}]({name}.png)" for name in FIGURES)]
    lines += ["", "## Reproduce", "", "```"]
    words = f" --output-dir {shlex.quote(str(folder))}"
    lines += [result.command() + words for each in methods for result in each.results]
    lines += [f"python -m experiments.visualize_results --results-dir {shlex.quote(str(folder))}"]
    return "\n".join([*lines, "```", ""])


def _cell(found: dict[str, float | None]) -> str:
    cell = f"{found['middle']:.2f}"
    return cell if found["low"] is None else f"{cell} [{found['low']:.2f}, {found['high']:.2f}]"


def _known(ends: list[float | None]) -> list[float]:
    """Replace unknown ends by NaN, which is not drawn."""
    return [math.nan if end is None else end for end in ends]


def _seeds(number: int) -> str:
    return f"{number} seed{'s' if number > 1 else ''}"


def _steps(number: int) -> str:
    return f"{number} step{'s' if number > 1 else ''}"


app = command_app(
    # Accept --results_dir for --results-dir.
    context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
)


@app.command()
def main(
    *,
    results_dir: Annotated[
        Path,
        typer.Option(help="Folder of the benchmark's results.", callback=mounted),
    ] = Path("runs/serious_benchmark"),
    output_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of figures and summary; by default that of the results.", callback=mounted
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Task family, if the folder holds several.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw and summarise the results of all methods and seeds."""
    folder = results_dir if output_dir is None else output_dir
    try:
        methods = read_results(results_dir, task)
        folder.mkdir(parents=True, exist_ok=True)
        text = summary(methods, results_dir)
        files = [*draw(methods, folder), folder / "summary.md"]
        replace_file(folder / "summary.md", text)
    except (ValueError, OSError) as error:
        refuse(str(error))
    if as_json:
        first = methods[0].results[0]
        content = {
            "task": first.config.env.task,
            "no_adaptation_bound": first.no_adaptation_bound,
            "methods": [each.row() for each in methods],
            "files": [str(path) for path in files],
        }
        typer.echo(json_text(content))
        return
    typer.echo(text)
    typer.echo("\n".join(f"written: {path}" for path in files))


if __name__ == "__main__":
    app()
