"""What the sections of a report are made of: images and numbers as HTML; not what they show."""

import base64
import io
from collections.abc import Callable
from html import escape

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssmrl.config import KnobValue


def image(
    draw: Callable[[Axes], None], description: str, size: tuple[float, float] = (8.0, 3.6)
) -> str:
    """An image inside of the page; drawn without pyplot, whose state is global.

    Args:
        draw: Draws on empty axes.
        description: What a reader who cannot see it is told.
        size: Width and height [inch].
    """
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    data = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(data, format="png")
    text = base64.b64encode(data.getvalue()).decode()
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{text}">'


def number(value: KnobValue | None) -> str:
    """HTML that shows four digits and keeps the exact value."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return escape(str(value))
    return f'<data value="{value!r}">{value:.4g}</data>'
