"""HTML building blocks for the report sections: numbers, tables, charts; not their content.

A chart is SVG without a view box of its own: places are percents of its width, so that text and
marks keep their size on a phone. Colours come from the page's style, light or dark.
"""

import re
from collections.abc import Callable, Sequence
from html import escape

from ssmrl.config import KnobValue
from tuning.report.scale import Scale
from tuning.table.trial import TrialState

_SHAPES = {
    TrialState.PRUNED: "M-4.5-4h9L0 4.5z",
    TrialState.DIVERGED: "M-4-4L4 4M-4 4L4-4",
    TrialState.FAILED: "M-4-4h8v8h-8z",
    TrialState.OOM: "M0-5.5L5.5 0L0 5.5L-5.5 0z",
    TrialState.HUNG: "M-5 0h10M0-5v10",
}
_LARGE = 1000
_MANY_LINES = 60


def number(value: KnobValue | None, style: str = ".4g") -> str:
    """HTML that shows a number in the format ``style`` and keeps its exact value."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return escape(str(value))
    return f'<data value="{value!r}">{value:{style}}</data>'


def with_interval(
    value: float | None, low: float | None, high: float | None, style: str = ".4g"
) -> str:
    """A number, with its interval if that is known."""
    if low is None or high is None:
        return number(value, style)
    return f"{number(value, style)} [{number(low, style)}, {number(high, style)}]"


def short(value: float) -> str:
    """A number as a short tick label.

    Example:
        >>> short(52_000.0), short(1.5e6), short(-0.25)
        ('52k', '1.5M', '-0.25')
    """
    size = abs(value)
    for power, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if power <= size < power * _LARGE and size >= 1e4:
            return f"{value / power:.4g}{sign}"
    return f"{value:.4g}"


def breakable(name: str) -> str:
    """HTML of a name that may be broken after its dots and underscores."""
    return re.sub(r"(?<=[._])", "<wbr>", escape(name))


def section(name: str, title: str, *parts: str) -> str:
    """A part of the page with a heading that the list of contents can link to.

    Args:
        name: Name of the anchor.
        title: Heading, as text.
        parts: Content, as HTML.
    """
    body = "\n".join(part for part in parts if part)
    heading = f'<h2 id="{name}">{escape(title)}</h2>'
    return f'<section aria-labelledby="{name}">{heading}\n{body}\n</section>'


def table(
    caption: str, head: Sequence[str], lines: Sequence[str], *, words: Sequence[str] = ()
) -> str:
    """A table that scrolls in a box of its own if it is wider than the page.

    Args:
        caption: Caption, as text.
        head: The names of its columns, as text.
        lines: Its rows, each a whole ``tr`` element.
        words: The columns that hold words, made by ``text_cell``.
    """
    columns = "".join(
        f'<th scope="col" class="{"text" if name in words else "number"}">{escape(name)}</th>'
        for name in head
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table>\n<thead><tr>{columns}</tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def text_cell(text: str) -> str:
    """A cell that holds words, which may be long."""
    return f'<td class="text">{escape(text)}</td>'


def legend(*entries: tuple[str, str]) -> str:
    """The legend of a chart.

    Args:
        entries: Pairs of a sign, as the content of a 20 x 12 SVG with its origin in the middle,
            and its meaning, as text.
    """
    items = "".join(
        f'<li><svg class="sign" width="20" height="12" viewBox="-10 -6 20 12" aria-hidden="true">'
        f"{sign}</svg>{escape(meaning)}</li>"
        for sign, meaning in entries
    )
    return f'<ul class="legend">{items}</ul>'


def dash(style: str) -> str:
    """The legend sign of a line."""
    return f'<path class="line {style}" d="M-9 0H9"/>'


def shape(state: TrialState) -> str:
    """The mark for the end state of a trial, centred on the origin."""
    if state is TrialState.COMPLETE:
        return '<circle class="mark complete" r="4.5"/>'
    return f'<path class="mark {state.value.lower()}" d="{_SHAPES[state]}"/>'


def mark(x: float, y: float, sign: str, words: str = "") -> str:
    """A sign at a place of a chart.

    Args:
        x: Distance from the left [percent].
        y: Distance from the top [percent].
        sign: SVG centred on the origin.
        words: Tooltip, as text.
    """
    told = f"<title>{escape(words)}</title>" if words else ""
    return f'<svg x="{x:.2f}%" y="{y:.2f}%" overflow="visible">{told}{sign}</svg>'


def lines_layer(lines: Sequence[tuple[Sequence[tuple[float, float]], str]]) -> str:
    """Lines that stretch with the chart, with a fixed stroke width.

    If there are many, they are translucent.

    Args:
        lines: Points of each line, from the left and from the top [percent], and its style.
    """
    many = ' class="many"' if len(lines) > _MANY_LINES else ""
    drawn = "".join(
        f'<polyline class="line {style}" points="'
        + " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        + '"/>'
        for points, style in lines
    )
    return (
        f'<svg{many} width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none" '
        f'overflow="visible">{drawn}</svg>'
    )


def chart(
    description: str,
    *,
    x: Scale,
    y: Scale,
    names: tuple[str, str],
    content: str,
    signs: str = "",
    whole: bool = False,
    tick: Callable[[float], str] = short,
) -> str:
    """A chart with axes.

    Args:
        description: Description for screen readers, as text.
        x: Horizontal axis, from left to right.
        y: Vertical axis, from bottom to top.
        names: Names of the x and the y axis, as text.
        content: The drawing, as SVG.
        signs: Its legend, as HTML.
        whole: Whether the ticks of the x axis are integers.
        tick: Formats a tick value of the x axis.
    """
    grid = [
        f'<line class="grid" x1="0" x2="100%" y1="{(p := 100 - y.place(value)):.2f}%" '
        f'y2="{p:.2f}%"/><text x="-8" y="{p:.2f}%" dy=".35em" text-anchor="end">{short(value)}'
        "</text>"
        for value in y.ticks()
    ]
    grid += [
        f'<text x="{x.place(value):.2f}%" y="100%" dy="1.6em" text-anchor="middle">{tick(value)}'
        "</text>"
        for value in x.ticks(4, whole=whole)
    ]
    return (
        f'<figure class="chart"><p class="axis">{escape(names[1])}</p>'
        f'<svg class="plot" height="280" role="img" aria-label="{escape(description)}">'
        f'{"".join(grid)}<line class="base" x1="0" x2="100%" y1="100%" y2="100%"/>{content}</svg>'
        f'<p class="axis end">{escape(names[0])}</p>{signs}</figure>'
    )


def strip(name: str, value: str, drawing: str, style: str = "") -> str:
    """A list entry: a name, a number, and a picture of the number.

    Args:
        name: Name, as text.
        value: Number, as HTML.
        drawing: SVG 20 pixels high, with places in percent; empty for no picture.
        style: Style class of the entry.
    """
    svg = f'<svg class="strip" height="20" aria-hidden="true">{drawing}</svg>' if drawing else ""
    return (
        f'<li class="{style}"><span class="name">{breakable(name)}</span> '
        f'<span class="value">{value}</span>{svg}</li>'
    )


def whisker(low: float, high: float) -> str:
    """An interval in a strip, from ``low`` to ``high`` [percent]."""
    ends = "".join(
        f'<line class="whisker" x1="{at:.2f}%" x2="{at:.2f}%" y1="5" y2="15"/>'
        for at in (low, high)
    )
    middle = f'<line class="whisker" x1="{low:.2f}%" x2="{high:.2f}%" y1="10" y2="10"/>'
    return middle + ends
