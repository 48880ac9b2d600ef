"""Figures of cut-outs of radio galaxies."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from skyloom.plots.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def contact_sheets(
    images: np.ndarray, captions: Sequence[str], *, columns: int = 7, rows: int = 8, title: str = ""
) -> Iterator[Figure]:
    """Pages of labelled thumbnails, to be looked through by eye.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, size, size)
        Brightness from 0 to 1; rows go up.
    captions : sequence of str
        One below each image.
    columns, rows : int
        Of a page.
    title : str
        On top of each page, before its number.

    Yields
    ------
    matplotlib.figure.Figure
        One page at a time; none where there are no images.
    """
    size, each = images.shape[-1], columns * rows
    step, gap = size + 4, 4  # pixels between images
    n_pages = -(-len(images) // each)
    for page in range(n_pages):
        part = images[page * each : (page + 1) * each]
        height = step + size // 4  # room for a caption of two lines
        canvas = np.full((rows * height, columns * step), np.nan, np.float32)
        figure = new_figure(8.3, 11.7)
        axis = figure.subplots()
        for k, image in enumerate(part):
            top, left = (k // columns) * height, (k % columns) * step
            canvas[top : top + size, left : left + size] = image[::-1]
            axis.text(
                left + size / 2, top + size + gap / 2,
                textwrap.fill(captions[page * each + k], 22), fontsize=5,
                ha="center", va="top",
            )  # fmt: skip
        axis.imshow(canvas, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
        axis.set_axis_off()
        axis.set_title(f"{title} {page + 1} of {n_pages}".strip(), fontsize=9)
        yield figure
