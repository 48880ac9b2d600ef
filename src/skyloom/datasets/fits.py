"""FITS images and tables as a Kedro dataset."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from kedro_datasets._typing import ImagePreview

from skyloom.datasets._base import _FileDataset

if TYPE_CHECKING:
    from astropy.io import fits
    from astropy.table import Table
    from matplotlib.figure import Figure


class FITSImage(NamedTuple):
    """The image of a FITS file and the header that describes it."""

    data: np.ndarray
    """The pixels, scaled by BSCALE and BZERO, in native byte order."""
    header: fits.Header | None = None
    """The header of the same HDU."""


class FITSDataset(_FileDataset):
    """A FITS file.

    Loads the first HDU that holds data, unless ``load_args`` says otherwise:

    ============================ ===================================================================
    ``hdu: 0`` or ``hdu: NAME``  that HDU, by its position or by its EXTNAME
    ``hdu: null``                all HDUs as an `astropy.io.fits.HDUList` that is fully in memory:
                                 the file is closed. Pixels and columns are as astropy reads them.
    other arguments              go to `astropy.io.fits.open`
    ============================ ===================================================================

    An image HDU becomes a `FITSImage`, a tuple ``(data, header)``. A table HDU becomes an
    `astropy.table.Table` with units and masks; its header's keywords are in ``table.meta``, where
    astropy keeps them and writes them from. Both are in native byte order, except for the arrays
    inside of table columns of variable length.

    Saves a `FITSImage`, an array, an `astropy.table.Table`, a single HDU or an
    `astropy.io.fits.HDUList`, compressed if the name ends in ``.gz``; ``save_args`` go to
    ``writeto``, such as ``checksum: true``. What an observatory's header has against the standard
    is corrected where astropy can and kept where it cannot, so that what loads can be saved;
    ``output_verify: exception`` refuses it.

    Examples
    --------
    A folder of spectra, each loaded when it is needed:

    .. code-block:: yaml

        spectra:
          type: partitions.PartitionedDataset
          path: data/01_raw/spectra
          filename_suffix: .fits
          dataset:
            type: skyloom.datasets.FITSDataset
            load_args: {hdu: 1}
    """

    def preview(self) -> ImagePreview:
        """Draw the image, or the first numeric columns of the table, for kedro-viz.

        Returns
        -------
        ImagePreview
            A PNG picture: an image in grey (of a cube, its first plane); a spectrum along the axis
            that its header describes; one panel for each of up to four columns.
        """
        from skyloom.datasets import _draw

        content = self.load()
        if not isinstance(content, FITSImage) and isinstance(content, list):  # an HDUList
            content = _content(_first_with_data(content))
        figure = _draw.new_figure(self._filepath.name)
        if isinstance(content, FITSImage):
            _draw_image(figure, content)
        else:
            _draw_table(figure, content)
        return _draw.png(figure)

    def _read(self, path: str) -> FITSImage | Table | fits.HDUList:
        from astropy.io import fits

        args = {"hdu": _first_with_data} | self._load_args
        wanted = args.pop("hdu")
        with fits.open(path, **{"memmap": False, "lazy_load_hdus": False} | args) as hdus:
            if wanted is None:
                for hdu in hdus:
                    _ = hdu.data  # astropy reads it now
                return hdus
            try:
                hdu = wanted(hdus) if callable(wanted) else hdus[wanted]
            except (IndexError, KeyError):
                found = ", ".join(f"{i} {hdu.name}".strip() for i, hdu in enumerate(hdus))
                raise ValueError(f"there is no HDU {wanted!r}; there are: {found}") from None
            return _content(hdu)

    def _write(self, data: Any, path: str) -> None:
        from astropy.io import fits
        from astropy.table import Table

        if isinstance(data, np.ndarray):
            data = FITSImage(data)
        if isinstance(data, FITSImage):
            try:
                data = fits.PrimaryHDU(*data)
            except KeyError as error:  # astropy's way to say it
                raise TypeError(f"a FITS image cannot hold numbers of type {error}") from error
        elif isinstance(data, Table):
            data = fits.table_to_hdu(data)
        elif not hasattr(data, "writeto"):
            raise TypeError(f"FITSDataset cannot save a {type(data).__name__}")
        with (gzip.open if self._filepath.suffix == ".gz" else open)(path, "wb") as file:
            data.writeto(file, **{"output_verify": "silentfix+ignore"} | self._save_args)


def _first_with_data(hdus: fits.HDUList) -> Any:
    for hdu in hdus:
        if hdu.data is not None:
            return hdu
    raise ValueError("none of its HDUs holds data")


def _content(hdu: Any) -> FITSImage | Table:
    from astropy.table import Table

    if hdu.data is None:
        raise ValueError(f"its HDU {hdu.name} holds no data")
    if hdu.is_image:
        return FITSImage(_native(hdu.data), hdu.header)
    table = Table.read(hdu)
    for name, column in table.columns.items():
        if isinstance(column, np.ndarray) and not column.dtype.isnative:
            table.replace_column(name, _native(column))
    return table


def _native(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _draw_image(figure: Figure, image: FITSImage) -> None:
    from skyloom.datasets._draw import draw_image

    axes = figure.subplots()
    pixels = image.data.squeeze()
    while pixels.ndim > 2:
        pixels = pixels[0]
    if pixels.ndim == 2:
        draw_image(axes, pixels)
        axes.set(xlabel="x (pixel)", ylabel="y (pixel)")
    else:
        pixels = np.atleast_1d(pixels)
        values, label = _axis(image)
        axes.plot(values, pixels, drawstyle="steps-mid", linewidth=1)
        axes.set(xlabel=label, ylabel=image.header.get("BUNIT", "value"))


def _axis(image: FITSImage) -> tuple[np.ndarray, str]:
    """Return the coordinates of a spectrum's channels and what they are, from the header's WCS."""
    import warnings

    from astropy.wcs import WCS

    channels = np.arange(image.data.size)
    axis = image.data.ndim - int(np.argmax(image.data.shape))  # FITS counts from the other end
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the header's dialect; this is only a picture
        try:
            wcs = WCS(image.header, naxis=[axis])
            values = wcs.pixel_to_world_values(channels)
        except ValueError:
            return channels, "pixel"
    unit = f" ({wcs.wcs.cunit[0]})" if str(wcs.wcs.cunit[0]) else ""
    return values, (wcs.wcs.ctype[0] or f"axis {axis}") + unit


def _draw_table(figure: Figure, table: Table) -> None:
    columns = [
        column
        for column in table.itercols()
        if isinstance(column, np.ndarray) and column.dtype.kind in "biuf"
    ][:4]
    if not columns:
        raise ValueError("the table has no numeric column to draw")
    panels = figure.subplots(len(columns), squeeze=False)[:, 0]
    for axes, column in zip(panels, columns, strict=True):
        # A column of arrays: the first row's array.
        values = column if column.ndim == 1 else column[:1].ravel()
        axes.plot(values, linewidth=1, marker="." if len(values) < 100 else "")
        axes.set_ylabel(f"{column.name} ({column.unit})" if column.unit else column.name)
    panels[-1].set_xlabel("row" if columns[-1].ndim == 1 else "element of row 0")
