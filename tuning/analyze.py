"""``python -m tuning.analyze``: print statistics of a sweep's trials; it changes nothing."""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ssmrl.command_line import command_app, refuse
from ssmrl.config import KnobValue, TrainConfig
from ssmrl.format import FormatError, check_format
from ssmrl.knobs import typed
from ssmrl.printable import one_line, printable
from ssmrl.strict_json import json_object, json_text, json_value
from tuning.analysis import Analysis, analyse
from tuning.spaces.ranges import Choice, Range
from tuning.spaces.space import SearchSpace
from tuning.table.ranking import Ranked
from tuning.table.round_log import Round, RoundLog
from tuning.table.trial import Trial, TrialTable

NUM_SHOWN = 5
_PIPED_WIDTH = 140

app = command_app()


@app.command()
def analyze(
    folder: Annotated[Path, typer.Argument(help="Folder of the sweep.")],
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap intervals.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of tables.")
    ] = False,
) -> None:
    """Print which knobs matter, where best and failed trials lie, the cost, and the space's moves.

    Reads FOLDER/trials.jsonl, config.json and rounds.jsonl; the sweep may be running.

    Example: ssmrl analyze runs/swept
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            space, rows, rounds = read_sweep(folder)
    except (OSError, ValueError, KeyError) as error:
        refuse(one_line(error))
    for warning in caught:
        typer.echo(f"warning: {printable(str(warning.message))}", err=True)
    analysis = analyse(rows, rounds[-1].space if rounds else space, seed=seed)
    if as_json:
        typer.echo(json_text(_as_json(folder, rows, analysis, rounds)))
    else:
        _print(folder, rows, analysis, rounds)


def read_sweep(folder: Path) -> tuple[SearchSpace, tuple[Trial, ...], tuple[Round, ...]]:
    """The first space, the trials and the rounds of a sweep, without changing its files.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If there is no sweep or no trial, or a file is damaged.
        KeyError: If the sweep names a knob that this version does not know.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    config = folder / "config.json"
    if not config.exists():
        raise ValueError(f"there is no sweep in {folder}: it has no config.json")
    try:
        content = json_object(config.read_bytes(), "it")
        check_format(content.get("format"), str(config))
        base = TrainConfig.of_knobs(content["base"], "its base")
        space = SearchSpace.from_json(json_text(content["space"]), base)
    except FormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{config} cannot be read: {one_line(error)}") from error
    sweep = str(content.get("sweep_id", ""))
    rows = TrialTable(folder / "trials.jsonl", sweep, check=partial(_check_knobs, base)).rows
    if not rows:
        raise ValueError(f"the sweep in {folder} has no trials yet")
    return space, rows, RoundLog(folder / "rounds.jsonl", base, sweep).rounds


def _check_knobs(base: TrainConfig, row: Trial) -> None:
    """Check that this version knows the knobs of a row."""
    known = base.knobs()
    for knob, value in row.knobs.items():
        base.check_known(knob)
        typed(knob, value, type(known[knob]))


def _as_json(
    folder: Path, rows: Sequence[Trial], analysis: Analysis, rounds: Sequence[Round]
) -> dict[str, Any]:
    best = analysis.ranking[0].to_dict() if analysis.ranking else None
    boxes = [
        {
            "round": this.number,
            "author": this.author,
            "num_trials": this.num_trials,
            "space": json_value(this.space.to_json()),
            "moves": [json_value(move.to_json()) for move in this.moves],
        }
        for this in rounds
    ]
    whole = {"path": str(folder), "num_trials": len(rows), "best": best}
    return whole | analysis.to_dict() | {"rounds": boxes}


def _print(
    folder: Path, rows: Sequence[Trial], analysis: Analysis, rounds: Sequence[Round]
) -> None:
    # No markup: brackets in a reason are printed as they are.
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, emoji=False, width=_PIPED_WIDTH)
    console.print(f"{folder}: {len(rows)} trials, {len(analysis.ranking)} configurations complete")
    for part in (
        _ranking_table(analysis.ranking),
        _importance_table(analysis),
        _edge_table(analysis),
        _failure_table(analysis),
        _cost_table(analysis),
        _cost_line(analysis),
        _box_table(rounds),
    ):
        console.print(part)


def _ranking_table(ranked: Sequence[Ranked]) -> Table | str:
    if not ranked:
        return "Best configurations: no trial completed."
    table = _table("Best configurations", "score", "spread", "interval", "over", "trials")
    table.add_column("knobs")
    for this in ranked[:NUM_SHOWN]:
        table.add_row(
            _number(this.mean),
            _number(this.spread),
            "" if this.interval is None else _interval(this.interval),
            f"{len(this.scores)} runs" if this.interval_over == "runs" else this.interval_over,
            ", ".join(map(printable, this.trial_ids)),
            ", ".join(f"{printable(k)}={_number(v)}" for k, v in this.knobs.items()),
        )
    return table


def _importance_table(analysis: Analysis) -> Table:
    table = _table("Importance (PED-ANOVA)", "knob", "share", "95 % of resamples")
    for this in analysis.importance:
        share = this.reason if this.share is None else f"{this.share:.2f}"
        interval = "" if this.interval is None else _interval(this.interval, ".2f")
        table.add_row(printable(this.knob), share, interval)
    return table


def _edge_table(analysis: Analysis) -> Table:
    table = _table("The best at the edge", "knob", "side", "hits", "share", "by chance")
    for this in analysis.edge_hits:
        share = this.reason if this.share is None else f"{this.share:.0%}"
        hits = f"{this.num_hits} of {this.num_elite}"
        table.add_row(printable(this.knob), this.side, hits, share, f"{this.chance:.0%}")
    return table


def _failure_table(analysis: Analysis) -> Table | str:
    table = _table("Failures", "knob", "part", "failed", "share", "trials")
    for cell in analysis.failure_map:
        if not cell.num_failed:
            continue
        part = _number(cell.low)
        if cell.low != cell.high:
            part += f" to {_number(cell.high)}"
        part += "" if cell.is_inside else " (outside now)"
        share = "too few trials" if cell.share is None else f"{cell.share:.0%}"
        failed = f"{cell.num_failed} of {cell.num_trials}"
        names = ", ".join(map(printable, cell.trial_ids))
        table.add_row(printable(cell.knob), part, failed, share, names)
    return table if table.row_count else "Failures: none."


def _cost_table(analysis: Analysis) -> Table:
    cost = analysis.cost
    table = _table("Cost", "state", "trials", "env steps", "time [s]")
    for part in cost.states:
        steps, seconds = f"{part.env_steps:,}", f"{part.seconds:,.1f}"
        table.add_row(part.state.value, str(part.num_trials), steps, seconds)
    count = str(sum(part.num_trials for part in cost.states))
    table.add_row("all", count, f"{cost.env_steps:,}", f"{cost.seconds:,.1f}")
    return table


def _cost_line(analysis: Analysis) -> str:
    cost = analysis.cost
    if cost.complete_seconds is None:
        return "No trial completed, so the cost of one is unknown."
    return (
        f"A complete trial takes {cost.complete_seconds:.1f} s; with the time of all others, it is "
        f"{cost.seconds_per_complete:.1f} s per complete trial."
    )


def _box_table(rounds: Sequence[Round]) -> Table | str:
    if not rounds:
        return "How the box moved: it did not, since there was one round."
    table = _table(
        "How the box moved", "round", "by", "knob", "move", "from", "to", "why", "trials"
    )
    for this in rounds:
        head = (str(this.number), printable(this.author))
        if not this.moves:
            table.add_row(*head, "", "none", "", "", "", "")
        for move in this.moves:
            words = (move.knob, move.kind, _range(move.old), _range(move.new), move.statistic)
            table.add_row(*head, *map(printable, words), ", ".join(map(printable, move.trial_ids)))
    return table


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", caption_justify="left")


def _range(a_range: Range) -> str:
    if isinstance(a_range, Choice):
        return " | ".join(map(_number, a_range.options))
    return f"{_number(a_range.low)} to {_number(a_range.high)}"


def _interval(interval: tuple[float, float], style: str = ".4g") -> str:
    return f"{interval[0]:{style}} to {interval[1]:{style}}"


def _number(value: KnobValue | None) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else printable(str(value))


if __name__ == "__main__":
    app()
