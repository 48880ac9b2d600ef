"""A table of labels or sources that may not be there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import DatasetError

from skyloom.datasets._base import _FileDataset
from skyloom.raw_files.tables import read_table, warn_of_damaged


class LabelTableDataset(_FileDataset):
    """A table of labels or sources of any layout; empty where no file is given.

    Cells are text: ids keep their leading zeros. A warning names rows that are damaged.

    Parameters
    ----------
    filepath : str or None
        The table; ``None`` stands for "no labels".
    writable : bool
        Whether it may be saved; not if it is the user's own.
    **arguments
        As for the other datasets of this package.
    """

    def __init__(
        self,
        *,
        filepath: str | os.PathLike[str] | None,
        writable: bool = True,
        **arguments: Any,
    ) -> None:
        self._is_given, self._writable = filepath is not None, writable
        super().__init__(filepath=filepath or "no labels", **arguments)

    def load(self) -> pd.DataFrame:
        """Load the table.

        Returns
        -------
        pandas.DataFrame of str
            As of `skyloom.raw_files.tables.read_table`; without rows or columns where no file
            was given.

        Raises
        ------
        kedro.io.DatasetError
            The file is missing, unreadable or without rows.
        """
        return super().load() if self._is_given else pd.DataFrame()

    def _read(self, path: str) -> pd.DataFrame:
        file = Path(path)
        table, damaged = read_table(file.name, file.read_bytes())
        warn_of_damaged(file.name, table, damaged)
        if table.empty:
            msg = f"the table has no rows ({table.attrs['origin']})"
            raise ValueError(msg)
        return table

    def _write(self, data: pd.DataFrame, path: str) -> None:
        if not self._is_given:
            msg = "no file was given to save the labels to"
            raise DatasetError(msg)
        if not self._writable:
            msg = f"the label table {self._filepath} is never written: leave out the simulation"
            raise DatasetError(msg)
        data.to_csv(path, sep=";", index=False)

    def _exists(self) -> bool:
        return not self._is_given or super()._exists()
