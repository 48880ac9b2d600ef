"""Small pictures of arrays for kedro-viz."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from kedro_datasets._typing import ImagePreview

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PIXELS = 1000
"""No picture shows more rows or columns than this; larger arrays are thinned out."""


def new_figure(title: str = "") -> Figure:
    """Return an empty figure that pyplot does not know of."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    figure.suptitle(title)
    return figure


def png(figure: Figure) -> ImagePreview:
    """Return `figure` the way kedro-viz shows images: as a base64 text of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return ImagePreview(b64encode(buffer.getvalue()).decode())


def draw_image(axes: Axes, image: np.ndarray, aspect: Any = "equal") -> None:
    """Draw a (height, width) image in grey, or a (height, width, 3) image in colour.

    Brightness runs from the 1st to the 99th percentile of the finite values, or over the whole
    range where these two are equal.
    """
    height, width = image.shape[:2]
    image = np.asarray(image[:: height // _PIXELS + 1, :: width // _PIXELS + 1])
    image = (np.abs(image) if np.iscomplexobj(image) else image).astype(float)
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0, 1)
    if low == high:
        low, high = finite.min(), finite.max()
    axes.imshow(
        np.clip((image - low) / ((high - low) or 1), 0, 1),
        cmap="gray",
        vmin=0,
        vmax=1,
        origin="lower",
        aspect=aspect,
        extent=(-0.5, width - 0.5, -0.5, height - 0.5),
    )


def draw_stack(figure: Figure, stack: np.ndarray) -> None:
    """Draw the first twelve images of (n, h, w), (n, h, w, c), (n, m, h, w) or (n, m, h, w, c).

    The last axis of a stack with four axes is taken for channels if it has at most four.
    """
    has_channels = stack.ndim > 4 or (stack.ndim == 4 and stack.shape[-1] <= 4)
    stack = stack if has_channels else stack[..., np.newaxis]
    indices = list(islice(np.ndindex(stack.shape[:-3]), 12))
    columns = min(len(indices), 4)
    panels = figure.subplots(-(-len(indices) // columns), columns, squeeze=False).flat
    for axes in panels[len(indices) :]:
        axes.remove()
    for axes, index in zip(panels, indices, strict=False):
        image = stack[index]
        draw_image(axes, image if image.shape[-1] == 3 else image[..., 0])
        axes.set_title(", ".join(map(str, index)), fontsize="small")
        axes.tick_params(labelsize="x-small")
    figure.supxlabel("x (pixel)")
    figure.supylabel("y (pixel)")
