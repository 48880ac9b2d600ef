"""NumPy arrays, also larger than memory, as a Kedro dataset."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from kedro_datasets._typing import ImagePreview

from skyloom.datasets._base import _FileDataset


class NpyDataset(_FileDataset):
    """One NumPy array in a ``.npy`` file.

    Loads a read-only memory map, so that only what is used is read. ``load_args: {mmap_mode: c}``
    gives an array that may be changed in memory but never on disk, ``{mmap_mode: null}`` reads
    everything at once; a file on a remote file system is always read at once. A map remains as it
    was loaded when the file is saved again. Python objects (pickles) are neither loaded nor saved.

    Saves whatever NumPy takes for an array. A `dask.array.Array` goes to the file chunk by chunk:
    memory holds only the chunks in work. With a Dask cluster, its workers need to see the folder.
    """

    def preview(self) -> ImagePreview:
        """Draw the array for kedro-viz, reading no more of it than is shown.

        Returns
        -------
        ImagePreview
            A PNG picture: the first twelve images of a stack (n, h, w), (n, h, w, c), (n, m, h, w)
            or (n, m, h, w, c); up to eight rows of a table as lines, more as a grey image; a line.
        """
        from skyloom.datasets import _draw

        array = np.atleast_1d(self.load())
        figure = _draw.new_figure(f"{self._filepath.name}: {array.dtype} {array.shape}")
        if not array.size:
            return _draw.png(figure)
        if array.ndim > 2:
            _draw.draw_stack(figure, array)
            return _draw.png(figure)
        axes = figure.subplots()
        if array.ndim == 2 and len(array) > 8:
            _draw.draw_image(axes, array, aspect="auto")
            axes.set(xlabel="channel", ylabel="row")
        else:
            axes.plot(np.atleast_2d(array).T, linewidth=1)
            axes.set(xlabel="channel" if array.ndim == 2 else "index", ylabel="value")
        return _draw.png(figure)

    def _read(self, path: str) -> np.ndarray:
        mode = self._load_args.get("mmap_mode", "r")
        if mode not in ("r", "c", None):
            raise ValueError(f"mmap_mode is 'r', 'c' or null, not {mode!r}")
        # np.load would take anything that is not an array for a pickle, and say so.
        if mode and self._is_local:
            return np.lib.format.open_memmap(path, mode=mode)
        with open(path, "rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    def _write(self, data: Any, path: str) -> None:
        dask = sys.modules.get("dask.array")  # nobody has a dask array without having imported it
        if dask and isinstance(data, dask.Array):
            if np.isnan(data.shape).any():
                raise ValueError("its shape is unknown: call its compute_chunk_sizes() first")
            np.lib.format.open_memmap(path, mode="w+", dtype=data.dtype, shape=data.shape)
            dask.store(data, _Chunks(path), lock=False)
        else:
            with open(path, "wb") as file:
                np.save(file, data, allow_pickle=False)


class _Chunks:
    """Puts chunks into a file from any thread, process or machine: a pickled map is a copy."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __setitem__(self, index: Any, chunk: np.ndarray) -> None:
        np.lib.format.open_memmap(self.path, mode="r+")[index] = chunk
