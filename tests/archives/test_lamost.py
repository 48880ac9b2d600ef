"""A catalogue of any size is split by class, sampled, and nothing is lost."""

import gzip
import io
import itertools
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest

from skyloom.archives.lamost import download_spectra, read_sample, split_catalogue
from skyloom.simulate.lamost_catalogue import write_catalogue
from skyloom.simulate.stellar_spectra import draw_truth, observe, to_hdu
from skyloom.spectra.optical.readers import read_spectrum

PLAIN = """obsid|ra|class|subclass
1|10.5|STAR|A1V
2|11.5|STAR|dM2
3|12.5|STAR|Carbon
4|13.5|GALAXY|
5|14.5|STAR|K5
6|15.5|STAR|
7|16.5|STAR|K7
8|17.5|star|gM0
"""


def rows(folder, name, delimiter="|"):
    return pd.read_csv(folder / f"{name}.csv", sep=delimiter, dtype=str, keep_default_na=False)


def test_every_row_goes_to_its_class_or_says_why_not(tmp_path):
    (tmp_path / "dr.csv").write_text(PLAIN)
    counts = split_catalogue(tmp_path / "dr.csv", tmp_path / "parts").set_index("class")
    assert counts.loc[list("OBAFGKM"), "n"].tolist() == [0, 0, 1, 0, 0, 2, 2]
    assert rows(tmp_path / "parts", "M")["obsid"].tolist() == ["2", "8"]
    others = rows(tmp_path / "parts", "not_understood").set_index("obsid")
    assert others["reason"].to_dict() == {"3": "carbon star", "4": "no star", "6": "no class"}
    assert others.loc["3", ["ra", "subclass"]].tolist() == ["12.5", "Carbon"]
    assert sorted(read_sample(tmp_path / "parts/K_sample.txt")) == ["5", "7"]
    written = pd.read_csv(tmp_path / "parts/counts.csv").set_index("class")
    pd.testing.assert_frame_equal(written, counts)


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv.gz", "|")])
def test_commas_bars_and_gzip_are_found_out(tmp_path, name, delimiter):
    text = PLAIN.replace("|", delimiter).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    counts = split_catalogue(tmp_path / name, tmp_path / "parts").set_index("class")["n"]
    assert counts["K"] == 2
    assert rows(tmp_path / "parts", "A", delimiter)["obsid"].tolist() == ["1"]


@pytest.mark.parametrize("delimiter", [None, ""])  # a bar on the command line comes as ""
def test_one_line_with_a_cell_more_hides_no_delimiter(tmp_path, delimiter):
    many = "".join(f"{k}|1.0|STAR|G2\n" for k in range(50))
    text = "obsid|ra|class|subclass\n" + many + "x|1.0|STAR|G2|extra\n" + many
    (tmp_path / "a.csv").write_text(text)
    counts = split_catalogue(tmp_path / "a.csv", tmp_path / "parts", delimiter=delimiter)
    assert counts.set_index("class").loc["G", "n"] == 100
    assert pd.read_csv(tmp_path / "parts/damaged.csv")["line"].tolist() == [52]


def test_a_line_in_another_encoding_is_damaged_and_the_rest_counts(tmp_path):
    text = PLAIN.replace("2|11.5", "2|Größe")
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    counts = split_catalogue(tmp_path / "a.csv", tmp_path / "parts", delimiter="|")
    assert counts.set_index("class").loc["M", "n"] == 1
    assert pd.read_csv(tmp_path / "parts/damaged.csv")["line"].tolist() == [3]


def test_names_in_capitals_and_padded_cells_are_understood(tmp_path):
    head, *lines = PLAIN.splitlines()
    (tmp_path / "a.csv").write_text(
        "\n".join([head.upper(), *lines]).replace("|", " | ").replace("\n", "\n ")
    )
    counts = split_catalogue(tmp_path / "a.csv", tmp_path / "parts").set_index("class")
    assert counts.loc[["A", "K", "M"], "n"].tolist() == [1, 2, 2]
    assert sorted(read_sample(tmp_path / "parts/K_sample.txt")) == ["5", "7"]


def test_values_come_out_as_they_went_in(tmp_path):
    text = 'obsid,note,class,subclass\n007,"a, ""b""",STAR,G2\n1e5,-9999.00,STAR,G5\n'
    (tmp_path / "a.csv").write_text(text)
    split_catalogue(tmp_path / "a.csv", tmp_path / "parts")
    found = rows(tmp_path / "parts", "G", ",")
    assert found["obsid"].tolist() == ["007", "1e5"]
    assert found["note"].tolist() == ['a, "b"', "-9999.00"]


def test_lines_that_are_no_rows_are_listed(tmp_path):
    many = "".join(f"{k}|1.0|STAR|G2\n" for k in range(50))
    (tmp_path / "a.csv").write_text(
        "obsid|ra|class|subclass\n" + many + "x|1.0|STAR|G2|5|6\n" + many
    )
    counts = split_catalogue(tmp_path / "a.csv", tmp_path / "parts", delimiter="|")
    assert counts.set_index("class").loc["G", "n"] == 100
    damaged = pd.read_csv(tmp_path / "parts/damaged.csv")
    assert damaged["line"].tolist() == [52]
    assert damaged["reason"].str.len().gt(10).all()


def test_a_sample_is_random_repeatable_and_blind_to_the_order(tmp_path):
    ids = np.arange(3000)

    def sampled(order, seed):
        name = f"{next(numbers)}"
        lines = "".join(f"{k}|STAR|F5\n" for k in order)
        (tmp_path / f"{name}.csv").write_text("obsid|class|subclass\n" + lines)
        split_catalogue(tmp_path / f"{name}.csv", tmp_path / name, n_sampled=600, seed=seed)
        return [int(k) for k in read_sample(tmp_path / name / "F_sample.txt")]

    numbers = itertools.count()
    first = sampled(ids, 0)
    assert len(set(first)) == 600
    assert set(first) == set(sampled(ids[::-1], 0))
    assert set(first) != set(sampled(ids, 1))
    # Uniform: quarters of the ids are sampled alike (6 standard deviations).
    counts = np.histogram(first, bins=4, range=(0, 3000))[0]
    assert np.abs(counts - 150).max() < 6 * np.sqrt(150 * 0.75 * 0.8)


def test_samples_do_not_depend_on_the_size_of_the_pieces(tmp_path, monkeypatch):
    write_catalogue(tmp_path / "a.csv", 5000, np.random.default_rng(0))
    split_catalogue(tmp_path / "a.csv", tmp_path / "whole", n_sampled=50)
    monkeypatch.setattr("skyloom.archives.lamost._BATCH", 300)
    split_catalogue(tmp_path / "a.csv", tmp_path / "pieces", n_sampled=50)
    for path in (tmp_path / "whole").glob("*_sample.txt"):
        assert set(read_sample(path)) == set(read_sample(tmp_path / "pieces" / path.name))


def test_a_made_up_catalogue_has_the_proportions_of_the_real_one(tmp_path):
    expected = write_catalogue(tmp_path / "a.csv.gz", 150_000, np.random.default_rng(0))
    counts = split_catalogue(tmp_path / "a.csv.gz", tmp_path / "parts").set_index("class")["n"]
    assert counts.sum() == 150_000
    assert counts["M"] == sum(expected[name] for name in ("dM", "gM", "sdM"))
    assert counts["A"] == expected["A"]
    assert counts["O"] == expected["O"] < 10
    assert counts["O or B"] == expected["OB"]
    assert counts["G"] > counts["F"] > counts["K"] > counts["M"] > counts["B"]
    table = pd.read_csv(tmp_path / "parts/B.csv", sep="|")
    assert table["obsid"].is_unique
    assert table["filename"].str.fullmatch(r"spec-\d{5}-HD\d{6}_sp\d\d-\d{3}\.fits\.gz").all()
    assert table["ra"].between(0, 360).all()


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "a.csv").write_text(PLAIN)
    (tmp_path / "parts").mkdir()
    with pytest.raises(FileExistsError, match="parts is there already"):
        split_catalogue(tmp_path / "a.csv", tmp_path / "parts")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (PLAIN, {"class_column": "spectype"}, "has no column 'spectype', but"),
        (PLAIN, {"id_column": "uid"}, "has no column 'uid', but"),
        ("obsid|class|subclass\n", {"delimiter": "|"}, "has no rows"),
        ("", {}, "a.csv"),
    ],
)
def test_what_is_no_catalogue_is_refused_and_leaves_nothing(tmp_path, content, options, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        split_catalogue(tmp_path / "a.csv", tmp_path / "parts", **options)
    assert not (tmp_path / "parts").exists()


def test_the_real_catalogue_is_split(real_observations, tmp_path):
    path = real_observations.parent / "stellar_spectra" / "lamost" / "my_data3.csv"
    counts = split_catalogue(path, tmp_path / "parts", n_sampled=20).set_index("class")
    assert counts["n"].to_dict() == {
        "O": 0,
        "B": 0,
        "A": 47,
        "F": 1280,
        "G": 1075,
        "K": 763,
        "M": 0,
    }
    assert len(read_sample(tmp_path / "parts/A_sample.txt")) == 20


# --- spectra --------------------------------------------------------------------------------------


class Archive(BaseHTTPRequestHandler):
    """Has spectra of all ids but 404, for which it has a page."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        truth = draw_truth(1, np.random.default_rng(0))
        flux, inverse_variance = observe(truth, np.random.default_rng(0))
        stream = io.BytesIO()
        to_hdu(truth.iloc[0], flux[0], inverse_variance[0]).writeto(stream)
        content = gzip.compress(stream.getvalue())
        if self.path == "/dr/fits/404/get":
            content = b"<html>no such spectrum</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def test_spectra_are_fetched_by_their_ids_and_pages_are_none(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Archive) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = {
            "address": f"http://127.0.0.1:{server.server_port}/dr/fits/{{obsid}}/get",
            "interval": 0, "retries": 0,
        }  # fmt: skip
        first = download_spectra(["101", "404"], tmp_path, **options)
        again = download_spectra(["101"], tmp_path, **options)
        server.shutdown()
    assert first["status"].tolist() == ["fetched", "failed"]
    assert "not a table" in first["reason"][1]
    assert again["status"].tolist() == ["present"]
    assert [path.name for path in tmp_path.iterdir()] == ["101.fits.gz"]
    path = tmp_path / "101.fits.gz"
    assert read_spectrum(path.name, path.read_bytes()).layout == "LAMOST image"


def test_an_address_without_a_place_for_the_id_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"needs \{obsid\} where the id goes"):
        download_spectra(["1"], tmp_path, address="http://127.0.0.1/")
