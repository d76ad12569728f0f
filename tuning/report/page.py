"""One self-contained page about a sweep: the winner, its uncertainty, and how it was found."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ssmrl.files import replace_file
from tuning.comparison import Comparison
from tuning.plan import SweepPlan
from tuning.report.boxes import boxes_section
from tuning.report.curves import curves, history
from tuning.report.found import asked, found
from tuning.report.knobs import importance_section, parallel
from tuning.report.parts import section
from tuning.report.style import STYLE
from tuning.report.trials import all_trials, costs, failures
from tuning.spaces.space import SearchSpace
from tuning.table.round_log import Round
from tuning.table.trial import Trial, TrialTable

# The page loads nothing and runs no scripts, whatever an inserted text contains.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_report(
    path: Path,
    *,
    title: str,
    plan: SweepPlan,
    table: TrialTable,
    best: Trial | None,
    space: SearchSpace,
    bound: float | None,
    comparison: Comparison | None,
    command: str,
    rounds: Sequence[Round] = (),
    unjudged: str = "",
    going_on: Sequence[tuple[str, str]] = (),
    made_with: Mapping[str, Any] | None = None,
) -> None:
    """Writes the page atomically: a reader never finds half of it.

    Args:
        path: The HTML file. It holds its figures and needs no network.
        title: Title of the page: what was swept.
        plan: The plan of the sweep.
        table: The rows.
        best: The sweep's winner; None if there is none.
        space: The space of the last round; importance is computed for its knobs.
        bound: The best return without adaptation; None if it is not known.
        comparison: Winner against default on fresh held-out tasks; None if it was not made.
        command: The command line that repeats the sweep; empty if it is not known.
        rounds: The rounds with their spaces and moves; empty if the space was not to move.
        unjudged: Why there is no comparison; may be empty.
        going_on: Possible next steps, each in words and as a command line.
        made_with: Versions and machine behind the results, the content of ``device.json``.

    Raises:
        OSError: If the file cannot be written.
    """
    rows = sorted(table.rows, key=lambda trial: trial.number)
    spaces = [plan.space(), *(this.space for this in rounds), space]
    moves = "how the box moved"
    parts = {
        "found": ("What was found", found(plan, best, comparison, bound, unjudged)),
        "curves": ("Learning curves", curves(rows, best, bound)),
        "history": ("Score by trial", history(rows, best)),
        "knobs": ("Knobs and scores", parallel(rows, best, spaces)),
        "importance": ("Importance of the knobs", importance_section(rows, space)),
        "moves": (moves.capitalize(), boxes_section(rounds, rows) if rounds else ""),
        "failures": ("Failures", failures(rows)),
        "cost": ("Cost", costs(rows, plan)),
        "trials": ("All trials", all_trials(rows, best)),
        "next": ("Next steps", _going_on([*going_on, ("Repeat this sweep", command)])),
        "made": ("Versions and machine", _made_with(made_with or {})),
    }
    kept = {name: part for name, part in parts.items() if part[1]}
    drawn = {name: section(name, *part) for name, part in kept.items()}
    side_by_side = drawn.pop("curves") + drawn.pop("history")
    contents = "".join(f'<li><a href="#{n}">{escape(p[0])}</a></li>' for n, p in kept.items())
    body = [
        '<p class="kind">Sweep</p>',
        f"<h1>{escape(title)}</h1>",
        asked(plan, len(rows)),
        f'<nav aria-label="sections"><ul>{contents}</ul></nav>',
        drawn.pop("found"),
        f'<div class="columns">{side_by_side}</div>',
        *drawn.values(),
    ]
    replace_file(path, _page(title, "\n".join(body)))


def _page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main></body>\n</html>\n"
    )


def _going_on(commands: Sequence[tuple[str, str]]) -> str:
    entries = "".join(
        f"<dt>{escape(words)}</dt><dd><pre>{escape(command)}</pre></dd>"
        for words, command in commands
        if command
    )
    return f"<dl>{entries}</dl>"


def _made_with(told: Mapping[str, Any]) -> str:
    """The commit, the versions and the machine, as far as they were recorded."""
    made = told.get("made_with")
    if not isinstance(made, Mapping):
        return "<p>This was not written down.</p>"
    packages = made.get("packages")
    packages = packages if isinstance(packages, Mapping) else {}
    words = [
        f"ssmrl {made.get('ssmrl')}",
        f"commit {made.get('commit') or 'not known'}",
        f"Python {made.get('python')}",
        *(f"{name} {version}" for name, version in packages.items()),
        f"{made.get('processor')}, {made.get('cores')} cores",
        f"{made.get('system')}",
        f"networks on {told.get('gpu') or told.get('device') or 'a device that is not known'}",
    ]
    return f"<p>{escape('; '.join(words))}.</p>"
