"""A user's folder of observations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kedro.io import DatasetError
from kedro_datasets.partitions import PartitionedDataset


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
                f"the folder {self._path} holds no files: spectra expected"
            ) from error
        shown = {
            name: read
            for name, read in files.items()
            if not any(part.startswith(".") for part in name.split("/"))
        }
        if not shown:
            raise DatasetError(f"the folder {self._path} holds no files: spectra expected")
        return shown

    def save(self, data: Any) -> None:  # noqa: ARG002
        """Refuse: observations are read-only.

        Raises
        ------
        kedro.io.DatasetError
            Always.
        """
        raise DatasetError(f"observations in {self._path} are never written")
