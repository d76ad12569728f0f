"""``python -m experiments.benchmarks.search_quality``: which way to search finds the best point.

Speed is not compared. The problems, synthetic or meta-training of ``point``, have known optima.
"""

import csv
import io
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import typer
from jaxtyping import Float

from experiments.benchmarks.point_training import PointTraining
from experiments.benchmarks.search_ways import WAYS, Problem, final_regret, search
from experiments.benchmarks.synthetic_problems import make_problems
from experiments.folder_option import mounted
from experiments.plots import Band, interval_bars
from experiments.statistics import median, stratified_interval
from ssmrl.command_line import command_app
from ssmrl.files import replace_file
from tuning.table.append_only import AppendOnlyFile

COLUMNS = (
    *("problem", "way", "regret", "regret_low", "regret_high", "num_seeds", "num_trials"),
    *("ratio_to_tpe", "ratio_low", "ratio_high", "target", "got", "verdict", "note"),
)
# By place of the optimum and way: the way to compare with, and the largest ratio of regrets.
TARGETS: Mapping[tuple[str, str], tuple[str, float]] = {
    ("outside", "trust-box"): ("tpe", 1 / 3),
    ("outside", "crew"): ("trust-box", 1.0),
    ("inside", "trust-box"): ("tpe", 1.1),
    ("inside", "crew"): ("tpe", 1.1),
}

_PROGRESS_S = 5.0
_NOISE = 11  # separates the noise from the searches' streams
_SYNTHETIC = tuple(problem.name for problem in make_problems(0))
_SUITE = (*_SYNTHETIC, PointTraining.name)

app = command_app()


@dataclass(frozen=True)
class Search:
    """One search: a problem of a seed, a way to search it, and the number of trials.

    Attributes:
        problem: Name of the problem.
        way: Name of the way.
        seed: Random seed of the problem, the noise and the searcher.
        rounds: Rounds that the trials are divided into if the space moves.
        trials: Trials of all rounds together.
    """

    problem: str
    way: str
    seed: int
    rounds: int
    trials: int


Regrets: TypeAlias = dict[Search, float]


@dataclass(frozen=True)
class Estimate:
    """A median, or a ratio of two, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Quality:
    """How well a way did on a problem, or on all of a kind.

    Attributes:
        problem: Name of the problem; ``outside`` or ``inside`` for all with their optimum there.
        way: Name of the way.
        regret: Median over the seeds, or over all pairs of a problem and a seed.
        num_seeds: Seeds of each problem.
        num_trials: Trials of each search.
        ratio: Regret divided by that of TPE in the first box, on the same problems and seeds.
        target: Target in words.
        got: Ratio that the target limits; None without a target.
        verdict: ``met``, ``missed``, or nothing.
        note: Number of searches that ended where the trust box did.
    """

    problem: str
    way: str
    regret: Estimate
    num_seeds: int
    num_trials: int
    ratio: Estimate | None = None
    target: str = ""
    got: float | None = None
    verdict: str = ""
    note: str = ""


@app.command()
def search_quality(  # noqa: PLR0917  # one parameter a flag
    seeds: Annotated[int, typer.Option(min=1, help="Number of random seeds per problem.")] = 40,
    crew_seeds: Annotated[int, typer.Option(min=1, help="Most seeds of `crew`, a slow way.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds if the space moves.")] = 4,
    trials: Annotated[int, typer.Option(min=1, help="Trials per search.")] = 48,
    ways: Annotated[str, typer.Option(help="Ways, separated by commas.")] = ",".join(WAYS),
    training: Annotated[
        bool, typer.Option("--training", help="Search the meta-training of `point` instead.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    output: Annotated[
        Path,
        typer.Option(help="Folder of the table and the figure.", callback=mounted),
    ] = Path("experiments/results"),
    storage: Annotated[
        Path,
        typer.Option(help="Folder of the finished searches.", callback=mounted),
    ] = Path("runs/search-quality"),
) -> None:
    """Search eight problems in several ways; finished searches are not repeated.

    With --training the only problem is meta-training of `point`: use fewer seeds and trials.

    Delete the folder of finished searches when the search code has changed. A missed
    target is a result, not an error.
    """
    names = ways.split(",")
    if unknown := [name for name in names if name not in WAYS]:
        raise typer.BadParameter(
            f"unknown {unknown}; the ways are: {', '.join(WAYS)}", param_hint="--ways"
        )
    if trials < rounds:
        raise typer.BadParameter(
            f"each round must have a trial, but got {trials=}, {rounds=}", param_hint="--trials"
        )
    wanted = [
        Search(problem, way, seed, rounds, trials)
        for seed in range(seeds)
        for problem in ((PointTraining.name,) if training else _SYNTHETIC)
        for way in names
        if way != "crew" or seed < crew_seeds
    ]
    regrets = finished_regrets(wanted, storage, jobs=jobs)
    rows = qualities(regrets)
    typer.echo(quality_table(rows))
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"search-quality{'-training' if training else ''}.csv"
    replace_file(path, quality_csv(rows))
    typer.echo(f"rows in {path}")
    if figure := draw(path.with_suffix(".png"), rows):
        typer.echo(f"figure in {figure}")


def regret_of(wanted: Search) -> float:
    """The final regret of a search.

    All ways with the same seed get the same problem and the same noise.
    """
    index = _SUITE.index(wanted.problem)
    problem: Problem = (
        PointTraining(wanted.seed)
        if wanted.problem == PointTraining.name
        else make_problems(wanted.seed)[index]
    )
    rows = search(
        problem,
        WAYS[wanted.way],
        np.random.default_rng([wanted.seed, index, _NOISE]),
        # Another seed on each problem, so that a lucky sequence does not count eight times.
        seed=wanted.seed * len(_SYNTHETIC) + index,
        rounds=wanted.rounds,
        trials=wanted.trials,
    )
    return final_regret(problem, rows)


def finished_regrets(wanted: Sequence[Search], storage: Path, *, jobs: int) -> Regrets:
    """The regrets of all these searches; those kept by an earlier call are not repeated.

    Args:
        wanted: The searches.
        storage: Folder where each is saved as soon as it is finished.
        jobs: Number of processes.
    """
    storage.mkdir(parents=True, exist_ok=True)
    known: Regrets = {}

    def take(entry: dict[str, Any]) -> bool:
        regret = entry.pop("regret")
        known[Search(**entry)] = regret
        return True

    kept = AppendOnlyFile(storage / "searches.jsonl")
    kept.read(take)
    missing = [one for one in wanted if one not in known]
    typer.echo(f"{len(wanted)} searches, {len(wanted) - len(missing)} of them finished before")
    began = said = time.monotonic()
    for number, (one, regret) in enumerate(_made(missing, jobs), start=1):
        kept.append(asdict(one) | {"regret": regret})
        known[one] = regret
        now = time.monotonic()
        if now - said >= _PROGRESS_S or number == len(missing):
            said = now
            left = (now - began) / number * (len(missing) - number)
            typer.echo(
                f"{number:5d} of {len(missing)} searches, {now - began:4.0f} s, about {left:.0f} s "
                f"to go; {one.problem}, {one.way}, seed {one.seed}: regret {regret:.4f}"
            )
    return {one: known[one] for one in wanted}


def qualities(regrets: Regrets) -> list[Quality]:
    """The rows of the table: each problem by itself, then all whose optimum is outside, or inside.

    Args:
        regrets: Regrets of searches with the same rounds and trials. A way must have the same seeds
            on every problem. If it has fewer than another way, both are compared on its seeds
            alone.
    """
    ways = list(dict.fromkeys(one.way for one in regrets))
    num_trials = next(iter(regrets)).trials
    searched = [problem for problem in _SUITE if any(one.problem == problem for one in regrets)]
    groups = {problem: [problem] for problem in searched} | {
        where: problems
        for where in ("outside", "inside")
        if (problems := [problem for problem in searched if problem.endswith(f"-{where}")])
    }
    rows = []
    for group, problems in groups.items():
        for way in ways:
            ours = _matrix(regrets, problems, way)
            others = {
                other: _matrix(regrets, problems, other)[: len(ours)]
                for other in ways
                if other != way
            }
            rows.append(_quality(group, way, ours, others, num_trials))
    return rows


def _quality(
    group: str,
    way: str,
    ours: Float[np.ndarray, "seeds problems"],
    others: Mapping[str, Float[np.ndarray, "seeds problems"]],
    num_trials: int,
) -> Quality:
    reference, at_most = TARGETS.get((group, way), ("", 0.0))
    target, got, verdict = "", None, ""
    if others.get(reference, ours[:0]).shape == ours.shape:
        target = f"<= {at_most:.3g} x {reference}"
        got = float(median(ours.ravel()) / median(others[reference].ravel()))
        verdict = "met" if got <= at_most else "missed"
    tpe, box = (others.get(other, ours[:0]) for other in ("tpe", "trust-box"))
    note = ""
    if way == "crew" and box.shape == ours.shape:
        note = f"the trust box's own regret in {(ours == box).sum()} of {ours.size} searches"
    return Quality(
        problem=group,
        way=way,
        regret=estimate(ours, None),
        num_seeds=len(ours),
        num_trials=num_trials,
        ratio=estimate(ours, tpe) if tpe.shape == ours.shape else None,
        target=target,
        got=got,
        verdict=verdict,
        note=note,
    )


def estimate(
    regrets: Float[np.ndarray, "seeds problems"],
    reference: Float[np.ndarray, "seeds problems"] | None,
) -> Estimate:
    """The median of all regrets, divided by that of the reference if there is one.

    Its interval is a bootstrap over seeds with the problems as strata. Both regrets of a problem
    and a seed are resampled together.
    """

    def statistic(places: np.ndarray) -> np.ndarray:
        index = places.astype(np.int64)
        middle = median(regrets.ravel()[index])
        return middle if reference is None else middle / median(reference.ravel()[index])

    # Places of the regrets are resampled, so that pairs stay together.
    places = np.arange(regrets.size, dtype=np.float64).reshape(regrets.shape)
    low, high = stratified_interval(places, np.random.default_rng(0), statistic=statistic)
    return Estimate(float(statistic(places.ravel())), low, high)


def quality_table(rows: Sequence[Quality]) -> str:
    """The rows for a terminal."""
    lines = [
        f"{'optimum':<18} {'way':<10} {'seeds':>5} {'trials':>6}  {'median regret':<23} "
        f"{'ratio to tpe':<19} {'target':<16} {'got':>5}"
    ]
    for row in rows:
        ratio = "" if row.ratio is None else _shown(row.ratio, 2)
        got = "" if row.got is None else f"{row.got:.2f}"
        lines.append(
            f"{row.problem:<18} {row.way:<10} {row.num_seeds:>5} {row.num_trials:>6}  "
            f"{_shown(row.regret, 4):<23} {ratio:<19} {row.target:<16} {got:>5} "
            f"{row.verdict:<6} {row.note}".rstrip()
        )
    return "\n".join(lines)


def quality_csv(rows: Sequence[Quality]) -> str:
    """The rows as CSV; missing values are left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(
            [
                *(row.problem, row.way, *_cells(row.regret), row.num_seeds, row.num_trials),
                *(_cells(row.ratio) if row.ratio else ("", "", "")),
                row.target,
                "" if row.got is None else f"{row.got:.6g}",
                *(row.verdict, row.note),
            ]
        )
    return text.getvalue()


def draw(path: Path, rows: Sequence[Quality]) -> Path | None:
    """Draw the ratios to TPE of each problem; None, and no figure, without any ratio.

    A way with fewer seeds is only in the table: its intervals would dwarf the others'.
    """
    num_seeds = max(row.num_seeds for row in rows)
    names = [name for name in _SUITE if any(row.problem == name for row in rows)]
    bands = []
    for way in dict.fromkeys(row.way for row in rows if row.num_seeds == num_seeds):
        ratios = [row.ratio for row in rows if row.way == way and row.problem in _SUITE]
        known = [ratio for ratio in ratios if ratio is not None]
        if known:
            middle, low, high = zip(*((one.value, one.low, one.high) for one in known), strict=True)
            bands.append(Band(way, range(len(known)), middle, low, high))
    if not bands:
        return None
    return interval_bars(
        path,
        bands,
        title=f"{num_seeds} searches of {rows[0].num_trials} trials; TPE in a fixed box is at 1",
        bound=None,
        # Every second name is lower: the longest ones are wider than their places.
        groups=["\n\n" * (i % 2) + name.replace("-", "\n") for i, name in enumerate(names)],
        y_label="median regret, divided by that of TPE",
    )


def _made(missing: Sequence[Search], jobs: int) -> Iterator[tuple[Search, float]]:
    """Each search with its regret, as soon as it is finished."""
    if jobs == 1:
        for one in missing:
            yield one, regret_of(one)
        return
    # Forked children would inherit the locks of the libraries' threads.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(regret_of, one): one for one in missing}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _matrix(
    regrets: Regrets, problems: Sequence[str], way: str
) -> Float[np.ndarray, "seeds problems"]:
    columns = [
        [regret for one, regret in regrets.items() if (one.problem, one.way) == (problem, way)]
        for problem in problems
    ]
    return np.array(columns, dtype=np.float64).T


def _shown(one: Estimate, digits: int) -> str:
    return f"{one.value:.{digits}f} [{one.low:.{digits}f}, {one.high:.{digits}f}]"


def _cells(one: Estimate) -> tuple[str, str, str]:
    return f"{one.value:.6g}", f"{one.low:.6g}", f"{one.high:.6g}"


if __name__ == "__main__":
    app()
