import pandas as pd

from skyloom.archives.first import download_cut_outs, wanted_cut_outs

SOURCES = pd.DataFrame({"id": ["4C 1", "b"], "ra": [10.5, 200.25], "dec": [-1.5, 41.0]})


def test_the_service_is_asked_for_150_pixels_at_the_place_of_each_source():
    first, second = wanted_cut_outs(SOURCES)
    assert (first.file, second.file) == ("4C 1.fits", "b.fits")
    assert first.params == {
        "RA": "00 42 00.000 -01 30 00.000", "Equinox": "J2000", "ImageSize": "4.5",
        "ImageType": "FITS File",
    }  # fmt: skip
    assert second.params["RA"] == "13 21 00.000 +41 00 00.000"


def test_where_nobody_answers_every_source_is_listed(tmp_path):
    table = download_cut_outs(
        SOURCES, tmp_path, address="http://127.0.0.1:9/", interval=0, retries=0, timeout=2
    )
    assert table["file"].tolist() == ["4C 1.fits", "b.fits"]
    assert table["status"].tolist() == ["failed", "failed"]
