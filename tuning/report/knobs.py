"""The report sections on the knobs: their values and score in each trial, and their importance."""

import re
from collections.abc import Callable, Sequence
from html import escape

from tuning.importance import importance
from tuning.report.parts import dash, legend, lines_layer, short, strip, whisker, with_interval
from tuning.report.scale import KnobAxis, knob_axis, scale_of
from tuning.spaces.ranges import Range
from tuning.spaces.space import SearchSpace
from tuning.table.trial import Trial

_ROW, _LINE_AT, _LINE = 80, 38, 14  # heights [pixels]
_LONG = 28  # longest line of a name that fits on a phone [characters]
_NUM_COLOURS = 6
_SCORE = "score"


def parallel(rows: Sequence[Trial], best: Trial | None, spaces: Sequence[SearchSpace]) -> str:
    """Each trial as one line across an axis for every knob, coloured by its score.

    The axes are horizontal, one below the other, so that a phone has room for any number of them.

    Args:
        rows: The trials.
        best: The trial to highlight.
        spaces: The search spaces of all rounds.
    """
    knobs = dict.fromkeys(knob for trial in rows for knob in trial.knobs)
    if not knobs:
        return "<p>No trial has a knob.</p>"
    axes = []
    for knob in knobs:
        ranges: list[Range] = [s.ranges[knob] for s in spaces if knob in s.ranges]
        axes.append(knob_axis(knob, ranges, [t.knobs[knob] for t in rows if knob in t.knobs]))
    scores = [trial.score for trial in rows if trial.score is not None]
    if scores:
        axes.append(KnobAxis(_SCORE, scale_of(scores, margin=0.0)))
    lines = [_line(trial, axes, best) for trial in sorted(rows, key=_drawn_before(best))]
    height = _ROW * len(axes)
    content = "".join(_axis(axis, index) for index, axis in enumerate(axes))
    drawn = lines_layer([line for line in lines if len(line[0]) > 1])
    svg = (
        f'<svg class="parallel" height="{height}" role="img" aria-label="the knobs and the score '
        f'of each trial, one line per trial">{drawn}{content}</svg>'
    )
    return f'<figure class="chart">{svg}{_ramp(scores)}{_signs(rows, best)}</figure>'


def _drawn_before(best: Trial | None) -> Callable[[Trial], tuple[bool, bool, float]]:
    """Sort key that draws better trials later, and so on top."""

    def key(trial: Trial) -> tuple[bool, bool, float]:
        is_best = best is not None and trial.trial_id == best.trial_id
        return is_best, trial.score is not None, trial.score or 0.0

    return key


def _line(
    trial: Trial, axes: Sequence[KnobAxis], best: Trial | None
) -> tuple[list[tuple[float, float]], str]:
    points = []
    for index, axis in enumerate(axes):
        value = trial.score if axis.knob == _SCORE else trial.knobs.get(axis.knob)
        if value is not None:
            height = 100.0 * (index * _ROW + _LINE_AT) / (_ROW * len(axes))
            points.append((axis.place(value), height))
    if best is not None and trial.trial_id == best.trial_id:
        return points, "winner"
    if trial.score is None:
        return points, "lost"
    return points, f"s{min(_NUM_COLOURS - 1, int(axes[-1].place(trial.score) * 0.06))}"


def _axis(axis: KnobAxis, index: int) -> str:
    at = index * _ROW + _LINE_AT
    parts = [
        f'<line class="base" x1="0" x2="100%" y1="{at}" y2="{at}"/>',
        *(
            f'<text class="knob" x="0" y="{at - 12 - _LINE * above}">{escape(words)}</text>'
            for above, words in enumerate(reversed(_broken(axis.knob)))
        ),
    ]
    for place, words, anchor, line in axis.labels():
        below = at + 16 + _LINE * line
        parts.append(
            f'<line class="base" x1="{place:.2f}%" x2="{place:.2f}%" y1="{at - 4}" y2="{at + 4}"/>'
            f'<text x="{place:.2f}%" y="{below}" text-anchor="{anchor}">{escape(words)}</text>'
        )
    return "".join(parts)


def _broken(name: str) -> list[str]:
    """A name split into lines that fit on a phone, broken after a dot or between words.

    Example:
        >>> _broken("meta.inference_updates_per_meta_episode")
        ['meta.inference_updates_per_', 'meta_episode']
    """
    lines = [""]
    for part in re.findall(r"[^._]*[._]?", name):
        if len(lines[-1]) + len(part) > _LONG and lines[-1]:
            lines.append("")
        lines[-1] += part
    return lines


def _ramp(scores: Sequence[float]) -> str:
    if not scores:
        return ""
    colours = "".join(f'<i class="s{number}"></i>' for number in range(_NUM_COLOURS))
    low, high = (short(float(f"{end:.4g}")) for end in (min(scores), max(scores)))
    return (
        f'<ul class="legend"><li>score {low}<span class="ramp" aria-hidden="true">{colours}</span>'
        f"{high}</li></ul>"
    )


def _signs(rows: Sequence[Trial], best: Trial | None) -> str:
    signs = [] if best is None else [(dash("winner"), f"winner, {best.trial_id}")]
    if any(trial.score is None for trial in rows):
        signs.append((dash("lost"), "trials without a score"))
    return legend(*signs) if signs else ""


def importance_section(rows: Sequence[Trial], space: SearchSpace) -> str:
    """The importance share of each knob, or why it is not known.

    Args:
        rows: The trials.
        space: The space with the knobs to rate.
    """
    results = importance(rows, space, seed=0)
    lines = []
    for result in results:
        if result.share is None or result.interval is None:
            continue
        low, high = result.interval
        bar = f'<rect class="bar" x="0" y="3" width="{100 * result.share:.2f}%" height="14"/>'
        drawing = bar + whisker(100.0 * low, 100.0 * high)
        lines.append(strip(result.knob, with_interval(result.share, low, high, ".2f"), drawing))
    unknown = "".join(
        f"<li>{escape(result.knob)}: {escape(result.reason)}</li>"
        for result in results
        if result.share is None
    )
    missing = f"<p>Not computed:</p><ul>{unknown}</ul>" if unknown else ""
    if not lines:
        return missing
    note = (
        '<p class="note">Importance by PED-ANOVA: how much a knob explains of being among the best '
        "trials, as a share of all knobs, with the range of 95 % of resampled shares. Even a knob "
        "without influence has a small share.</p>"
    )
    return f'{note}<ul class="strips">{"".join(lines)}</ul>{missing}'
