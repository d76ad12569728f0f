"""The head of a report: the question of the sweep and its result, as far as it is known."""

from html import escape

from tuning.comparison import Comparison
from tuning.plan import SweepPlan
from tuning.report.parts import (
    breakable,
    mark,
    number,
    strip,
    table,
    text_cell,
    whisker,
    with_interval,
)
from tuning.report.scale import scale_of
from tuning.spaces.ranges import range_text
from tuning.table.trial import Trial

_WINNER = '<circle class="mark winner" r="5.5"/>'
_OTHER = '<circle class="mark" r="4.5"/>'


def asked(plan: SweepPlan, num_trials: int) -> str:
    """The question of a sweep in two sentences.

    Args:
        plan: The plan of the sweep.
        num_trials: Number of rows so far.
    """
    fresh = ""
    if plan.num_fresh_seeds:
        fresh = f", then {_seeds(plan.num_fresh_seeds, 'fresh ')} of the winner and of the default"
    rounds = f" in {plan.rounds} rounds" if plan.rounds > 1 else ""
    return (
        f'<p class="asked"><b>Asked:</b> which settings of <b>{escape(plan.method)}</b>, trained '
        f"by <b>{escape(plan.algorithm)}</b> on <b>{escape(plan.task)}</b>, give the highest "
        f"return after adaptation to held-out tasks? The plan: {plan.num_samples} trials"
        f"{rounds} of {plan.max_env_steps:,} env steps and {_seeds(plan.seeds_per_trial)} "
        f"each, from seed {plan.seed} on, chosen by {escape(plan.searcher)}{fresh}; "
        f"{num_trials} {'has' if num_trials == 1 else 'have'} ended.</p>"
    )


def found(
    plan: SweepPlan,
    best: Trial | None,
    comparison: Comparison | None,
    bound: float | None,
    unjudged: str,
) -> str:
    """The winner, its comparison with the default, and the best return without adaptation.

    Args:
        plan: The plan of the sweep.
        best: The sweep's winner; None if there is none.
        comparison: Winner against default on fresh tasks; None if it was not made.
        bound: The best return without adaptation; None if that is not known.
        unjudged: Why there is no comparison; may be empty.
    """
    if bound is None:
        limit = "<p>The best return without adaptation is not known for this task.</p>"
    else:
        limit = f"<p>A policy that does not adapt reaches at most about {number(bound)}.</p>"
    if best is None:
        return f'<p class="score">No trial completed, so there is no winner.</p>{limit}'
    name = f"Winner, trial <b>{escape(best.trial_id)}</b>"
    low, high = best.interval or (None, None)
    if comparison is None:
        why = f" {escape(unjudged)}." if unjudged else ""
        head = f"{name}: return after adaptation <b>{with_interval(best.score, low, high)}</b>"
        parts = [_score(head), f"<p>Winner and default were not compared on fresh tasks.{why}</p>"]
        return "\n".join([*parts, limit, _too_good(), _knobs(plan, best)])
    own = with_interval(comparison.best_mean, comparison.best_low, comparison.best_high)
    head = f"{name}: return <b>{own}</b> on {comparison.num_tasks} fresh held-out tasks"
    parts = [
        _score(head),
        f'<p class="verdict">{escape(comparison.verdict)}</p>',
        limit,
        _strips(comparison),
        _note(best, comparison),
        "" if comparison.num_seeds else _too_good(),
        _knobs(plan, best),
    ]
    return "\n".join(part for part in parts if part)


def _seeds(count: int, kind: str = "") -> str:
    return f"{count} {kind}{'seed' if count == 1 else 'seeds'}"


def _score(head: str) -> str:
    return f'<p class="score">{head}.</p>'


def _too_good() -> str:
    return (
        '<p class="note">The score of the best of several trials is too high on average, because '
        "the trial was chosen for that score.</p>"
    )


def _strips(c: Comparison) -> str:
    """The known returns of winner and default, each with its name, on one axis."""
    named = [
        ("winner", c.best_mean, c.best_low, c.best_high),
        ("default", c.default_mean, None, None),
        ("switched off", c.switched_off_mean, None, None),
        ("best blind return", c.blind_return, None, None),
    ]
    known = [entry for entry in named if entry[1] is not None]
    places = scale_of([v for _, *values in known for v in values if v is not None]).place
    lines = []
    for name, value, low, high in known:
        assert value is not None
        drawing = '<line class="grid" x1="0" x2="100%" y1="10" y2="10"/>'
        if low is not None and high is not None:
            drawing += whisker(places(low), places(high))
        is_winner = name == "winner"
        drawing += mark(places(value), 50.0, _WINNER if is_winner else _OTHER)
        if c.blind_return is not None:
            at = f"{places(c.blind_return):.2f}%"
            drawing += f'<line class="line bound" x1="{at}" x2="{at}" y1="-4" y2="24"/>'
        number_of = with_interval(value, low, high)
        lines.append(strip(name, number_of, drawing, "best" if is_winner else ""))
    if c.difference is not None:
        lines.append(strip("difference", with_interval(c.difference, c.low, c.high), ""))
    return f'<ul class="strips">{"".join(lines)}</ul>'


def _note(best: Trial, c: Comparison) -> str:
    seeds = f"{c.num_best_seeds} fresh training seeds of the winner"
    if c.num_default_seeds:
        seeds += f" and {c.num_default_seeds} of the default"
    words = [
        f"Intervals are at 95 % over {seeds}; the interval of the difference is at {c.level:.0%}.",
        "Switched off: the return of the winner's own weights without adaptation."
        if c.switched_off_mean is not None
        else "",
        "Best blind return (dashed): the return of the best policy without adaptation on exactly "
        "these tasks."
        if c.blind_return is not None
        else "",
        ""
        if best.score is None
        else f"In the sweep, trial {best.trial_id} scored {best.score:.4g}"
        " on other held-out tasks.",
    ]
    return f'<p class="note">{escape(" ".join(word for word in words if word))}</p>'


def _knobs(plan: SweepPlan, best: Trial) -> str:
    """A table of the winner's knobs next to the default's."""
    ranges, default = plan.space().ranges, plan.space().default_point()
    lines = [
        f'<tr><th scope="row">{breakable(knob)}</th><td><b>{number(value)}</b></td>'
        f"<td>{number(default.get(knob))}</td>"
        + text_cell(range_text(ranges[knob]) if knob in ranges else "")
        + "</tr>"
        for knob, value in best.knobs.items()
    ]
    head = ["knob", "winner", "default", "searched at first"]
    return table("knobs of the winner", head, lines, words=head[3:])
