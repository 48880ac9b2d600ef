"""LAMOST spectra through specutils' own front door."""

import gzip

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import InverseVariance

from skyloom.simulate.stellar_spectra import draw_truth, observe, to_hdu, wavelength_grid

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def spectrum_class():
    from specutils import Spectrum

    from skyloom.spectra.optical import specutils_loaders

    assert specutils_loaders.__doc__
    return Spectrum


@pytest.fixture(scope="module")
def observed():
    rng = np.random.default_rng(0)
    truth = draw_truth(1, rng)
    flux, inverse_variance = observe(truth, rng)
    return truth.iloc[0], flux[0], inverse_variance[0]


def image(observed, path):
    to_hdu(*observed).writeto(path)
    return path


def table(observed, path):
    row, flux, inverse_variance = observed
    columns = {"FLUX": flux, "IVAR": inverse_variance, "WAVELENGTH": wavelength_grid(),
               "ANDMASK": np.zeros(3909), "ORMASK": np.zeros(3909)}  # fmt: skip
    made = fits.BinTableHDU.from_columns(
        [fits.Column(name, "3909E", array=[values]) for name, values in columns.items()]
    )
    primary = fits.PrimaryHDU()
    primary.header.update(to_hdu(row, flux, inverse_variance).header.copy(strip=True))
    fits.HDUList([primary, made]).writeto(path)
    return path


@pytest.mark.parametrize("write", [image, table])
@pytest.mark.parametrize("packed", [False, True])
def test_spectrum_read_knows_both_layouts(spectrum_class, observed, tmp_path, write, packed):
    path = write(observed, tmp_path / "spec-1.fits")
    if packed:
        (tmp_path / "spec-1.fits.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "spec-1.fits.gz"
    row, flux, inverse_variance = observed
    read = spectrum_class.read(path)
    np.testing.assert_allclose(read.flux.value, flux)
    np.testing.assert_allclose(read.spectral_axis.to_value(u.AA), wavelength_grid(), rtol=1e-6)
    assert isinstance(read.uncertainty, InverseVariance)
    np.testing.assert_allclose(read.uncertainty.array, inverse_variance)
    assert not read.mask.any()
    assert read.meta["radial_velocity"].to_value(u.km / u.s) == pytest.approx(row["velocity"])
    assert read.meta["spectral_type"][0] == row["class"]
    assert read.meta["header"]["TELESCOP"] == "LAMOST"


def test_an_open_file_is_read_too(spectrum_class, observed, tmp_path):
    path = image(observed, tmp_path / "spec-1.fits")
    with path.open("rb") as file:
        read = spectrum_class.read(file, format="LAMOST image")
    assert len(read.flux) == 3909


def test_other_files_are_left_to_other_readers(spectrum_class, tmp_path):
    hdu = fits.PrimaryHDU(np.ones((5, 100)))
    hdu.writeto(tmp_path / "other.fits")
    with pytest.raises(Exception, match="Format could not be identified"):
        spectrum_class.read(tmp_path / "other.fits")


def test_a_real_spectrum_is_read(spectrum_class, real_observations):
    folder = real_observations.parent / "stellar_spectra" / "lamost"
    path = sorted(folder.glob("*.fits"))[0]
    read = spectrum_class.read(path)
    assert read.meta["spectral_type"] == "F9"
    assert read.spectral_axis[0].value == pytest.approx(3700, abs=0.1)
