"""Folder of results that a sweep fills while it runs."""

from __future__ import annotations

from typing import Any

from kedro.io import AbstractDataset, DatasetError

from skyloom.learning.tasks import ResultStore


class ResultStoreDataset(AbstractDataset[Any, ResultStore]):
    """Opens a `skyloom.learning.tasks.ResultStore`; it is filled by whoever loads it.

    Parameters
    ----------
    path : str
        Folder on this machine; made when first needed.
    metadata : dict, optional
        For plug-ins such as kedro-viz.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = path
        self.metadata = metadata

    def load(self) -> ResultStore:
        """Open the folder.

        Returns
        -------
        skyloom.learning.tasks.ResultStore
        """
        return ResultStore(self._path)

    def save(self, data: Any) -> None:  # noqa: ARG002
        """Refuse: results are kept one at a time, as they come.

        Raises
        ------
        kedro.io.DatasetError
            Always.
        """
        msg = f"{self._path}: results are put into the store, not saved as a whole"
        raise DatasetError(msg)

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path}
