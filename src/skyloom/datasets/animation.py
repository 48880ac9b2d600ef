"""Films of a training as a Kedro dataset."""

from __future__ import annotations

from typing import Any

import numpy as np

from skyloom.datasets._base import _FileDataset


class AnimationDataset(_FileDataset):
    """A GIF of grey images.

    Saves a list of arrays (height, width) from 0 to 1, and loads it as 8-bit ones.
    ``save_args: {duration: 300}`` sets the time of a frame in ms.
    """

    def _read(self, path: str) -> list[np.ndarray]:
        from PIL import Image, ImageSequence

        with Image.open(path) as film:
            return [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(film)]

    def _write(self, data: list[Any], path: str) -> None:
        from PIL import Image

        if not len(data):
            raise ValueError("a film needs a frame")
        frames = [
            Image.fromarray((np.clip(frame, 0, 1) * 255).round().astype(np.uint8)) for frame in data
        ]
        duration = self._save_args.get("duration", 300)
        frames[0].save(
            path, "GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0
        )
