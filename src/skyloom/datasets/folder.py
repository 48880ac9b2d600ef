"""A user's folder of observations."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from kedro.io import DatasetError
from kedro_datasets._typing import ImagePreview
from kedro_datasets.partitions import PartitionedDataset

from skyloom.datasets.npy import NpyDataset
from skyloom.raw_files import UnusableError
from skyloom.raw_files.names import is_of_user


class ObservationsDataset(PartitionedDataset):
    """Every file of a folder, as a function that reads its bytes when called; never written.

    Hidden files and those of systems (``__MACOSX``, ``Thumbs.db`` ...) are left out. Links to
    folders are followed, each folder once.

    Parameters
    ----------
    path : str
        The folder, searched with its sub-folders, or a file in place of it. Kedro takes a relative
        one from the project's root.
    metadata : dict, optional
        For plugins; Kedro ignores it.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        reader = {
            "type": "kedro_datasets.text.TextDataset",
            "fs_args": {"open_args_load": {"mode": "rb"}},
        }
        super().__init__(path=path, dataset=reader, metadata=metadata)

    def load(self) -> dict[str, Callable[[], bytes]]:
        """List the folder.

        Returns
        -------
        dict of str to callable
            Path within the folder to a function that returns the bytes. Of a pipe, a broken link
            or a sub-folder that cannot be listed the function raises
            `skyloom.raw_files.UnusableError`.

        Raises
        ------
        kedro.io.DatasetError
            The folder is missing or holds no files.
        """
        if self._protocol == "file":
            files = self._local_files(Path(self._filesystem._strip_protocol(self._path)))
        else:
            files = super().load() if self._list_partitions() else {}
        shown = {name: read for name, read in files.items() if is_of_user(name)}
        if not shown:
            raise DatasetError(f"the folder {self._path} holds no files: observations expected")
        return shown

    def _local_files(self, path: Path) -> dict[str, Callable[[], bytes]]:
        if path.is_dir():
            # Names that are no text could be written into no table.
            return {
                os.fsencode(os.path.relpath(file, path)).decode(errors="backslashreplace"): read
                for file, read in _walk(path)
            }
        if path.is_file():
            return {path.name: path.read_bytes}
        if path.exists():
            raise DatasetError(f"{path} is neither a folder nor a regular file")
        # What looks like a number has come through YAML.
        hint = " (of 010 or 2.50 write ./010 or ./2.50)" if re.match(r"[\d.]", path.name) else ""
        raise DatasetError(f"there is no folder {path}: observations expected{hint}")

    def save(self, data: Any) -> None:  # noqa: ARG002
        """Refuse: observations are read-only.

        Raises
        ------
        kedro.io.DatasetError
            Always.
        """
        raise DatasetError(f"observations in {self._path} are never written")


def _walk(top: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Files below a folder, in any order, and what reads them."""
    errors: list[OSError] = []
    seen: set[str] = set()
    for folder, folders, files in os.walk(top, onerror=errors.append, followlinks=True):
        if (place := os.path.realpath(folder)) in seen:  # links may lead round in circles
            folders.clear()
            continue
        seen.add(place)
        # What is below the folder anyhow comes under its own name.
        folders[:] = [
            name
            for name in sorted(folders)
            if not (link := Path(folder, name)).is_symlink()
            or not link.resolve().is_relative_to(top.resolve())
        ]
        for name in files:
            yield (path := os.path.join(folder, name)), partial(_read_regular, path)
    for error in errors:
        yield error.filename, partial(_refuse, "unreadable folder", str(error))


def _read_regular(path: str) -> bytes:
    """Bytes of a file; to open a pipe would be to wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.islink(path):
            _refuse("not a regular file", f"broken link to {os.readlink(path)}")
        raise
    if not stat.S_ISREG(mode):
        _refuse("not a regular file", f"mode {stat.filemode(mode)}")
    return Path(path).read_bytes()


def _refuse(reason: str, value: str) -> bytes:
    raise UnusableError(reason, value)


class PartitionsDataset(PartitionedDataset):
    """Partitioned dataset that may be empty."""

    def load(self) -> dict[str, Callable[[], Any]]:
        """Functions that load each partition, by name.

        Returns
        -------
        dict of str to callable
            Empty where nothing was saved.
        """
        return super().load() if self._list_partitions() else {}


class NpyPartitionsDataset(PartitionsDataset):
    """Arrays by name, each a file of `skyloom.datasets.NpyDataset`.

    Parameters
    ----------
    path : str
        Folder of the files.
    metadata : dict, optional
        For plug-ins such as kedro-viz.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(
            path=path,
            dataset=NpyDataset,
            filename_suffix=".npy",
            overwrite=True,
            metadata=metadata,
        )

    def preview(self) -> ImagePreview:
        """Draw the first array for kedro-viz.

        Returns
        -------
        ImagePreview
            A PNG picture; empty where there is no array.
        """
        paths = sorted(self._list_partitions())
        if paths:
            return NpyDataset(filepath=paths[0]).preview()
        from skyloom.datasets import _draw

        return _draw.png(_draw.new_figure("no arrays"))
