"""The report sections on returns: the learning curves, and the scores of the trials in order."""

from collections.abc import Sequence

from tuning.report.parts import chart, dash, legend, lines_layer, mark, shape
from tuning.report.scale import Scale, scale_of
from tuning.table.trial import Trial, TrialState

_MANY = 200
_WINNER = '<circle class="mark winner" r="5"/>'
_FAINT = '<circle class="mark faint" r="2.5"/>'


def curves(rows: Sequence[Trial], best: Trial | None, bound: float | None) -> str:
    """The return of every trial against its env steps, with the best return without adaptation.

    Args:
        rows: The trials.
        best: The trial to highlight.
        bound: The best return without adaptation; None if it is not known.
    """
    drawn = [trial for trial in rows if trial.curve and trial is not best]
    left_out = max(0, len(drawn) - _MANY)
    drawn = sorted(drawn, key=lambda trial: -trial.curve[-1][2])[:_MANY]
    winner = [] if best is None or not best.curve else [best]
    if not drawn and not winner:
        return "<p>No trial was evaluated.</p>"
    returns = [after for trial in [*drawn, *winner] for _, _, after in trial.curve]
    returns += [before for trial in winner for _, before, _ in trial.curve]
    y = scale_of([*returns, *([] if bound is None else [bound])])
    x = Scale(0.0, float(max(trial.curve[-1][0] for trial in [*drawn, *winner]) or 1))
    lines = [(_points(trial, x, y, 2), "") for trial in drawn]
    marks = [mark(*p, _FAINT, t.trial_id) for t in drawn for p in _points(t, x, y, 2)[-1:]]
    signs = [(dash(""), "other trials, after adaptation")] if drawn else []
    if bound is not None:
        level = 100.0 - y.place(bound)
        lines.append(([(0.0, level), (100.0, level)], "bound"))
        signs.append((dash("bound"), "bound without adaptation"))
    for trial in winner:
        lines += [(_points(trial, x, y, 1), "before"), (_points(trial, x, y, 2), "winner")]
        marks += [mark(*p, _WINNER, trial.trial_id) for p in _points(trial, x, y, 2)[-1:]]
        signs = [
            (dash("winner"), f"{trial.trial_id} after adaptation (winner)"),
            (dash("before"), "the same trial before adaptation"),
            *signs,
        ]
    note = f'<p class="note">The {left_out} lowest trials are not drawn.</p>' if left_out else ""
    return note + chart(
        "return after adaptation against env steps, every trial",
        x=x,
        y=y,
        names=("env steps", "return on held-out tasks"),
        content=lines_layer(lines) + "".join(marks),
        signs=legend(*signs),
    )


def _points(trial: Trial, x: Scale, y: Scale, which: int) -> list[tuple[float, float]]:
    return [(x.place(float(row[0])), 100.0 - y.place(row[which])) for row in trial.curve]


def history(rows: Sequence[Trial], best: Trial | None) -> str:
    """The score of each trial in order, how each ended, and the best so far.

    Args:
        rows: The trials by number.
        best: The trial to highlight.
    """
    scores = [trial.score for trial in rows if trial.score is not None]
    if not scores:
        return "<p>No trial has a score.</p>"
    y, last = scale_of(scores), max(1, rows[-1].number)
    x = Scale(-0.5, last + 0.5)
    marks = []
    for trial in rows:
        place = x.place(float(trial.number))
        # A trial without a score is drawn at the lower edge, so that it is not forgotten.
        height = 97.0 if trial.score is None else 100.0 - y.place(trial.score)
        said = "no score" if trial.score is None else f"{trial.score:.4g}"
        is_best = best is not None and trial.trial_id == best.trial_id
        sign = _WINNER if is_best else shape(trial.state)
        marks.append(mark(place, height, sign, f"{trial.trial_id} {trial.state.value}: {said}"))
    line = [(x.place(float(at)), 100.0 - y.place(value)) for at, value in _best_so_far(rows)]
    used = [state for state in TrialState if any(trial.state is state for trial in rows)]
    signs = [(shape(state), _meaning(state, rows)) for state in used]
    if best is not None:
        signs.insert(0, (_WINNER, "winner"))
    if line:
        signs.append((dash("sofar"), "best so far"))
    return chart(
        "score of each trial in order, and the best so far",
        x=x,
        y=y,
        names=("trial", "return after adaptation"),
        content=lines_layer([(line, "sofar")] if line else []) + "".join(marks),
        signs=legend(*signs),
        whole=True,
    )


def _meaning(state: TrialState, rows: Sequence[Trial]) -> str:
    scored = any(t.score is not None for t in rows if t.state is state)
    return state.value if scored else f"{state.value} (no score)"


def _best_so_far(rows: Sequence[Trial]) -> list[tuple[int, float]]:
    """The corner points of the staircase line of best scores."""
    corners: list[tuple[int, float]] = []
    for trial in rows:
        if trial.state is not TrialState.COMPLETE or trial.score is None:
            continue
        if corners and trial.score <= corners[-1][1]:
            continue
        if corners:
            corners.append((trial.number, corners[-1][1]))
        corners.append((trial.number, trial.score))
    return [*corners, (rows[-1].number, corners[-1][1])] if corners else []
