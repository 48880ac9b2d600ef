import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from skyloom.archives.catalogues import read_sources
from skyloom.pipelines.radio_galaxies.download import fetch_cut_outs
from skyloom.pipelines.radio_galaxies.parameters import ArchiveParameters
from skyloom.raw_files.tables import read_table

PLACE = (188.7375, -1.39583)

LAYOUTS = {
    "decimal CSV": "name,ra,dec,type\n3C 1,188.7375,-1.39583,FRI\n",
    "decimal, other names": "RAJ2000;DEJ2000;type\n188.7375;-1.39583;FRI\n",
    "blanks": "ra dec type\n188.7375 -1.39583 FRI\n",
    "colons": "ra,dec,type\n12:34:57.0,-01:23:45.0,FRI\n",
    "letters": "ra,dec,type\n12h34m57.0s,-01d23m45.0s,FRI\n",
    "sexagesimal in quotes": 'ra,dec,type\n"12 34 57.0","-01 23 45.0",FRI\n',
    "tabs": "ra\tdec\ttype\n12 34 57.0\t-01 23 45.0\tFRI\n",
    "CDS columns": "RAh,RAm,RAs,DE-,DEd,DEm,DEs,type\n12,34,57.0,-,01,23,45.0,FRI\n",
    "comments": "# from a paper\n# ra dec type\n188.7375 -1.39583 FRI\n",
    "VizieR": (
        "#\n#   VizieR Astronomical Server\n#Coosys\tJ2000\n#\n_RAJ2000\t_DEJ2000\ttype\n"
        "deg\tdeg\t \n----------\t----------\t----\n188.7375\t-01.39583\tFRI\n"
    ),
    "decimal commas": "\ufeffRA;DEC;type\r\n188,7375;-1,39583;FRI\r\n",
    "fixed width": (
        "|   ra     |   dec    | type |\n| 188.7375 | -1.39583 | FRI  |\n"
        "| 10.5     | 41.25    | FRII |\n"
    ),
}


def sources_of(text, **columns):
    return read_sources(read_table("list.txt", text.encode())[0], **columns)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_coordinates_are_read_however_they_are_written(layout):
    sources, rejected = sources_of(LAYOUTS[layout], class_column="type")
    assert tuple(sources.loc[0, ["ra", "dec"]]) == pytest.approx(PLACE, abs=2e-5)
    assert sources["class"][0] == "FRI"
    assert sources["id"][0] == "J123457.0-012345"
    assert rejected.empty


@settings(deadline=None)
@given(st.floats(0, 359.99), st.floats(-89.9, 89.9))
def test_a_position_comes_back_from_any_spelling(ra, dec):
    place = SkyCoord(ra, dec, unit=u.deg)
    for sep in (":", " ", "hms"):
        hours = place.ra.to_string(u.hourangle, sep=sep, precision=4, pad=True)
        degrees = place.dec.to_string(
            u.deg, sep="dms" if sep == "hms" else sep, precision=3, pad=True, alwayssign=True
        )
        sources, _ = sources_of(f'ra,dec\n"{hours}","{degrees}"\n')
        found = SkyCoord(sources["ra"][0], sources["dec"][0], unit=u.deg)
        assert found.separation(place) < 0.005 * u.arcsec


def test_minus_zero_degrees_is_south():
    sources, _ = sources_of("ra,dec\n10:00:00,-00:30:00\n")
    assert sources["dec"][0] == pytest.approx(-0.5)
    sources, _ = sources_of("RAh,RAm,RAs,DE-,DEd,DEm,DEs\n10,0,0,-,0,30,0\n")
    assert sources["dec"][0] == pytest.approx(-0.5)


def test_lines_without_coordinates_are_listed():
    text = "id,ra,dec\na,10,20\nb,,20\nc,12:61:00,1\nd,400,1\ne,10,-91\nf,nan,3\ng,11,21\n"
    sources, rejected = sources_of(text, id_column="id")
    assert sources["id"].tolist() == ["a", "g"]
    assert rejected["row"].tolist() == [2, 3, 4, 5, 6]
    assert rejected["value"][1] == "'12:61:00', '1'"
    assert set(rejected["reason"]) == {"no coordinates"}


def test_ids_and_classes_stay_text():
    sources, _ = sources_of("id,ra,dec,c\n007,1,2,1\n010,3,4,2\n", id_column="id", class_column="c")
    assert sources["class"].tolist() == ["1", "2"]
    assert sources["id"].tolist() == ["007", "010"]


def test_columns_can_be_named():
    text = "x,y,ra,dec\n10.0,20.0,1.0,2.0\n"
    sources, _ = sources_of(text, ra_column="x", dec_column="y")
    np.testing.assert_allclose(sources[["ra", "dec"]], [[10, 20]])


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n", {}, "no column for ra among a, b: name it in the parameters"),
        ("ra,b\n1,2\n", {}, "no column for dec among ra, b"),
        ("ra,dec\n1,2\n", {"class_column": "type"}, "no column 'type', only ra, dec"),
        ("ra,dec\n1,2\n", {"ra_column": "x"}, "no column 'x', only ra, dec"),
    ],
)
def test_what_is_missing_is_named(text, options, message):
    with pytest.raises(ValueError, match=message):
        sources_of(text, **options)


def test_a_list_without_one_position_is_refused_with_its_rows(tmp_path):
    listed, _ = read_table("list.csv", b"ra,dec\nx,y\n400,1\n")
    with pytest.raises(
        ValueError, match=r"names no place: 2 rows .* row 1: no coordinates: 'x', 'y'"
    ):
        fetch_cut_outs(listed, str(tmp_path), ArchiveParameters())
