"""Tables of stars as their authors wrote them."""

import numpy as np
import pytest

from skyloom.raw_files.names import object_name
from skyloom.spectra.optical.spectral_types import parse_spectral_type
from skyloom.spectra.optical.star_tables import star_table, table_key

MILES = """Name                  MILES   CaT   SpT            Teff   log g   [Fe/H]  Refs
                      s????
 - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - --
BD+002058A             0272         sd:F            6024   4.50    -1.44   131
HD002857               0021         07Ia            4238   0.34    -1.49   221         I
NGC 7789 875(873) Cl   0983   154    HB             4952   2.62    -0.13   1     L
"""


def test_the_parameters_of_miles_name_stars_types_and_numbers():
    table = star_table(MILES)
    assert table["name"].tolist() == ["BD+002058A", "HD002857", "NGC 7789 875(873) Cl"]
    assert table["type"].tolist() == ["sd:F", "07Ia", "HB"]
    assert table["file"].tolist() == ["miles 0272", "miles 0021", "miles 0983"]
    assert (table["velocity"] == 0).all()  # the library is at rest
    assert table_key("x/MILES_res2.50_star_m0272V.fits") == "miles 0272"


@pytest.mark.parametrize("delimiter", ["|", ",", ";", "\t"])
def test_a_catalogue_of_spectra_has_types_velocities_and_places(delimiter):
    text = (
        "obsid|rv|ra|dec|subclass|filename\n"
        "7|-12.5|10.25|-3|A1V|spec-1.fits.gz\n8|-9999|11||dM2|spec-2.fits\n"
    ).replace("|", delimiter)
    table = star_table(text)
    assert table["file"].tolist() == ["spec-1", "spec-2"]
    assert table["type"].tolist() == ["A1V", "dM2"]
    np.testing.assert_array_equal(table["velocity"], [-12.5, np.nan])
    np.testing.assert_array_equal(table["ra"], [10.25, 11])
    np.testing.assert_array_equal(table["dec"], [-3, np.nan])
    assert (table["name"] == "").all()


@pytest.mark.parametrize(
    "text",
    ["", "one column\n1\n", "FLUX,WAVELENGTH\n1,4000\n", "a,subclass\n1,G2\n", "<html>,</html>"],
)
def test_other_text_is_no_table_of_stars(text):
    assert star_table(text) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("HD 2857", "HD002857"), ("hd2857", "HD_2857"), ("BD+002058A", "BD+2058A"), ("M 31", "M31")],
)
def test_stars_have_one_name(one, other):
    assert object_name(one) == object_name(other)


def test_different_stars_have_different_names():
    assert object_name("HD 2857") != object_name("HD 28570")
    assert object_name("J221202.24+291221.8") != object_name("J221202.24+291221.08")
    assert object_name("") == ""


def test_real_tables_name_the_real_files(real_observations):
    folder = real_observations.parent / "stellar_spectra"
    miles = star_table((folder / "miles/paramsMILES_v9.1.txt").read_text())
    files = [table_key(path.name) for path in folder.glob("miles/*.fits")]
    assert len(set(files) & set(miles["file"])) == len(files) - 1 == 681
    lamost = star_table((folder / "lamost/my_data3.csv").read_text())
    files = [table_key(path.name) for path in folder.glob("lamost/*.fits")]
    assert len(set(files) & set(lamost["file"])) == 96
    classes = miles["type"].map(lambda text: parse_spectral_type(text).spectral_class)
    assert set(classes) == {"", *"OBAFGKM"}
    # Stars of two libraries are the same ones.
    stelib = {object_name(path.stem.rpartition("_")[2]) for path in folder.glob("stelib/*.fits")}
    assert len(stelib & set(map(object_name, miles["name"]))) > 60
