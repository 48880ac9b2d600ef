"""Files become stars: tables are found, names joined, and everything else is listed."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from skyloom.pipelines.stellar_spectra.ingestion import ingest_spectra
from skyloom.pipelines.stellar_spectra.parameters import IngestionParameters
from skyloom.simulate.stellar_spectra import draw_truth, observe, to_hdu
from skyloom.spectra.optical.preparation import unstack_spectra

NOTHING = pd.DataFrame()
PARAMETERS = IngestionParameters()
TRUTH = draw_truth(6, np.random.default_rng(1), snr=(20.0, 40.0))
FLUX, WEIGHT = observe(TRUTH, np.random.default_rng(2))


def contents(number=0, **header):
    hdu = to_hdu(TRUTH.iloc[number], FLUX[number], WEIGHT[number])
    hdu.header.update(header)
    return content_of(hdu)


def content_of(hdu):
    import io

    stream = io.BytesIO()
    fits.HDUList([hdu]).writeto(stream)
    return stream.getvalue()


def files_of(**named):
    return {name: (lambda content=content: content) for name, content in named.items()}


def ingest(files, labels=NOTHING, parameters=PARAMETERS):
    stars, spectra, rejected = ingest_spectra(files, labels, parameters)
    return stars.set_index("id"), spectra.compute(), rejected


def test_every_file_is_a_star_or_listed_with_its_reason():
    whole = contents()
    files = files_of(**{
        "a.fits": whole,
        "b.fits": whole[:3000],
        "c.fits": b"",
        "d.txt": b"just words\n",
        "e.png": b"\x89PNG\x00\x01",
        "f.fits": content_of(fits.PrimaryHDU(np.zeros((5, 3909), np.float32))),
        "g.fits": content_of(fits.PrimaryHDU()),
    })  # fmt: skip
    stars, _, rejected = ingest(files)
    assert stars.index.tolist() == ["a"]
    assert sorted(rejected["file"]) == ["b.fits", "c.fits", "d.txt", "e.png", "f.fits", "g.fits"]
    assert (rejected["reason"].str.len() > 4).all()


def test_nothing_usable_is_one_clear_error():
    with pytest.raises(ValueError, match="none of 1 files holds a usable spectrum: 1 "):
        ingest_spectra(files_of(**{"a.fits": b"no"}), NOTHING, PARAMETERS)


def test_spectra_are_stacked_in_the_order_of_the_stars():
    short = content_of(
        fits.PrimaryHDU(
            np.linspace(1, 2, 500).astype(np.float32),
            fits.Header({"CRVAL1": 4000.0, "CDELT1": 2.0, "SPECTYPE": "K2"}),
        )
    )
    files = files_of(**{"b.fits": contents(1), "a.fits": short, "c.fits": contents(2)})
    stars, stack, _ = ingest(files)
    assert stars["n_pixels"].tolist() == [500, 3909, 3909]
    assert stack.shape == (500 + 2 * 3909, 4)
    spectra = unstack_spectra(stack, stars["n_pixels"], stars["velocity"])
    np.testing.assert_allclose(
        spectra[2].flux / np.median(spectra[2].flux), FLUX[2] / np.median(FLUX[2]), rtol=1e-4
    )
    assert np.isnan(spectra[0].inverse_variance).all()


def test_a_table_in_the_folder_has_the_class_and_the_velocity():
    table = b"obsid|rv|subclass|filename\n1|12.5|dM3|x\n2|-9999|F5|y.fits\n"
    files = files_of(**{
        "s/x.fits": contents(0, SUBCLASS="A1"), "s/y.fits": contents(1), "my_data3.csv": table
    })  # fmt: skip
    stars, _, rejected = ingest(files)
    assert rejected.empty
    assert stars["class"].to_dict() == {"x": "M", "y": "F"}
    assert stars["label_source"].unique().tolist() == ["table my_data3.csv"]
    assert stars.loc["x", "velocity"] == 12.5
    # A placeholder is none: the file's own is taken.
    assert stars.loc["y", "velocity"] == pytest.approx(TRUTH["velocity"][1], abs=0.01)
    assert stars["survey"].tolist() == ["s", "s"]


def test_the_label_table_has_the_last_word_and_is_joined_by_observation_id():
    labels = pd.DataFrame({"obsid": ["SIM0000000"], "subclass": ["K5"]})
    table = b"obsid|subclass\nSIM0000000|F5\n"
    stars, _, _ = ingest(files_of(**{"spec.fits": contents(), "t.csv": table}), labels)
    assert stars.loc["spec", ["class", "label_source"]].tolist() == ["K", "label table"]


def test_tables_are_joined_field_by_field_whatever_they_are_joined_by():
    """The catalogue by file name, the user's own by observation id and without a velocity."""
    table = b"filename|obsid|rv|subclass|snrg\nspec.fits|9|33.5|A1|8.5\n"
    labels = pd.DataFrame({"obsid": ["SIM0000000"], "subclass": ["K5"]})
    stars, _, _ = ingest(files_of(**{"spec.fits": contents(), "t.csv": table}), labels)
    assert stars.loc["spec", ["class", "velocity", "snr"]].tolist() == ["K", 33.5, 8.5]


def test_a_label_table_without_types_is_an_error():
    labels = pd.DataFrame({"id": ["a"], "colour": ["red"]})
    with pytest.raises(ValueError, match=r"one of spectral types .*has \['id', 'colour'\]"):
        ingest_spectra(files_of(**{"a.fits": contents()}), labels, PARAMETERS)


def test_a_table_that_names_none_of_the_spectra_is_told(caplog):
    ingest(files_of(**{"a.fits": contents(), "t.csv": b"filename,subclass\nelse,F5\n"}))
    assert "none of the 1 rows of the tables of stars is of a spectrum" in caplog.text


@pytest.mark.parametrize(
    ("header", "reason", "value"),
    [
        ({"SUBCLASS": "Carbon"}, "carbon star", "Carbon"),
        ({"SUBCLASS": "G8/K0III"}, "between two classes", "G8/K0III"),
        ({"SUBCLASS": "A1", "SNRG": 3.2}, "too noisy", "S/N 3.2"),
    ],
)
def test_what_is_not_kept_says_why(header, reason, value):
    stars, _, _ = ingest(files_of(**{"a.fits": contents(**header)}))
    assert stars.loc["a", ["keep", "reason", "value"]].tolist() == [False, reason, value]


def test_one_star_is_known_by_position_name_or_content():
    here = {"RA": 10.0, "DEC": 20.0}
    files = files_of(**{
        "a.fits": contents(0, **here), "b.fits": contents(1, RA=10.0005, DEC=20.0),
        "c.fits": contents(2, RA=11.0, DEC=20.0), "d.fits": contents(0, **here),
        "e.fits": contents(3, RA=-9999.0, DEC=-9999.0),
    })  # fmt: skip
    stars, _, _ = ingest(files)
    assert stars["group"].tolist() == ["a", "a", "c", "a", "e"]
    assert stars.loc["d", ["keep", "reason"]].tolist() == [False, "duplicate"]
    assert stars["keep"].sum() == 4


def of_object(number, name, place=None):
    """A spectrum of one axis with the name of its star, and perhaps a position."""
    header = {"CRVAL1": 3800.0, "CDELT1": 1.4, "CRPIX1": 1.0, "CTYPE1": "WAVE", "OBJECT": name}
    hdu = fits.PrimaryHDU(FLUX[number].astype(np.float32))
    hdu.header.update(header | dict(zip(("RA", "DEC"), place or (), strict=False)))
    return content_of(hdu)


def test_a_name_shared_by_places_far_apart_is_no_stars(caplog):
    places = [(100.0 + 30 * k, 20.0) for k in range(3)]
    files = files_of(**{f"{k}.fits": of_object(k, "BLANKS 7", places[k]) for k in range(3)})
    files |= files_of(**{"near.fits": of_object(3, "blanks7", (100.0, 20.001))})
    stars, _, _ = ingest(files)
    assert stars["group"].tolist() == ["0", "1", "2", "near"]
    assert "1 names are not taken for those of one star" in caplog.text
    assert "'BLANKS7' (4 spectra)" in caplog.text


@pytest.mark.parametrize("name", ["STD,FLUX", "sky", "Test", "n/a"])
def test_words_in_place_of_a_name_link_nothing(name):
    stars, _, _ = ingest(files_of(**{f"{k}.fits": of_object(k, name) for k in range(3)}))
    assert stars["group"].tolist() == ["0", "1", "2"]


def test_a_name_links_spectra_whose_positions_agree_or_are_not_known(caplog):
    files = files_of(**{
        "a.fits": of_object(0, "HD 2857", (100.0, 20.0)),
        "b.fits": of_object(1, "hd002857", (100.0, 20.02)),  # epochs differ
        "c.fits": of_object(2, "HD2857"),
    })  # fmt: skip
    stars, _, _ = ingest(files)
    assert stars["group"].tolist() == ["a", "a", "a"]
    assert not caplog.records


def test_files_of_one_name_in_two_folders_are_not_mixed_up():
    stars, _, rejected = ingest(files_of(**{"m/a.fits": contents(0), "n/a.fits": contents(1)}))
    assert stars["file"].to_dict() == {"m/a": "m/a.fits", "n/a": "n/a.fits"}
    assert rejected.empty
