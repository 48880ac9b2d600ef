"""Node functions around the archive: its catalogue split and sampled, and spectra fetched."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from skyloom.archives.lamost import download_spectra, split_catalogue
from skyloom.pipelines.stellar_spectra.parameters import ArchiveParameters, CatalogueParameters


def split_and_sample(
    catalogue: str, destination: str, parameters: CatalogueParameters
) -> pd.DataFrame:
    """Split a catalogue of any length by spectral class and draw a sample of each.

    Parameters
    ----------
    catalogue : str
        Table of text, plain or gzipped. It is read as a stream, and never as a whole.
    destination : str
        Folder that is made, see `skyloom.archives.lamost.split_catalogue`.
    parameters : CatalogueParameters
        ``stellar_spectra.catalogue``.

    Returns
    -------
    pandas.DataFrame
        ``class``, ``n`` and ``n_sampled``, a row for each class and for each reason why rows have
        none.
    """
    return split_catalogue(Path(catalogue), Path(destination), **parameters.model_dump())


def fetch_spectra(text: str, destination: str, parameters: ArchiveParameters) -> pd.DataFrame:
    """Fetch the spectra of a list that are not there yet.

    Parameters
    ----------
    text : str
        Observation ids, one a line, such as a sample of `split_and_sample`.
    destination : str
        Folder of the spectra, ``<id>.fits.gz``. Good files in it are never touched.
    parameters : ArchiveParameters
        ``stellar_spectra.archive``.

    Returns
    -------
    pandas.DataFrame
        Of each what came, or why not.

    Raises
    ------
    ValueError
        If the list is empty.
    """
    ids = text.split()
    if not ids:
        msg = "the list names no observation: an id a line expected"
        raise ValueError(msg)
    return download_spectra(ids, Path(destination), **parameters.model_dump())
