"""Colours and sizes shared by all figures: readable in print and by the colour-blind."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
