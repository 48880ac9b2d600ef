"""Node functions around the archive: its catalogue split and sampled, and spectra fetched."""

from __future__ import annotations

import pandas as pd

from skyloom.archives.downloads import as_path
from skyloom.archives.lamost import download_spectra, split_catalogue
from skyloom.pipelines.stellar_spectra.parameters import ArchiveParameters, CatalogueParameters


def split_and_sample(sources: str, folder: str, catalogue: CatalogueParameters) -> pd.DataFrame:
    """Split a catalogue of any length by spectral class and draw a sample of each.

    Returns
    -------
    pandas.DataFrame
        ``class``, ``n`` and ``n_sampled``, a row for each class and for each reason why rows have
        none.
    """
    return split_catalogue(as_path(sources), as_path(folder), **catalogue.model_dump())


def fetch_spectra(source_list: str, folder: str, archive: ArchiveParameters) -> pd.DataFrame:
    """Fetch the spectra of a list that are not there yet.

    Returns
    -------
    pandas.DataFrame
        Of each what came, or why not.

    Raises
    ------
    ValueError
        If the list is empty.
    """
    ids = source_list.split()
    if not ids:
        msg = "the list names no observation: an id a line expected"
        raise ValueError(msg)
    return download_spectra(ids, as_path(folder), **archive.model_dump())
