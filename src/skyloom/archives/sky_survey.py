"""Star fields from the archives: images of SkyView, their stars from VizieR."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from skyloom.archives.catalogues import position_names
from skyloom.archives.downloads import Downloader, RefusedError, Wanted
from skyloom.images.sky import SkyImage, published_hdus, read_sky_image
from skyloom.images.stars import star_discs
from skyloom.raw_files import UnusableError
from skyloom.raw_files.positions import positions_of_table
from skyloom.raw_files.tables import find_column

SKYVIEW = "https://skyview.gsfc.nasa.gov/current/cgi/basicform.pl"
VIZIER = "https://vizier.cds.unistra.fr/viz-bin/votable"
FIELD_COLUMNS = ("ra", "dec", "pixel_scale", "n_stars")
"""What the manifest of fields has besides: deg, arcsec, and stars in the catalogue of the file."""

NO_STAR = "the catalogue has no star here"


def draw_positions(
    n_fields: int,
    rng: np.random.Generator,
    *,
    max_declination: float = 60.0,
    min_galactic_latitude: float = 10.0,
) -> pd.DataFrame:
    """Random positions outside the galactic plane, uniform on the sphere.

    Parameters
    ----------
    n_fields : int
        How many. More of them begin with the same ones.
    rng : numpy.random.Generator
    max_declination : float
        North and south, deg; above 0.
    min_galactic_latitude : float
        Of either sign, deg; up to 60, so that there is such a place whatever the declination.

    Returns
    -------
    pandas.DataFrame
        ``id`` (made of the coordinates), ``ra`` and ``dec`` (ICRS, deg).

    Raises
    ------
    ValueError
        If there may be no such position.
    """
    from astropy.coordinates import SkyCoord

    if not (0 < max_declination <= 90 and 0 <= min_galactic_latitude <= 60):
        msg = (
            "max_declination must be in (0, 90] and min_galactic_latitude in [0, 60] deg, got "
            f"{max_declination} and {min_galactic_latitude}"
        )
        raise ValueError(msg)
    highest = np.sin(np.radians(max_declination))
    found = np.zeros((0, 2))
    while len(found) < n_fields:
        uniform = rng.random((max(n_fields, 100), 2))
        dec = np.degrees(np.arcsin(highest * (2 * uniform[:, 1] - 1)))
        drawn = np.column_stack([360 * uniform[:, 0], dec])
        latitude = SkyCoord(*drawn.T, unit="deg").galactic.b.deg
        found = np.concatenate([found, drawn[np.abs(latitude) > min_galactic_latitude]])
    positions = pd.DataFrame(found[:n_fields], columns=["ra", "dec"])
    positions.insert(0, "id", position_names(positions))
    return positions


def download_fields(
    sources: pd.DataFrame,
    folder: Path,
    *,
    survey: str = "DSS",
    size: int = 1024,
    side: float = 0.5,
    catalogue: str = "II/246",
    magnitude_column: str = "Jmag",
    catalogue_radius: float = 0.35,
    skyview_address: str = SKYVIEW,
    vizier_address: str = VIZIER,
    interval: float = 1.0,
    retries: int = 4,
    backoff: float = 2.0,
    timeout: float = 120.0,
) -> pd.DataFrame:
    """Fetch the fields that are not in a folder yet, each an image and its catalogue in one file.

    Parameters
    ----------
    sources : pandas.DataFrame
        ``id``, ``ra`` and ``dec`` (ICRS, deg) of the middles.
    folder : pathlib.Path
        Where they go, as ``<id>.fits``, made by `skyloom.images.sky.published_hdus`.
    survey : str
        As SkyView calls it.
    size : int
        Pixels on a side.
    side : float
        Of the image, deg.
    catalogue : str
        Of VizieR.
    magnitude_column : str
        Of the catalogue; it says how large the discs of the pixel mask are.
    catalogue_radius : float
        Within which stars are asked for, deg. Their number has no limit.
    skyview_address, vizier_address : str
        Of SkyView's form, and of VizieR's service for VOTables.
    interval, retries, backoff, timeout
        As in `skyloom.archives.downloads.Downloader`, of each request.

    Returns
    -------
    pandas.DataFrame
        As of `skyloom.archives.downloads.Downloader.download`, with `FIELD_COLUMNS`. A field
        without any star of the catalogue is kept, with `NO_STAR` for a reason.

    Raises
    ------
    ValueError
        If SkyView has no such survey, or an id is no plain name or occurs twice.

    References
    ----------
    McGlynn, Scollick & White (1998), IAU Symp. 179, 465 (SkyView). Ochsenbein, Bauer & Marcout
    (2000), A&AS 143, 23 (VizieR). Skrutskie et al. (2006), AJ 131, 1163 (2MASS, II/246).
    """
    from astropy.coordinates import SkyCoord

    known: dict[str, tuple[float, int]] = {}

    def check(name, content):
        known[name] = _about(name, content)

    downloader = Downloader(
        check, interval=interval, retries=retries, backoff=backoff, timeout=timeout
    )
    sky_view, stars_of = _sky_view(downloader, skyview_address), _vizier(downloader, vizier_address)
    places = {
        f"{name}.fits": SkyCoord(ra, dec, unit="deg")
        for name, ra, dec in sources[["id", "ra", "dec"]].itertuples(index=False)
    }

    def fetch(item):
        place = places[item.file]
        with _told_of("SkyView"):
            _check_survey(sky_view, survey)
            # Width and height: what a radius means has changed with the versions of astroquery.
            (address, *_) = sky_view.get_image_list(
                place, survey, coordinates="J2000", pixels=str(size), width=f"{side} deg",
                height=f"{side} deg",
            )  # fmt: skip
            image = downloader.request(address, check=_image_of).content
        with _told_of("VizieR"):
            stars = stars_of(place, catalogue, magnitude_column, catalogue_radius)
        content = _field_of(image, stars, magnitude_column)
        check(item.file, content)
        return content

    wanted = [Wanted(f"{name}.fits", skyview_address, {}) for name in sources["id"]]
    manifest = downloader.download(wanted, folder, fetch)
    manifest[["ra", "dec"]] = sources[["ra", "dec"]].to_numpy(float)
    about = [known.get(name, (np.nan, pd.NA)) for name in manifest["file"]]
    manifest["pixel_scale"] = [scale for scale, _ in about]
    manifest["n_stars"] = pd.array([number for _, number in about], dtype="Int64")
    manifest.loc[(manifest["n_stars"] == 0).fillna(False), "reason"] = NO_STAR
    return manifest


@contextmanager
def _told_of(service: str) -> Iterator[None]:
    """Say which service it was that refused."""
    try:
        yield
    except (RefusedError, UnusableError) as error:
        raise RefusedError(f"{service}: {error}") from error


# astroquery asks through _request alone. Its own may wait for a server for ever, asks for the form
# with every field, and keeps answers, bad ones too, in the home folder. What it knows of the
# services is used all the same: the form, the query, and how what comes is read.


def _sky_view(downloader: Downloader, address: str) -> Any:
    """SkyView, asked politely."""
    from astroquery.skyview import SkyViewClass

    forms = {}

    def request(_, url, params=None, **__):
        if params is not None:
            return downloader.request(url, params=params, check=_check_page)
        if url not in forms:
            forms[url] = downloader.request(url, check=_check_form)
        return forms[url]

    sky_view = SkyViewClass()
    sky_view.URL = address
    sky_view._request = request
    return sky_view


def _vizier(downloader: Downloader, address: str) -> Any:
    """Function that asks VizieR politely for the stars about a place."""
    from astropy.coordinates import Angle
    from astroquery.exceptions import TableParseError
    from astroquery.vizier import VizierClass

    def request(*, method, data, **_):  # its url is made of the name of a mirror
        return downloader.request(address, method=method, data=data, check=_check_votable)

    vizier = VizierClass(row_limit=-1)
    vizier._request = request

    def stars_of(place, catalogue, magnitude_column, radius):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of units and dialects
                tables = vizier.query_region(
                    place, radius=Angle(radius, "deg"), catalog=catalogue, frame="icrs"
                )
                tables = [table.to_pandas() for table in tables]
        except (TableParseError, ValueError) as error:
            raise UnusableError("unreadable table", str(error)[:200]) from error
        if not tables:
            return pd.DataFrame({"RAJ2000": [], "DEJ2000": [], magnitude_column: []}, dtype=float)
        for table in tables:
            if find_column(table, magnitude_column) is not None:
                return table
        columns = ", ".join(dict.fromkeys(name for table in tables for name in table.columns))
        raise UnusableError(f"no column {magnitude_column!r} in {catalogue}", f"only {columns}")

    return stars_of


def _check_survey(sky_view, survey):
    from difflib import get_close_matches

    surveys = [name for group in sky_view.survey_dict.values() for name in group]
    if survey not in surveys:
        similar = get_close_matches(survey, surveys, n=3, cutoff=0)
        msg = f"SkyView has no survey {survey!r}; did you mean one of {', '.join(similar)}?"
        raise ValueError(msg)


def _page(content):
    from bs4 import BeautifulSoup

    return BeautifulSoup(content, "html.parser")


def _words(page):
    return " ".join(page.get_text(" ").split())[:120] or "an empty page"


def _check_form(content: bytes) -> None:
    page = _page(content)
    whole = b"</html" in content.lower()  # half a form would have half of the surveys
    if not whole or page.find("form") is None or page.find("select", {"name": "survey"}) is None:
        raise UnusableError("not the form", _words(page))


def _check_page(content: bytes) -> None:
    page = _page(content)
    if not any(link.text == "FITS" and link.get("href") for link in page.find_all("a")):
        raise UnusableError("no link to an image", _words(page))


def _check_votable(content: bytes) -> None:
    # astroquery reads what begins so; and takes an error for a table without rows.
    if not content.startswith(b"<?xml"):
        raise UnusableError("not a VOTable", repr(content[:60].decode(errors="replace")))
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise UnusableError("not a whole VOTable", error) from error
    if not root.tag.endswith("VOTABLE"):
        raise UnusableError("not a VOTable", root.tag)
    for info in root.iter():
        if not info.tag.endswith("INFO"):
            continue
        names = {info.get("name"), info.get("ID")}
        said = " ".join((info.text or "").split())
        failed = "QUERY_STATUS" in names and info.get("value") == "ERROR"
        if failed or ("Errors" in names and "****" in said):  # ++++ are warnings
            raise UnusableError("an error in place of a table", said[:120])


def _image_of(content: bytes, name: str = "image") -> SkyImage:
    image = read_sky_image(name, content)
    if image.wcs is None:
        raise UnusableError("no WCS", image.wcs_problem)
    seen = image.image[np.isfinite(image.image)]
    if not seen.size or np.ptp(seen) == 0:
        raise UnusableError("nothing in the image", f"all pixels are {seen[:1]}")
    return image


def _about(name: str, content: bytes) -> tuple[float, int]:
    """Pixel scale (arcsec) and number of stars of a field."""
    image = _image_of(content, name)
    if image.catalogue is None:
        raise UnusableError("no catalogue", "an image alone")
    return image.pixel_scale, len(image.catalogue)


def _field_of(content: bytes, stars: pd.DataFrame, magnitude_column: str) -> bytes:
    """The file of a field."""
    from astropy.io import fits

    image = _image_of(content)
    try:
        places = positions_of_table(stars)
    except KeyError as error:
        raise UnusableError("no positions in the catalogue", error.args[0]) from error
    x, y = image.pixel_positions(places["ra"].to_numpy(), places["dec"].to_numpy())
    magnitude = pd.to_numeric(stars[find_column(stars, magnitude_column)], errors="coerce")
    drawn = np.column_stack([x, y, magnitude.to_numpy(float, na_value=np.nan)])
    mask = star_discs(drawn[np.isfinite(drawn).all(axis=1)], image.image.shape)
    # FITS has neither text that is missing nor letters beyond ASCII.
    words = {
        name: stars[name].fillna("").astype(str).str.encode("ascii", "replace").str.decode("ascii")
        for name in stars.select_dtypes(exclude=["number", "bool"])
    }
    stream = io.BytesIO()
    with warnings.catch_warnings(), fits.open(io.BytesIO(content)) as hdus:
        warnings.simplefilter("ignore")  # of cards that are not as the standard has them
        made = published_hdus(image.image, hdus[0].header, stars.assign(**words), mask)
        made.writeto(stream, output_verify="silentfix+ignore")
    return stream.getvalue()
