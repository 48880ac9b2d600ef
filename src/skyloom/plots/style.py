"""Colours and sizes shared by all figures: readable in print and by the colour-blind."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008): distinguishable with every common colour-vision deficiency.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY, BLACK = "#CC79A7", "#56B4E9", "#999999", "#000000"
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)


def new_figure(width: float = 7.0, height: float = 4.5) -> Figure:
    """Figure of a size in inches that prints well; never shown, only returned.

    Parameters
    ----------
    width, height : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure  # slow to import

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def empty_figure(figure: Figure, axis: Axes, text: str) -> Figure:
    """Say in the middle of an axis why nothing is drawn in it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Returned.
    axis : matplotlib.axes.Axes
        Of it.
    text : str
        Why.

    Returns
    -------
    matplotlib.figure.Figure
    """
    axis.set_axis_off()
    axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes)
    return figure


def legend_above(axis: Axes, n_columns: int, *, font_size: float = 7, title: str = "") -> None:
    """Legend above an axis, where it covers nothing whatever is drawn.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    n_columns : int
    font_size : float
        Points.
    title : str
        Of the legend. The title of an axis needs a ``pad`` of two lines to stand above it.
    """
    axis.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=n_columns, fontsize=font_size,
        title=title, title_fontsize=font_size,
    )  # fmt: skip


def legend_of_all(axis: Axes, n_columns: int, *, title: str = "") -> None:
    """Legend of one axis above all of its figure, for the axes that share its colours.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    n_columns : int
    title : str
        Of the legend.
    """
    axis.figure.legend(
        *axis.get_legend_handles_labels(), loc="outside upper center", ncols=n_columns,
        fontsize=8, title=title, title_fontsize=8,
    )  # fmt: skip
