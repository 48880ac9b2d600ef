"""A Keras model and what is known of it, from MLflow's registry or a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError


class RegisteredModelDataset(AbstractDataset[Any, "tuple[Any, dict[str, Any]]"]):
    """Loads a Keras model logged by MLflow, in Keras' safe mode, with its metadata.

    Nothing is unpickled, so that a model from elsewhere cannot run code.

    Parameters
    ----------
    model : str
        ``models:/<name>@<alias>``, ``models:/<name>/<version>``, ``runs:/<id>/<name>`` or the
        folder of a model that MLflow has saved.
    tracking_uri : str
        Of the registry; the environment variable ``MLFLOW_TRACKING_URI`` wins over it.
    path : str
        Root for a relative SQLite file.
    metadata : dict, optional
        For plug-ins such as kedro-viz.
    """

    def __init__(
        self,
        *,
        model: str,
        tracking_uri: str,
        path: str = ".",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._model = model
        self._tracking_uri = tracking_uri
        self._root = Path(path)
        self.metadata = metadata

    def load(self) -> tuple[Any, dict[str, Any]]:
        """Fetch the model.

        Returns
        -------
        model : keras.Model
        description : dict
            Metadata it was logged with.

        Raises
        ------
        kedro.io.DatasetError
            If there is no such model, or it is not a Keras model with a description.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow
        from mlflow.exceptions import MlflowException
        from mlflow.models import Model

        from skyloom.datasets.keras_model import KerasModelDataset
        from skyloom.tracking import store_address, using_store

        address = store_address(self._tracking_uri, self._root.resolve())[0]
        try:
            if ":/" in self._model:
                with using_store(address):
                    folder = Path(mlflow.artifacts.download_artifacts(self._model))
            else:
                folder = Path(self._model)
            description = Model.load(str(folder)).metadata
        except (MlflowException, OSError) as error:
            msg = f"no model {self._model!r} to classify with: {error}"
            raise DatasetError(msg) from error
        if not description or not description.get("trained"):
            msg = f"{self._model!r} does not describe its classes: it was not logged by Skyloom"
            raise DatasetError(msg)
        return KerasModelDataset(filepath=str(folder / "data" / "model.keras")).load(), description

    def save(self, data: Any) -> None:  # noqa: ARG002
        """Refuse: models are registered by the run that trains them.

        Raises
        ------
        kedro.io.DatasetError
            Always.
        """
        msg = "models are registered at the end of a training run"
        raise DatasetError(msg)

    def _describe(self) -> dict[str, Any]:
        return {"model": self._model, "tracking_uri": self._tracking_uri}
