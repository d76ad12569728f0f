"""The section of a report on how the space moved between the rounds of a sweep, and why."""

from collections.abc import Sequence
from html import escape

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ssmrl.config import KnobValue
from tuning.ranges import Choice, Range
from tuning.ranking import ranking
from tuning.report_parts import image, number
from tuning.round_log import Round
from tuning.trial import Trial

_SIZE = (4.0, 2.2)


def boxes_section(rounds: Sequence[Round], rows: Sequence[Trial]) -> str:
    """HTML with the range of each knob over the rounds, the incumbent, and the reason of each move.

    Args:
        rounds: The rounds in order, at least one.
        rows: The trials. The incumbent of a round is the best of its own and all earlier trials.
    """
    incumbents = [_incumbent(rows, this.number) for this in rounds]
    knobs = dict.fromkeys(knob for this in rounds for knob in this.space.ranges)
    images = [_knob_image(knob, rounds, incumbents) for knob in knobs]
    note = (
        '<p class="note">Bars: where each round searched. Dots: the best configuration at the end '
        "of the round.</p>"
    )
    return "\n".join([*images, note, _moves_table(rounds)])


def _incumbent(rows: Sequence[Trial], round_number: int) -> dict[str, KnobValue]:
    ranked = ranking([row for row in rows if row.round <= round_number])
    return ranked[0].knobs if ranked else {}


def _knob_image(
    knob: str, rounds: Sequence[Round], incumbents: Sequence[dict[str, KnobValue]]
) -> str:
    boxes = [(this.number, this.space.ranges[knob]) for this in rounds if knob in this.space.ranges]
    dots = [
        (this.number, incumbent[knob])
        for this, incumbent in zip(rounds, incumbents, strict=True)
        if knob in incumbent
    ]

    def draw(axes: Axes) -> None:
        axes.use_sticky_edges = False  # the lower end of a bar is an end of the range, not 0
        levels = _levels([a_range for _, a_range in boxes], [value for _, value in dots])
        for place, a_range in boxes:
            _draw_range(axes, place, a_range, levels)
        if dots:
            heights = [levels.index(str(value)) if levels else value for _, value in dots]
            axes.scatter([place for place, _ in dots], heights, color="tab:orange", zorder=3)
        if levels:
            axes.set_yticks(range(len(levels)), levels)
        elif all(not isinstance(a_range, Choice) and a_range.log for _, a_range in boxes):
            axes.set_yscale("log")
        axes.set_title(knob, fontsize=9)
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(rounds[0].number - 0.6, rounds[-1].number + 0.6)

    return image(draw, f"range of {knob} in each round", _SIZE)


def _levels(ranges: Sequence[Range], values: Sequence[KnobValue]) -> list[str]:
    """The options of all rounds as text, in order; empty if the ranges are numeric."""
    choices = [a_range for a_range in ranges if isinstance(a_range, Choice)]
    if not choices:
        return []
    options = [option for choice in choices for option in choice.options]
    return list(dict.fromkeys(map(str, [*options, *values])))


def _draw_range(axes: Axes, place: int, a_range: Range, levels: Sequence[str]) -> None:
    if isinstance(a_range, Choice):
        heights = [levels.index(str(option)) for option in a_range.options]
        axes.scatter(
            [place] * len(heights), heights, marker="s", s=180, color="tab:blue", alpha=0.3
        )
    else:
        height = a_range.high - a_range.low
        axes.bar(place, height, bottom=a_range.low, width=0.6, color="tab:blue", alpha=0.3)


def _moves_table(rounds: Sequence[Round]) -> str:
    head = ["round", "set by", "trials", "knob", "move", "from", "to", "why", "evidence"]
    lines = [f"<tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>"]
    for this in rounds:
        first = f"<td>{this.number}</td>{_text(this.author)}<td>{this.num_trials}</td>"
        if not this.moves:
            lines.append(f'<tr>{first}<td class="text" colspan="6">nothing moved</td></tr>')
        for move in this.moves:
            cells = [
                _text(move.knob),
                _text(move.kind),
                f"<td>{_range(move.old)}</td>",
                f"<td>{_range(move.new)}</td>",
                _text(move.statistic),
                _text(", ".join(move.trial_ids)),
            ]
            lines.append(f"<tr>{first}{''.join(cells)}</tr>")
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _text(text: str) -> str:
    return f'<td class="text">{escape(text)}</td>'


def _range(a_range: Range) -> str:
    if isinstance(a_range, Choice):
        return ", ".join(map(number, a_range.options))
    return f"{number(a_range.low)} – {number(a_range.high)}"
