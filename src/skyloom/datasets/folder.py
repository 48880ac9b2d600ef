"""A user's folder of observations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kedro.io import DatasetError
from kedro_datasets._typing import ImagePreview
from kedro_datasets.partitions import PartitionedDataset

from skyloom.datasets.npy import NpyDataset


class ObservationsDataset(PartitionedDataset):
    """Every file of a folder, as a function that reads its bytes when called; never written.

    Parameters
    ----------
    path : str
        The folder, searched with its sub-folders; hidden files are left out.
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
            Path within the folder to a function that returns the bytes.

        Raises
        ------
        kedro.io.DatasetError
            The folder is missing or holds no files.
        """
        try:
            files = super().load()
        except DatasetError as error:
            raise DatasetError(
                f"the folder {self._path} holds no files: observations expected"
            ) from error
        shown = {
            name: read
            for name, read in files.items()
            if not any(part.startswith(".") for part in name.split("/"))
        }
        if not shown:
            raise DatasetError(f"the folder {self._path} holds no files: observations expected")
        return shown

    def save(self, data: Any) -> None:  # noqa: ARG002
        """Refuse: observations are read-only.

        Raises
        ------
        kedro.io.DatasetError
            Always.
        """
        raise DatasetError(f"observations in {self._path} are never written")


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
