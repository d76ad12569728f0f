"""Figures of the experiments; this module draws given numbers and measures nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssmrl.student import student_interval

MET, MISSED = "#2a7f62", "#c2512f"


@dataclass(frozen=True)
class Bar:
    """One number against its target.

    Attributes:
        name: What was measured.
        value: The number.
        wanted: Target in words; empty if there is none.
        share: Number in units of its target, where 1 or more meets it; None without a target.
        met: Whether the target is met; None without a target.
    """

    name: str
    value: float
    wanted: str
    share: float | None
    met: bool | None


@dataclass(frozen=True)
class Curve:
    """One line of a figure, with one value per seed at each point.

    Attributes:
        name: Name in the legend.
        x: Positions of the points.
        y: Values, one sequence per seed.
        style: Line style of matplotlib, for example ``"-"``.
    """

    name: str
    x: Sequence[float]
    y: Sequence[Sequence[float]]
    style: str = "-"


@dataclass(frozen=True)
class Band:
    """One line or row of bars of a figure, with an interval at each point.

    Attributes:
        name: Name in the legend.
        x: Positions of the points.
        middle: Estimates at the points.
        low: Lower ends of the intervals.
        high: Upper ends of the intervals.
    """

    name: str
    x: Sequence[float]
    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def ratio_bars(path: Path, bars: Sequence[Bar], *, title: str) -> Path:
    """Bars in units of their targets: a bar that reaches the line at 1 meets its target.

    Numbers without a target are left out; they are in the table.
    """
    placed = [(bar, bar.share) for bar in bars if bar.share is not None]
    figure, axes = _figure(height=1.2 + 0.5 * len(placed))
    positions = np.arange(len(placed))[::-1]
    colors = [MET if bar.met else MISSED for bar, _ in placed]
    axes.barh(positions, [share for _, share in placed], color=colors, height=0.6)
    axes.set_yticks(positions, [fill(bar.name, 40) for bar, _ in placed], fontsize=7)
    for position, (bar, share) in zip(positions, placed, strict=True):
        text = f" {bar.value:.3g} (target {bar.wanted})"
        axes.text(share, position, text, va="center", fontsize=7)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel("measured in units of the target")
    axes.set_xlim(0.0, 1.5 * max([1.0, *(share for _, share in placed if np.isfinite(share))]))
    return _saved(figure, axes, path, title)


def log_log_lines(
    path: Path, curves: Sequence[Curve], *, title: str, x_label: str, y_label: str
) -> Path:
    """Lines of medians on two logarithmic axes."""
    figure, axes = _figure()
    for curve in curves:
        axes.loglog(
            curve.x, np.median(curve.y, axis=0), curve.style, label=curve.name, marker="o", ms=3
        )
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(fontsize=7)
    return _saved(figure, axes, path, title)


def learning_curves(
    path: Path,
    curves: Sequence[Curve],
    *,
    title: str,
    bound: float | None,
    y_label: str,
    x_label: str = "env steps",
) -> Path:
    """Means over seeds, with Student's 95 % bands where there are several seeds.

    Args:
        path: PNG file to write.
        curves: Lines to draw; all seeds of a line have the same points.
        title: Title above the axes.
        bound: Return that no policy without adaptation exceeds; None draws no line.
        y_label: Label of the vertical axis.
        x_label: Label of the horizontal axis.
    """
    figure, axes = _figure()
    colors: dict[str, str] = {}
    for curve in curves:
        values = np.asarray(curve.y, dtype=np.float64)
        color = colors.setdefault(curve.name.partition(",")[0], f"C{len(colors)}")
        axes.plot(
            curve.x, values.mean(0), curve.style, color=color, label=curve.name, linewidth=1.2
        )
        if len(values) > 1:
            low, high = np.asarray([student_interval(column) for column in values.T]).T
            axes.fill_between(curve.x, low, high, color=color, alpha=0.2, linewidth=0)
    if bound is not None:
        axes.axhline(bound, color="black", linewidth=0.8, linestyle="--")
        axes.annotate(
            "no policy without adaptation exceeds this",
            (0.99, bound),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=7,
        )
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(fontsize=7)
    return _saved(figure, axes, path, title)


def interval_lines(
    path: Path,
    bands: Sequence[Band],
    *,
    title: str,
    bound: float | None,
    x_label: str,
    y_label: str,
) -> Path:
    """Lines with error bars, shifted sideways so that they do not overlap.

    Args:
        path: PNG file to write.
        bands: Lines in the order of their colors.
        title: Title above the axes.
        bound: Mean that no policy without adaptation exceeds; None draws no line.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.
    """
    figure, axes = _figure()
    for number, band in enumerate(bands):
        shift = 0.04 * (number - (len(bands) - 1) / 2)
        axes.errorbar(
            np.asarray(band.x) + shift,
            band.middle,
            yerr=_error_bars(band),
            color=f"C{number}",
            label=band.name,
            linewidth=1.2,
            capsize=2,
            marker="o",
            ms=3,
        )
    _draw_bound(axes, bound)
    axes.set_xticks(sorted({x for band in bands for x in band.x}))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _saved(figure, axes, path, title)


def interval_bars(
    path: Path,
    bands: Sequence[Band],
    *,
    title: str,
    bound: float | None,
    groups: Sequence[str],
    y_label: str,
) -> Path:
    """Groups of bars with error bars, one bar of each band in a group.

    Args:
        path: PNG file to write.
        bands: Bars in the order of their colors; their ``x`` is not used.
        title: Title above the axes.
        bound: Mean that no policy without adaptation exceeds; None draws no line.
        groups: Names of the groups, one for each point of a band.
        y_label: Label of the vertical axis.
    """
    figure, axes = _figure()
    positions = np.arange(len(groups))
    width = 0.8 / len(bands)
    for number, band in enumerate(bands):
        axes.bar(
            positions + width * (number - (len(bands) - 1) / 2),
            band.middle,
            width,
            yerr=_error_bars(band),
            color=f"C{number}",
            label=band.name,
            capsize=2,
            error_kw={"linewidth": 0.8},
        )
    _draw_bound(axes, bound)
    axes.set_xticks(positions, list(groups))
    axes.set_ylabel(y_label)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _saved(figure, axes, path, title)


def _error_bars(band: Band) -> np.ndarray:
    """Lengths below and above the middle, at least 0: an interval need not contain it."""
    middle = np.asarray(band.middle)
    return np.maximum([middle - band.low, band.high - middle], 0.0)


def _draw_bound(axes: Axes, bound: float | None) -> None:
    if bound is None:
        return
    axes.axhline(
        bound,
        color="black",
        linewidth=0.8,
        linestyle="--",
        label="bound on the mean\nwithout adaptation",
    )


def _figure(height: float = 4.2) -> tuple[Figure, Axes]:
    # Not pyplot: it keeps figures alive and picks a display.
    figure = Figure(figsize=(7.0, height), layout="constrained")
    return figure, figure.add_subplot()


def _saved(figure: Figure, axes: Axes, path: Path, title: str) -> Path:
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.25)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A committed figure stays below 200 KB, also with many noisy curves.
    figure.savefig(path, dpi=90, pil_kwargs={"optimize": True})
    return path
