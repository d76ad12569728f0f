"""The numbers in README and docs, each with the committed rows that it comes from."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import fmean

from experiments.benchmarks.memory_returns import interquartile, read_returns
from ssmrl.envs.families import get_family
from tuning.power import findable_spreads

RESULTS = Path(__file__).parent / "results"

Row = dict[str, str]


@dataclass(frozen=True)
class Claim:
    """A phrase whose numbers must agree with committed rows.

    Attributes:
        file: File that contains the phrase exactly once.
        phrase: Text with a field for each number, such as ``{:.1f}``.
        rows: Name of the rows, for messages.
        values: Function that reads the rows' number for each field.
    """

    file: str
    phrase: str
    rows: str
    values: Callable[[], Sequence[float]]


@cache
def rows_of(name: str) -> tuple[Row, ...]:
    """The rows of a file of results."""
    with (RESULTS / name).open() as file:
        return tuple(csv.DictReader(file))


def value(name: str, what: str, column: str = "value", key: str = "what") -> float:
    """A number of the one row whose name starts with ``what``."""
    (row,) = (row for row in rows_of(name) if row[key].startswith(what))
    return float(row[column])


_MEASURED = "docs/measured.md"
_measured = partial(Claim, _MEASURED)


def _bench(phrase: str, name: str, *whats: str) -> Claim:
    file = f"benchmark-{name}.csv"
    return Claim(_MEASURED, phrase, file, lambda: [value(file, what) for what in whats])


_TASKS = ("ant-vel", "halfcheetah-vel", "halfcheetah-dir")


def _memory(task: str, column: str, place: int, label: str = "default") -> list[float]:
    """The value of each seed in one of its evaluations; the first one has place 0."""
    pattern = f"memory-learning-{task}-{label}-seed*.csv"
    return [float(rows_of(p.name)[place][column]) for p in sorted(RESULTS.glob(pattern))]


def _by_memory(task: str) -> Claim:
    is_zero = task == "halfcheetah-dir"
    blind = "{:.0f}" if is_zero else "{:.1f}"
    return Claim(
        _MEASURED,
        f"{task} {{:.1f}}, {{:.1f}} ({{:.1f}}, {blind})",
        f"memory-learning-{task}-default-seed*.csv",
        lambda: [
            fmean(_memory(task, "used", 1)),
            fmean(_memory(task, "used", 4)),
            fmean(_memory(task, "off", 4)),
            fmean(_memory(task, "blind_return", 4)),
        ],
    )


def _interquartile(task: str) -> Claim:
    files = f"memory-returns-{task}-default-seed*.csv"

    def ends() -> list[float]:
        middle, interval = interquartile([read_returns(p)[4] for p in sorted(RESULTS.glob(files))])
        return [middle, *(interval or ())]

    return Claim(_MEASURED, f"{task} {{:.1f}} [{{:.1f}}, {{:.1f}}]", files, ends)


def _by_blind_twin(task: str) -> Claim:
    return Claim(
        _MEASURED,
        f"{task} {{:.1f}}, {{:.1f}} and ",
        f"memory-learning-{task}-blind-twin-seed*.csv",
        lambda: _memory(task, "off", 1, "blind-twin"),
    )


def _spent() -> list[float]:
    """Mean CPU seconds at both evaluations; fewest and most env steps of a task [thousands]."""
    seconds = [fmean(x for task in _TASKS for x in _memory(task, "cpu_seconds", p)) for p in (1, 4)]
    steps = [[fmean(_memory(task, "env_steps", p)) / 1000 for task in _TASKS] for p in (1, 4)]
    return [*seconds, *(end for each in steps for end in (min(each), max(each)))]


def _at(name: str, env_steps: int, column: str) -> float:
    (row,) = (row for row in rows_of(name) if int(row["env_steps"]) == env_steps)
    return float(row[column])


def _learning() -> list[float]:
    return [
        _at(f"learning-halfcheetah-dir-mlp-64-seed{seed}.csv", steps, "return_after")
        for seed in range(3)
        for steps in (12_000_000, 20_000_000)
    ]


_THROUGHPUT = "throughput-halfcheetah-vel-mlp.csv"


def _rate() -> list[float]:
    rows = rows_of(_THROUGHPUT)
    steps = float(rows[-1]["env_steps"])
    return [steps / 1e6, steps / sum(float(row["seconds"]) for row in rows) / 1000]


def _ten() -> list[float]:
    rows = rows_of(_THROUGHPUT)
    return [
        fmean(float(row[column]) for row in part)
        for part in (rows[:10], rows[-10:])
        for column in ("return_before", "return_after")
    ]


def _regret() -> list[float]:
    def of(problem: str, way: str) -> Row:
        rows = rows_of("search-quality.csv")
        (row,) = (row for row in rows if (row["problem"], row["way"]) == (problem, way))
        return row

    ends = ("ratio_to_tpe", "ratio_low", "ratio_high")
    box = [float(of(p, "trust-box")[e]) for p in ("outside", "inside") for e in ends]
    return [*box, *(float(of(p, "random")["ratio_to_tpe"]) for p in ("outside", "inside"))]


def _peak() -> list[float]:
    peak = value("benchmark-memory.csv", "SSM 53 K: peak")
    return [peak / (1 + value("benchmark-memory.csv", "SSM 53 K: growth")), peak]


def _scaling() -> list[float]:
    rows = rows_of("scaling.csv")
    rest = [float(row["other_s"]) / float(row["iteration_s"]) for row in rows]
    errors = [abs(float(row["error"])) for row in rows if row["use"] == "check"]
    times = [float(row["iteration_s"]) for row in rows[:2]]
    return [*times, 100 * max(rest), 100 * max(errors)]


def _scaling_table() -> Claim:
    lines, numbers, kind = [], list[float](), ""
    for row in rows_of("scaling.csv"):
        is_check = row["use"] == "check"
        cells = "| {:.2f} | {:.2f} | {:.2f} | {:.3f} | {:.1f} | {:.2f} |"
        name, kind = "" if row["kind"] == kind else f" {row['kind']}", row["kind"]
        error = "{:+.1f} %" if is_check else "fitted"
        lines.append(f"|{name} | {row['runners']} | {row['tasks']} {cells} {error} |")
        names = ("iteration_s", "play_and_transport_s", "update_s", "other_s")
        numbers += [float(row[name]) for name in names]
        numbers += [float(row["trajectory_bytes"]) / 1e6, float(row["predicted_s"])]
        numbers += [100 * float(row["error"])] if is_check else []
    return Claim("docs/scaling.md", "\n".join(lines), "scaling.csv", lambda: numbers)


def _rest() -> list[float]:
    rest = [100 * float(r["other_s"]) / float(r["iteration_s"]) for r in rows_of("scaling.csv")]
    return [min(rest), max(rest)]


def _gpu(phrase: str, *whats: str, column: str = "value") -> Claim:
    return Claim(
        "docs/gpu.md", phrase, "gpu.csv", lambda: [value("gpu.csv", w, column) for w in whats]
    )


_SWEEP = "sweep-ant-vel-memory.csv"


def _winner() -> list[float]:
    names = ("policy.state_dim", "policy.hidden_dim", "meta.outer_lr", "meta.num_inner_steps")
    (row,) = (row for row in rows_of(_SWEEP) if row["trial_id"] == "t0002")
    return [float(row[name]) for name in names]


def _trial_seconds() -> list[float]:
    seconds = [float(row["seconds"]) for row in rows_of(_SWEEP)]
    return [min(seconds), max(seconds)]


def _of_readme() -> Iterator[Claim]:
    """Numbers that README repeats, and the output of its sweep."""
    yield Claim(
        "README.md",
        "at most eight trials of {:,.0f} env steps each",
        _SWEEP,
        lambda: [max(float(row["env_steps"]) for row in rows_of(_SWEEP))],
    )
    yield Claim(
        "README.md",
        "winner policy.state_dim={:.0f} policy.hidden_dim={:.0f} meta.outer_lr={:.4g} "
        "meta.num_inner_steps={:.0f} (trial t0002)",
        _SWEEP,
        _winner,
    )
    yield Claim(
        "README.md",
        "without adaptation is {:.1f}, {:.1f} and {:.0f}",
        "memory-learning-*-default-seed*.csv",
        lambda: [fmean(_memory(task, "blind_return", 4)) for task in _TASKS],
    )
    for task in _TASKS:
        yield replace(_interquartile(task), file="README.md")
    step, robots = "batched step / ", ("HalfCheetah", "Ant", "Humanoid")
    for phrase, name, whats in (
        (
            "| HalfCheetah {:.2f}, Ant {:.2f}, Humanoid {:.2f};",
            "stepping",
            [f"{robot}: {step}raw mujoco.batch" for robot in robots],
        ),
        (
            "; {:.1f}x and {:.1f}x |",
            "stepping",
            [f"HalfCheetah: {step}{peer}" for peer in ("Gymnasium", "EnvPool")],
        ),
        (
            "HalfCheetah {:.1f}x, Ant {:.1f}x",
            "collecting",
            [f"{robot}: collect with ssm 53 K / RLlib" for robot in robots[:2]],
        ),
        (
            "{:.1f}x / {:.1f}x and {:.1f}x / {:.1f}x",
            "meta-update",
            [
                f"MAML update against {peer} with the model on {loop}"
                for peer in ("higher", "TorchOpt")
                for loop in ("our", "plain")
            ],
        ),
        (
            "nn.GRU | {:.1f}x and {:.1f}x |",
            "layers",
            [f"whole state space policy against nn.{peer}" for peer in ("LSTM", "GRU")],
        ),
    ):
        yield replace(_bench(phrase, name, *whats), file="README.md")


def _of_learning() -> Iterator[Claim]:
    """Claims about learning."""
    yield Claim(
        "docs/library.md",
        "for example {:.0f} (halfcheetah), {:.0f} (ant), over 100 steps",
        "the families",
        lambda: [get_family(name).no_adaptation_bound(100) or 0.0 for name in _TASKS[1::-1]],
    )
    yield _measured(
        "after {:.0f} and {:.0f} CPU-seconds of training ({:.0f} to {:.0f} and {:.0f} to {:.0f} "
        "thousand env steps) on 100 fresh tasks",
        "memory-learning-*-default-seed*.csv",
        _spent,
    )
    for task in _TASKS:
        yield _by_memory(task)
        yield _interquartile(task)
    for task in _TASKS[:2]:
        yield _by_blind_twin(task)
    yield _measured(
        "{:.0f} / {:.0f}, {:.0f} / {:.0f}, {:.0f} / {:.0f}",
        "learning-halfcheetah-dir-mlp-64-seed*.csv",
        _learning,
    )


def _of_long_runs() -> Iterator[Claim]:
    """Claims about long runs, searches and many runners."""
    yield _measured("{:.0f} M env steps, against raw", _THROUGHPUT, lambda: _rate()[:1])
    yield _measured("{:.1f} k against", _THROUGHPUT, lambda: _rate()[1:])
    yield _measured(
        "{:.0f} / {:.0f} over the first ten iterations, {:.0f} / {:.0f} over the last ten",
        _THROUGHPUT,
        _ten,
    )
    yield _measured(
        "trust box {:.2f} [{:.2f}, {:.2f}] / {:.2f} [{:.2f}, {:.2f}], "
        "random search {:.2f} / {:.2f}",
        "search-quality.csv",
        _regret,
    )
    yield _measured(
        "{:.0f} / {:.0f} / {:.0f} |",
        "learning-halfcheetah-dir-ssm-matched-seed0.csv",
        lambda: [
            _at("learning-halfcheetah-dir-ssm-matched-seed0.csv", 20_000_000, f"held_out_{how}")
            for how in ("before", "after", "shuffled")
        ],
    )
    yield _measured(
        "{:.1f} / {:.1f} s; at most {:.2f} %; at most {:.1f} %", "scaling.csv", _scaling
    )
    yield _measured("{:,.0f} / {:,.0f} MiB", "benchmark-memory.csv", _peak)


def _of_speed() -> Iterator[Claim]:
    """Claims about speed against peers and floors."""
    step, raw = "batched step / ", "raw mujoco.batch"
    robots = ("HalfCheetah", "Ant", "Humanoid")
    yield _bench(
        "256 simulations | `make bench` | HalfCheetah {:.2f}, Ant {:.2f}, Humanoid {:.2f}",
        "stepping",
        *(f"{robot}: {step}{raw}" for robot in robots),
    )
    yield _bench(
        "{:.1f}x and {:.1f}x |\n| experience",
        "stepping",
        f"HalfCheetah: {step}Gymnasium",
        f"HalfCheetah: {step}EnvPool",
    )
    collect = "collect with ssm 53 K / "
    yield _bench(
        "against raw physics | `make bench` | HalfCheetah {:.2f}, Ant {:.2f}, Humanoid {:.2f}",
        "collecting",
        *(f"{robot}: {collect}{raw}" for robot in robots),
    )
    yield _bench(
        "HalfCheetah {:.1f}x, Ant {:.1f}x",
        "collecting",
        *(f"{robot}: {collect}RLlib" for robot in robots[:2]),
    )
    yield _bench(
        "MLP 64 x 64 {:.2f}, state space model 53 K {:.2f}", "iteration", "MLP 64 x 64", "SSM 53 K"
    )
    yield _bench("alone | `make bench` | {:.1f}x", "floor", "MAML update / its matrix")
    yield _bench(
        "{:.1f}x / {:.1f}x and {:.1f}x / {:.1f}x",
        "meta-update",
        *(
            f"MAML update against {peer} with the model on {loop}"
            for peer in ("higher", "TorchOpt")
            for loop in ("our", "plain")
        ),
    )
    yield _bench(
        "{:.1f}x and {:.1f}x; {:.1f}x and {:.1f}x; {:.1f}x and {:.1f}x |",
        "layers",
        *(
            f"{what} against nn.{peer}"
            for what in (
                "bare recurrence of 128 reals",
                "layer 128 -> 128 (drive, recurrence, readout)",
                "whole state space policy",
            )
            for peer in ("LSTM", "GRU")
        ),
    )


def _of_docs() -> Iterator[Claim]:
    yield _scaling_table()
    yield Claim("docs/scaling.md", "is {:.2f} to {:.2f} % of", "scaling.csv", _rest)
    yield Claim("docs/sweep.md", "two at once took {:.0f} to {:.0f} s", _SWEEP, _trial_seconds)
    yield Claim(
        "docs/sweep.md",
        "the difference must be {:.1f} standard deviations between seeds to be found in 8 of 10 "
        "sweeps, with six {:.1f}.",
        "tuning.power",
        lambda: [findable_spreads(3), findable_spreads(6)],
    )
    yield _gpu(
        "{:,.0f} updates a second replayed with batches of 256, {:.0f} one after another, {:,.0f} "
        "where",
        "recipe: updates, replayed",
        "recipe: updates, one after another",
        "recipe: updates, compiled",
    )
    yield _gpu("whose launches alone take {:.0f} us", "recipe: floor of the launches")
    yield _gpu(
        "{:.1f} after 55 s, {:.1f} +- 2.1 after 109 s",
        "return by memory after 54.7 s",
        "return by memory after 109.2 s",
    )


CLAIMS = (*_of_readme(), *_of_learning(), *_of_long_runs(), *_of_speed(), *_of_docs())
"""All claims that are checked."""
