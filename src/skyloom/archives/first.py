"""The cut-out service of the FIRST survey."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from skyloom.archives.downloads import Downloader, Wanted
from skyloom.images.readers import read_cut_out

ADDRESS = "https://third.ucllnl.org/cgi-bin/firstcutout"


def wanted_cut_outs(
    sources: pd.DataFrame, *, size: float = 4.5, address: str = ADDRESS
) -> list[Wanted]:
    """What to ask of the service for each source.

    Parameters
    ----------
    sources : pandas.DataFrame
        ``id``, ``ra`` and ``dec`` (ICRS, deg).
    size : float
        Side of a cut-out, arcmin; 4.5 are 150 pixels.
    address : str
        Of the service.

    Returns
    -------
    list of Wanted
    """
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    places = SkyCoord(sources["ra"].to_numpy(float), sources["dec"].to_numpy(float), unit=u.deg)
    written = places.to_string("hmsdms", sep=" ", precision=3)
    constant = {"Equinox": "J2000", "ImageSize": f"{size:g}", "ImageType": "FITS File"}
    return [
        Wanted(f"{name}.fits", address, {"RA": place, **constant})
        for name, place in zip(sources["id"].astype(str), written, strict=True)
    ]


def download_cut_outs(
    sources: pd.DataFrame,
    folder: Path,
    *,
    size: float = 4.5,
    address: str = ADDRESS,
    interval: float = 1.0,
    retries: int = 4,
    backoff: float = 2.0,
    timeout: float = 60.0,
) -> pd.DataFrame:
    """Fetch the cut-outs of sources that are not in a folder yet.

    Parameters
    ----------
    sources : pandas.DataFrame
        ``id``, ``ra`` and ``dec`` (ICRS, deg).
    folder : pathlib.Path
        Where they go, named after their ids.
    size, address
        As in `wanted_cut_outs`.
    interval, retries, backoff, timeout
        As in `skyloom.archives.downloads.Downloader`.

    Returns
    -------
    pandas.DataFrame
        As of `skyloom.archives.downloads.Downloader.download`.

    References
    ----------
    Becker, White & Helfand (1995), ApJ 450, 559.
    """
    downloader = Downloader(
        read_cut_out, interval=interval, retries=retries, backoff=backoff, timeout=timeout
    )
    return downloader.download(wanted_cut_outs(sources, size=size, address=address), folder)
