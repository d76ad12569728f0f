"""One self-contained page about a sweep: what won, how sure that is, and how it was found."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ssmrl.files import replace_file
from tuning.comparison import Comparison
from tuning.importance import importance
from tuning.report_boxes import boxes_section
from tuning.report_parts import image, number
from tuning.round_log import Round
from tuning.space import SearchSpace
from tuning.trial import Trial, TrialState, TrialTable

_MARKERS = {
    TrialState.COMPLETE: ("o", "tab:blue"),
    TrialState.PRUNED: ("v", "tab:orange"),
    TrialState.DIVERGED: ("x", "tab:red"),
    TrialState.FAILED: ("X", "tab:red"),
    TrialState.OOM: ("s", "tab:red"),
    TrialState.HUNG: ("D", "tab:red"),
}

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child, td.text { text-align: left; }
tr.best { background: #e8f3e8; font-weight: 600; }
.scroll { overflow-x: auto; } .note { color: #666; } .score { font-size: 1.3rem; }
img { max-width: 100%; height: auto; }
pre { background: #f5f5f5; padding: .6rem; overflow-x: auto; }
"""


def write_report(
    path: Path,
    *,
    title: str,
    table: TrialTable,
    best: Trial | None,
    space: SearchSpace,
    max_env_steps: int,
    bound: float | None,
    comparison: Comparison | None,
    command: str,
    rounds: Sequence[Round] = (),
) -> None:
    """Writes the page; a reader never finds half of it.

    Args:
        path: The HTML file. It holds its figures and needs no network.
        title: What was swept.
        table: The rows.
        best: The trial that the sweep names, None if there is none.
        space: Where the last round searched: the importance is that of its knobs.
        max_env_steps: Budget of a trial [env steps].
        bound: The best return that a policy reaches without adapting, None if it is not known.
        comparison: Best against default on fresh held-out tasks, None if it was not made.
        command: The command line that repeats the sweep.
        rounds: Where each round searched, and why; none if the space was not to move.

    Raises:
        OSError: If the file cannot be written.
    """
    rows = sorted(table.rows, key=lambda trial: trial.number)
    sections = [
        f"<h1>{escape(title)}</h1>",
        _headline(rows, best, max_env_steps, is_judged=bool(comparison and comparison.num_seeds)),
        _judgement(comparison, bound),
        "<h2>Score by trial</h2>",
        _history(rows),
        "<h2>Importance of the knobs</h2>",
        _importance(rows, space),
        *(("<h2>How the box moved</h2>", boxes_section(rounds, rows)) if rounds else ()),
        "<h2>Learning curves</h2>",
        _curves(rows, best, bound),
        "<h2>All trials</h2>",
        _trials(rows, best),
        "<h2>Command</h2>",
        f"<pre>{escape(command)}</pre>",
    ]
    body = "\n".join(sections)
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )
    replace_file(path, page)


def _headline(
    rows: Sequence[Trial], best: Trial | None, max_env_steps: int, *, is_judged: bool
) -> str:
    states = [trial.state for trial in rows]
    counts = ", ".join(f"{states.count(s)} {s}" for s in TrialState if s in states) or "none"
    steps = sum(trial.env_steps for trial in rows)
    note = (
        f'<p class="note">Trials: {counts}. Budget of a trial: {max_env_steps:,} env steps; '
        f"all took {steps:,} env steps and {sum(trial.seconds for trial in rows):,.0f} s.</p>"
    )
    if best is None:
        return "<p>No trial completed, so there is no best one.</p>" + note
    interval = ""
    if best.interval is not None:
        interval = f" [{number(best.interval[0])}, {number(best.interval[1])}] (95 % interval)"
    knobs = "".join(
        f'<tr><td class="text">{escape(knob)}</td><td>{number(value)}</td></tr>'
        for knob, value in best.knobs.items()
    )
    if not is_judged:
        note = (
            '<p class="note">The score of the best of several trials is too good on average: it '
            f"was chosen for it.</p>{note}"
        )
    return (
        f'<p class="score">Winner, trial <b>{escape(best.trial_id)}</b>: return after adaptation '
        f"<b>{number(best.score)}</b>{interval}</p>\n"
        f"<table>{knobs}</table>\n{note}"
    )


def _judgement(comparison: Comparison | None, bound: float | None) -> str:
    if bound is None:
        limit = "<p>The best return without adaptation is not known for this task.</p>"
    else:
        limit = f"<p>A policy that does not adapt reaches at most about {number(bound)}.</p>"
    if comparison is None:
        return "<p>Best and default were not compared on fresh tasks.</p>" + limit
    return (
        f"<p><b>{escape(comparison.verdict)}</b> On {comparison.num_tasks} fresh held-out tasks: "
        f"{'; '.join(_numbers(comparison))}. Intervals are over {comparison.num_seeds} training "
        f"seeds, of 95 %, that of a difference of {comparison.level:.0%}.</p>{limit}"
    )


def _numbers(c: Comparison) -> list[str]:
    """What is known of winner and default, each with its name."""
    named = [
        ("winner", c.best_mean, c.best_low, c.best_high),
        ("switched off", c.switched_off_mean, None, None),
        ("best blind return", c.blind_return, None, None),
        ("default", c.default_mean, None, None),
        ("difference", c.difference, c.low, c.high),
    ]
    return [
        f"{name} {number(value)}"
        + ("" if low is None or high is None else f" [{number(low)}, {number(high)}]")
        for name, value, low, high in named
        if value is not None
    ]


def _history(rows: Sequence[Trial]) -> str:
    if not any(trial.score is not None for trial in rows):
        return "<p>No trial has a score.</p>"

    def draw(axes: Axes) -> None:
        for state, (marker, color) in _MARKERS.items():
            of_state = [t for t in rows if t.state is state]
            scored = [(t.number, t.score) for t in of_state if t.score is not None]
            if scored:
                axes.scatter(*zip(*scored, strict=True), marker=marker, color=color, label=state)
            without = [t.number for t in of_state if t.score is None]
            if without:  # at the lower edge: they have no score, but they happened
                axes.scatter(
                    without,
                    [0.02] * len(without),
                    marker=marker,
                    color=color,
                    label=f"{state} (no score)",
                    transform=axes.get_xaxis_transform(),
                )
        numbers, running_best = _running_best(rows)
        axes.step(numbers, running_best, where="post", color="black", lw=1, label="best so far")
        axes.set(xlabel="trial", ylabel="return after adaptation")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=8)

    return image(draw, "score of each trial in order, and the best so far")


def _running_best(rows: Sequence[Trial]) -> tuple[list[int], list[float]]:
    complete = [t for t in rows if t.state is TrialState.COMPLETE and t.score is not None]
    numbers: list[int] = []
    best: list[float] = []
    for trial in complete:
        assert trial.score is not None
        numbers.append(trial.number)
        best.append(max(trial.score, *best[-1:]) if best else trial.score)
    if numbers:
        numbers.append(rows[-1].number)
        best.append(best[-1])
    return numbers, best


def _importance(rows: Sequence[Trial], space: SearchSpace) -> str:
    results = importance(rows, space, seed=0)
    known = [
        (result.knob, result.share, *result.interval)
        for result in results[::-1]
        if result.share is not None and result.interval is not None
    ]
    unknown = "".join(
        f"<li>{escape(result.knob)}: {escape(result.reason)}</li>"
        for result in results
        if result.share is None
    )
    missing = f"<p>Not computed:</p><ul>{unknown}</ul>" if unknown else ""
    if not known:
        return missing
    knobs, shares, lows, highs = zip(*known, strict=True)

    def draw(axes: Axes) -> None:
        errors = (
            [share - low for share, low in zip(shares, lows, strict=True)],
            [high - share for share, high in zip(shares, highs, strict=True)],
        )
        axes.barh(knobs, shares, xerr=errors, color="tab:blue", ecolor="0.3", capsize=3)
        axes.set(xlabel="share of importance (PED-ANOVA), 95 % of resampled ones", xlim=(0, 1.05))

    return image(draw, "importance of each knob") + missing


def _curves(rows: Sequence[Trial], best: Trial | None, bound: float | None) -> str:
    if not any(trial.curve for trial in rows):
        return "<p>No trial was evaluated.</p>"

    def draw(axes: Axes) -> None:
        for trial in rows:
            if not trial.curve:
                continue
            is_best = best is not None and trial.trial_id == best.trial_id
            steps, before, after = zip(*trial.curve, strict=True)
            marker = "." if len(steps) == 1 or is_best else ""
            if is_best:
                label = f"{trial.trial_id} after adaptation (winner)"
                axes.plot(steps, after, color="tab:green", lw=2.5, marker=marker, label=label)
                label = f"{trial.trial_id} before adaptation"
                axes.plot(steps, before, color="tab:green", lw=1, ls=":", label=label)
            else:
                axes.plot(steps, after, color="0.7", lw=1, marker=marker, zorder=1)
        if bound is not None:
            axes.axhline(bound, color="black", lw=1, ls="--", label="bound without adaptation")
        axes.set(xlabel="env steps", ylabel="return on held-out tasks")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)

    return image(draw, "return after adaptation against env steps, every trial")


def _trials(rows: Sequence[Trial], best: Trial | None) -> str:
    knobs = list(dict.fromkeys(knob for trial in rows for knob in trial.knobs))
    head = ["trial", "state", "score", "95 % interval", *knobs, "env steps", "time [s]", "reason"]
    lines = [f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>"]
    for trial in rows:
        interval = "" if trial.interval is None else "{} – {}".format(*map(number, trial.interval))
        cells = [
            escape(trial.trial_id),
            trial.state.value,
            number(trial.score),
            interval,
            *(number(trial.knobs.get(knob)) for knob in knobs),
            f"{trial.env_steps:,}",
            f"{trial.seconds:.1f}",
        ]
        is_best = best is not None and trial.trial_id == best.trial_id
        text = "".join(f"<td>{cell}</td>" for cell in cells)
        text += f'<td class="text">{escape(trial.reason)}</td>'
        lines.append(f'<tr class="best">{text}</tr>' if is_best else f"<tr>{text}</tr>")
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"
