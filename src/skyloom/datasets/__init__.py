"""Kedro datasets for astronomy: FITS files, NumPy arrays larger than memory, Keras models, films.

Importing this package is cheap: astropy, TensorFlow, Dask and matplotlib are imported only when a
dataset is loaded, saved or previewed.
"""

from skyloom.datasets.animation import AnimationDataset
from skyloom.datasets.figures import FigurePagesDataset
from skyloom.datasets.fits import FITSDataset, FITSImage
from skyloom.datasets.folder import NpyPartitionsDataset, ObservationsDataset, PartitionsDataset
from skyloom.datasets.keras_model import KerasModelDataset
from skyloom.datasets.labels import LabelTableDataset
from skyloom.datasets.npy import NpyDataset
from skyloom.datasets.parameters import ParametersDataset
from skyloom.datasets.registered_model import RegisteredModelDataset
from skyloom.datasets.results import ResultStoreDataset

__all__ = [
    "AnimationDataset",
    "FITSDataset",
    "FITSImage",
    "FigurePagesDataset",
    "KerasModelDataset",
    "LabelTableDataset",
    "NpyDataset",
    "NpyPartitionsDataset",
    "ObservationsDataset",
    "ParametersDataset",
    "PartitionsDataset",
    "RegisteredModelDataset",
    "ResultStoreDataset",
]
