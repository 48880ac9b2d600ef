"""Validated parameters, such as a sweep that has been laid out."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from skyloom.datasets._base import _FileDataset


class ParametersDataset(_FileDataset):
    """A pydantic model as a JSON file; what is loaded is validated.

    Parameters
    ----------
    model : str
        Where the class of the model is, as ``package.module.Class``.
    **arguments
        ``filepath``, ``version``, ``credentials``, ``fs_args``, ``metadata``, as other datasets
        take them.

    Raises
    ------
    kedro.io.DatasetError
        If the file does not hold such a model; the message says what is wrong with it.
    """

    def __init__(self, *, model: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._model = model

    def _read(self, path: str) -> Any:
        module, _, name = self._model.rpartition(".")
        return getattr(import_module(module), name).model_validate_json(Path(path).read_text())

    def _write(self, data: Any, path: str) -> None:
        Path(path).write_text(json.dumps(data.model_dump(mode="json"), ensure_ascii=False))
