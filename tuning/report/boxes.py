"""The report section on how the search space moved between the rounds of a sweep, and why."""

from collections.abc import Sequence
from html import escape

from ssmrl.config import KnobValue
from tuning.report.parts import breakable, mark, number, table, text_cell
from tuning.report.scale import KnobAxis, knob_axis
from tuning.spaces.ranges import Choice, Range
from tuning.table.ranking import ranking
from tuning.table.round_log import Round
from tuning.table.trial import Trial

_ROW, _LINE = 22, 14  # heights [pixels]
_DOT = '<circle class="mark winner" r="5"/>'


def boxes_section(rounds: Sequence[Round], rows: Sequence[Trial]) -> str:
    """HTML with the range of each knob over the rounds, the incumbent, and the reason of each move.

    Args:
        rounds: The rounds in order, at least one.
        rows: The trials. The incumbent of a round is the best of its own and all earlier trials.
    """
    incumbents = [_incumbent(rows, this.number) for this in rounds]
    knobs = dict.fromkeys(knob for this in rounds for knob in this.space.ranges)
    figures = [_figure(knob, rounds, incumbents) for knob in knobs]
    note = (
        '<p class="note">Bars: the range that each round searched. Dots: the best configuration at '
        "the end of the round.</p>"
    )
    return f'{note}\n<div class="small">{"".join(figures)}</div>\n{_moves_table(rounds)}'


def _incumbent(rows: Sequence[Trial], round_number: int) -> dict[str, KnobValue]:
    ranked = ranking([row for row in rows if row.round <= round_number])
    return ranked[0].knobs if ranked else {}


def _figure(knob: str, rounds: Sequence[Round], incumbents: Sequence[dict[str, KnobValue]]) -> str:
    ranges = [this.space.ranges[knob] for this in rounds if knob in this.space.ranges]
    axis = knob_axis(knob, ranges, [point[knob] for point in incumbents if knob in point])
    height, num_lines = _ROW * len(rounds), 1 + max(line for *_, line in axis.labels())
    parts = []
    for index, (this, incumbent) in enumerate(zip(rounds, incumbents, strict=True)):
        middle = _ROW * index + _ROW / 2
        parts.append(
            f'<text x="-10" y="{middle}" dy=".35em" text-anchor="end">round {this.number}</text>'
        )
        if knob in this.space.ranges:
            parts += [_bar(axis, this.space.ranges[knob], middle)]
        if knob in incumbent:
            words = f"round {this.number}: {incumbent[knob]}"
            place = axis.place(incumbent[knob])
            parts.append(mark(place, 100.0 * middle / height, _DOT, words))
    return (
        f'<figure><h3>{breakable(knob)}</h3><svg class="moves" '
        f'height="{height + 4 + _LINE * num_lines}" role="img" '
        f'aria-label="range of {escape(knob)} in each round"><svg height="{height}" '
        f'overflow="visible">{"".join(parts)}</svg>{_labels(axis, height)}</svg></figure>'
    )


def _bar(axis: KnobAxis, a_range: Range, middle: float) -> str:
    if isinstance(a_range, Choice):
        return "".join(
            f'<svg x="{axis.place(option):.2f}%" y="{middle}" overflow="visible">'
            '<rect class="range" x="-12" y="-8" width="24" height="16"/></svg>'
            for option in a_range.options
        )
    if axis.scale is None:  # the knob was a choice in another round
        return ""
    low, high = axis.scale.place(a_range.low), axis.scale.place(a_range.high)
    return (
        f'<rect class="range" x="{low:.2f}%" y="{middle - 8}" width="{high - low:.2f}%" '
        'height="16"/>'
    )


def _labels(axis: KnobAxis, height: float) -> str:
    """The labels below the axis: the ends of a scale, or the levels."""
    return "".join(
        f'<text x="{place:.2f}%" y="{height + 14 + _LINE * line}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
        for place, words, anchor, line in axis.labels()
    )


def _moves_table(rounds: Sequence[Round]) -> str:
    head = ["round", "set by", "trials", "knob", "move", "from", "to", "why", "evidence"]
    lines = []
    for this in rounds:
        first = f'<th scope="row">{this.number}</th>{text_cell(this.author)}'
        first += f"<td>{this.num_trials}</td>"
        if not this.moves:
            lines.append(f'<tr>{first}<td class="text" colspan="6">nothing moved</td></tr>')
        for move in this.moves:
            cells = [
                text_cell(move.knob),
                text_cell(move.kind),
                f"<td>{_range(move.old)}</td>",
                f"<td>{_range(move.new)}</td>",
                text_cell(move.statistic),
                text_cell(", ".join(move.trial_ids)),
            ]
            lines.append(f"<tr>{first}{''.join(cells)}</tr>")
    words = ["set by", "knob", "move", "why", "evidence"]
    return table("moves of the space", head, lines, words=words)


def _range(a_range: Range) -> str:
    if isinstance(a_range, Choice):
        return ", ".join(map(number, a_range.options))
    return f"{number(a_range.low)} – {number(a_range.high)}"
