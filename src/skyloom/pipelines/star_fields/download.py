"""Node function of the download: fields of a list, or at random positions, from the archives."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skyloom.archives.catalogues import sources_to_fetch
from skyloom.archives.downloads import as_path
from skyloom.archives.sky_survey import download_fields, draw_positions
from skyloom.pipelines.star_fields.parameters import ArchiveParameters


def fetch_fields(
    source_list: pd.DataFrame, folder: str, archive: ArchiveParameters
) -> pd.DataFrame:
    """Fetch the fields that are not there yet.

    Parameters
    ----------
    source_list : pandas.DataFrame of str
        As of `skyloom.raw_files.tables.read_table`; without columns where no list is given, then
        positions are random.
    folder : str
        Where the fields go.
    archive : ArchiveParameters
        ``star_fields.archive``.

    Returns
    -------
    pandas.DataFrame
        Of each field what came or why not, with rows of the list that name no place.

    Raises
    ------
    ValueError
        If the list cannot be read, or names no place; or SkyView has no such survey.
    """
    columns = {"ra_column", "dec_column", "id_column"}
    bounds = {"n_fields", "max_declination", "min_galactic_latitude"}
    if len(source_list.columns):
        sources, failed = sources_to_fetch(source_list, **archive.model_dump(include=columns))
    else:
        rng = np.random.default_rng(archive.seed)
        sources, failed = draw_positions(rng=rng, **archive.model_dump(include=bounds)), None
    options = archive.model_dump(exclude=columns | bounds | {"seed"})
    manifest = download_fields(sources, as_path(folder), **options)
    return manifest if failed is None else pd.concat([manifest, failed], ignore_index=True)
