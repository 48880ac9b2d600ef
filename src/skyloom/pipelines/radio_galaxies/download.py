"""Node function of the download: cut-outs of a source list, from the archive."""

from __future__ import annotations

import pandas as pd

from skyloom.archives.catalogues import sources_to_fetch
from skyloom.archives.downloads import as_path
from skyloom.archives.first import download_cut_outs
from skyloom.pipelines.radio_galaxies.parameters import ArchiveParameters


def fetch_cut_outs(
    source_list: pd.DataFrame, folder: str, archive: ArchiveParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fetch the cut-outs of a source list that are not there yet, and write its labels down.

    Returns
    -------
    manifest : pandas.DataFrame
        Of each source what came or why not, with rows of the list that name no place.
    labels : pandas.DataFrame
        ``id``, ``ra``, ``dec`` and ``class``, a label table for the ingestion.

    Raises
    ------
    ValueError
        If the list cannot be read, or names no source.
    """
    columns = {"ra_column", "dec_column", "class_column", "id_column"}
    sources, failed = sources_to_fetch(source_list, **archive.model_dump(include=columns))
    options = archive.model_dump(exclude=columns)
    manifest = download_cut_outs(sources, as_path(folder), **options)
    return pd.concat([manifest, failed], ignore_index=True), sources
