"""Keras models as a Kedro dataset."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from kedro_datasets._typing import TablePreview

from skyloom.datasets._base import _FileDataset

if TYPE_CHECKING:
    import keras

_LAYERS = "layers.json"
"""The table of layers that `KerasModelDataset` puts into the archive beside Keras' own files."""


class KerasModelDataset(_FileDataset):
    """A Keras model in a ``.keras`` file.

    Loads in safe mode, always: a file that would run code of its own is refused. ``load_args`` go
    to `keras.saving.load_model`, such as ``compile: false``, and ``save_args`` to
    `keras.saving.save_model`. Neither Keras nor its backend is imported before a model is loaded or
    saved.
    """

    def preview(self) -> TablePreview:
        """Show the model's layers in kedro-viz, without importing Keras.

        Returns
        -------
        TablePreview
            Name, type, output shape and number of parameters of each layer. The last two are known
            for models that this dataset saved.
        """
        rows = self._local_copy(_read_layers)
        return TablePreview(
            {
                "index": list(range(len(rows))),
                "columns": ["layer", "type", "output shape", "parameters"],
                "data": rows,
            }
        )

    def _read(self, path: str) -> keras.Model:
        from keras.saving import load_model

        with TemporaryDirectory() as folder:
            # Keras goes by the suffix, and its readers of other formats are not safe.
            copy = shutil.copyfile(path, Path(folder, "model.keras"))
            return load_model(copy, safe_mode=True, **self._load_args)

    def _write(self, data: keras.Model, path: str) -> None:
        from keras.saving import save_model

        with TemporaryDirectory() as folder:
            save_model(data, copy := Path(folder, "model.keras"), **self._save_args)
            with ZipFile(copy, "a") as archive:
                archive.writestr(_LAYERS, json.dumps(list(_layers(data))))
            shutil.copyfile(copy, path)


def _layers(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, str, str, int]]:
    """Yield name, type, output shape and number of parameters of the layers, also of models within.

    The layers have the names that Keras gave them, after the names of the models that they are in.
    """
    for layer in model.layers:
        name = prefix + layer.name
        if hasattr(layer, "layers"):
            yield from _layers(layer, f"{name}/")
            continue
        try:
            shape = str(layer.output.shape)
        except (AttributeError, ValueError):  # several outputs, or only known when it is called
            shape = ""
        parameters = sum(math.prod(weight.shape) for weight in layer.weights)
        yield name, type(layer).__name__, shape, parameters


def _read_layers(path: str) -> list[list[Any]]:
    with ZipFile(path) as archive:
        if _LAYERS in archive.namelist():
            return json.loads(archive.read(_LAYERS))
        config = json.loads(archive.read("config.json"))["config"]
    return [
        [layer["config"]["name"], layer["class_name"], "", ""] for layer in config.get("layers", [])
    ]
