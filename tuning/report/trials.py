"""The report sections on the trials: failures, costs, and the table of all trials."""

from collections.abc import Sequence
from html import escape

from tuning.analysis import cost
from tuning.plan import SweepPlan
from tuning.report.parts import number, table, text_cell
from tuning.table.trial import FAILURES, Trial, TrialState

_MANY = 20
_ORDER = (*FAILURES, TrialState.PRUNED)


def failures(rows: Sequence[Trial]) -> str:
    """How the trials ended, and why some did not complete, failures first.

    Args:
        rows: The trials by number.
    """
    states = [trial.state for trial in rows]
    counts = ", ".join(f"{states.count(s)} {s}" for s in TrialState if s in states) or "none"
    said = f"<p>Trials: {counts}.</p>"
    causes: dict[tuple[TrialState, str], list[str]] = {}
    for trial in rows:
        if trial.state is not TrialState.COMPLETE:
            causes.setdefault((trial.state, trial.reason), []).append(trial.trial_id)
    if not causes:
        return f"{said}<p>Every trial completed.</p>" if rows else said
    shown = sorted(causes.items(), key=lambda cause: _ORDER.index(cause[0][0]))
    items = "".join(
        f"<li><p><b>{state.value}</b>, {_count(names)}: {escape(_some(names))}</p>"
        f'<p class="note">{escape(reason)}</p></li>'
        for (state, reason), names in shown[:_MANY]
    )
    left = len(shown) - _MANY
    more = f'<p class="note">{left} more causes are in the table below.</p>' if left > 0 else ""
    return f'{said}<ul class="causes">{items}</ul>{more}'


def _some(names: Sequence[str]) -> str:
    others = f" and {len(names) - _MANY} others" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + others


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} {'trial' if len(names) == 1 else 'trials'}"


def costs(rows: Sequence[Trial], plan: SweepPlan) -> str:
    """Env steps, time, CPUs and memory, in total and by how trials ended.

    Args:
        rows: The trials.
        plan: The plan of the sweep, with the resources of each trial.
    """
    spent, cpus = cost(rows), plan.cpus_per_trial()
    words = [
        f"All trials took {spent.env_steps:,} env steps and, added up, {spent.seconds:,.0f} s of "
        f"training and evaluation; each had {cpus:g} CPU{'' if cpus == 1 else 's'}, and up to "
        f"{plan.max_concurrent} {'was' if plan.max_concurrent == 1 else 'were'} running at once."
    ]
    if spent.complete_seconds is not None:
        words.append(
            f"A complete trial took {spent.complete_seconds:,.1f} s on average; counting the "
            f"others, the sweep spent {spent.seconds_per_complete:,.1f} s per complete trial."
        )
    most = max(rows, key=lambda trial: trial.peak_bytes, default=None)
    if most is not None and most.peak_bytes:
        words.append(
            f"The largest peak memory of a trial was {_megabytes(most)} MB ({most.trial_id})."
        )
    lines = []
    for part in spent.states:
        held = [trial.peak_bytes for trial in rows if trial.state is part.state]
        lines.append(
            f'<tr><th scope="row">{part.state.value}</th><td>{part.num_trials}</td>'
            f"<td>{part.env_steps:,}</td><td>{part.seconds:,.0f}</td>"
            f"<td>{part.seconds * cpus:,.0f}</td><td>{part.seconds / part.num_trials:,.1f}</td>"
            f"<td>{f'{max(held) / 1e6:,.0f}' if max(held) else ''}</td></tr>"
        )
    head = ["how it ended", "trials", "env steps", "time [s]", "reserved CPU time [s]"]
    head += ["time per trial [s]", "peak memory [MB]"]
    said = f"<p>{escape(' '.join(words))}</p>"
    return said + (table("cost by how trials ended", head, lines) if lines else "")


def all_trials(rows: Sequence[Trial], best: Trial | None) -> str:
    """Every row with its knobs, the winner marked.

    Args:
        rows: The trials by number.
        best: The trial to highlight.
    """
    knobs = list(dict.fromkeys(knob for trial in rows for knob in trial.knobs))
    head = ["trial", "state", "score", "95 % interval", *knobs, "env steps", "time [s]"]
    head += ["peak memory [MB]", "reason"]
    lines = []
    for trial in rows:
        interval = "" if trial.interval is None else "{} – {}".format(*map(number, trial.interval))
        cells = [
            trial.state.value,
            number(trial.score),
            interval,
            *(number(trial.knobs.get(knob)) for knob in knobs),
            f"{trial.env_steps:,}",
            f"{trial.seconds:.1f}",
            _megabytes(trial),
        ]
        is_best = best is not None and trial.trial_id == best.trial_id
        text = f'<th scope="row">{escape(trial.trial_id)}</th>'
        text += "".join(f"<td>{cell}</td>" for cell in cells) + text_cell(trial.reason)
        lines.append(f'<tr class="best">{text}</tr>' if is_best else f"<tr>{text}</tr>")
    return f'<div class="wide">{table("all trials", head, lines, words=["reason"])}</div>'


def _megabytes(trial: Trial) -> str:
    return f"{trial.peak_bytes / 1e6:,.0f}" if trial.peak_bytes else ""
