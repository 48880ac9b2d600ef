"""Ingestion: every file is either accepted or rejected with a reason, and labels find theirs."""

import hashlib
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import yaml
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from skyloom.datasets import LabelTableDataset
from skyloom.pipelines.hi_profiles.ingestion import (
    PROFILE_COLUMNS,
    draw_spectra_sheets,
    ingest_spectra,
)
from skyloom.pipelines.hi_profiles.parameters import IngestionParameters
from skyloom.raw_files import REJECTION_COLUMNS, NothingUsableError
from skyloom.simulate.hi_profiles import draw_truth, to_hdu

NO_LABELS = pd.DataFrame()
VELOCITY = 2000 + 10.0 * np.arange(160)


def spectrum(seed=1, height=40.0, centre=2800.0):
    """Bytes of a CSV with a line 300 km/s wide on noise of 2 mJy."""
    flux = height * np.exp(-((np.abs(VELOCITY - centre) / 150) ** 6))
    flux += np.random.default_rng(seed).normal(0, 2, 160)
    rows = np.stack([VELOCITY, flux], axis=1)
    return ("velocity,flux\n" + "\n".join(f"{v!r},{s!r}" for v, s in rows.tolist())).encode()


def as_fits(content, **cards):
    velocity, flux = np.loadtxt(BytesIO(content), delimiter=",", skiprows=1).T
    hdu = fits.PrimaryHDU(flux.astype(np.float32)[None])
    axis = {"CTYPE1": "VELO", "CUNIT1": "km/s", "CRVAL1": velocity[0], "CDELT1": 10.0}
    hdu.header.update(axis | {"CRPIX1": 1.0, "BUNIT": "mJy"} | cards)
    buffer = BytesIO()
    hdu.writeto(buffer)
    return buffer.getvalue()


GOOD, FAINT = spectrum(), spectrum(height=0.0)


def ingest(files, labels=NO_LABELS, **parameters):
    """Ingest files given by their bytes; nothing may be lost, whatever the mixture."""
    readers = {name: (lambda c=content: c) for name, content in files.items()}
    profiles, flux, rejected = ingest_spectra(readers, labels, IngestionParameters(**parameters))
    assert tuple(profiles.columns) == PROFILE_COLUMNS
    assert tuple(rejected.columns) == REJECTION_COLUMNS
    assert sorted([*profiles["file"], *rejected["file"]]) == sorted(files)
    assert profiles["id"].is_unique
    assert flux.dtype == np.float32
    assert flux.shape == (len(profiles), IngestionParameters(**parameters).max_channels)
    assert np.isfinite(flux).any(axis=1).all()
    assert not np.isinf(flux).any()
    assert rejected[["reason", "value"]].map(len).to_numpy().all()
    return profiles, flux, rejected


def reasons(rejected):
    return dict(zip(rejected["file"], rejected["reason"], strict=True))


# --- accepted and rejected -----------------------------------------------------------------------
def test_every_file_is_accepted_or_rejected_with_its_reason():
    profiles, flux, rejected = ingest(
        {
            "b.csv": GOOD,
            "deep/c.fits": as_fits(spectrum(2), OBJECT="NGC 7", V21SYS=2800.0),
            "empty.fits": b"",
            "faint.csv": FAINT,
            "lost.csv": spectrum(3).replace(b"flux", b"flux (K)"),
            "picture.png": b"\x89PNG\r\n\x1a\n\0",
            "half.fits": as_fits(GOOD)[:-3000],
            "elsewhere.fits": as_fits(GOOD, V21SYS=9000.0),
        }
    )
    assert profiles["file"].tolist() == ["b.csv", "deep/c.fits"]
    assert profiles["id"].tolist() == ["b", "c"]
    assert profiles["layout"].tolist() == ["text", "image"]
    assert profiles["object"].tolist() == ["", "NGC 7"]
    assert profiles["sha256"][0] == hashlib.sha256(GOOD).hexdigest()
    assert reasons(rejected) == {
        "elsewhere.fits": "systemic velocity outside the spectrum",
        "empty.fits": "empty file",
        "faint.csv": "no detection",
        "half.fits": "truncated",
        "lost.csv": "wrong units",
        "picture.png": "not FITS and not a text table",
    }
    np.testing.assert_allclose(profiles["line_centre"], 2800, atol=20)
    for row, values in zip(profiles.itertuples(), flux, strict=True):
        velocity = row.velocity_start + row.channel_width * np.arange(len(values))
        peak = velocity[np.nanargmax(values)]
        assert abs(peak - 2800) < 160
        assert np.isnan(values[-1])
        assert np.nanmax(values) == pytest.approx(42, abs=6)


def test_profiles_of_a_simulated_sample_match_their_truth():
    rng = np.random.default_rng(3)
    truth = draw_truth(10, rng, interference_fraction=0.0, snr_median=80.0, snr_scatter=0.1)
    files = {}
    for _, row in truth.iterrows():
        buffer = BytesIO()
        to_hdu(row, rng).writeto(buffer)
        files[f"{row['id']}.fits"] = buffer.getvalue()
    labels = pd.DataFrame({"cig": truth["cig"], "Class": truth["cig"] % 2})
    profiles, _, _ = ingest(files, labels, id_pattern=r"CIG(\d+)")
    assert len(profiles) >= 9
    found = truth.set_index("id").loc[profiles["id"]].reset_index()
    np.testing.assert_allclose(profiles["noise"], found["noise"], rtol=0.3)
    np.testing.assert_allclose(profiles["line_centre"], found["mid_velocity"], atol=40)
    assert (profiles["class"] == profiles["number"] % 2).all()
    assert (profiles["object"] == profiles["id"]).all()


@pytest.mark.parametrize("error", [OSError("stale handle"), PermissionError(13, "denied")])
def test_file_that_cannot_be_opened_is_rejected_and_stops_no_other(error):
    def fail():
        raise error

    profiles, _, rejected = ingest_spectra(
        {"a.csv": fail, "b.csv": lambda: GOOD}, NO_LABELS, IngestionParameters()
    )
    assert profiles["id"].tolist() == ["b"]
    assert reasons(rejected) == {"a.csv": "unreadable"}
    assert str(error) in rejected["value"][0]


def test_units_of_the_parameters_are_those_of_files_without():
    bare = GOOD.split(b"\n", 1)[1]
    plain, given = ingest({"a.csv": bare})[0], ingest({"a.csv": bare}, flux_unit="Jy")[0]
    assert given["noise"][0] == pytest.approx(1000 * plain["noise"][0])


def test_masked_velocities_and_resolution_reach_the_preparation():
    profiles, _, _ = ingest({"a.csv": GOOD}, resolution=20.0)
    assert profiles["channel_width"][0] == pytest.approx(20)
    with pytest.raises(ValueError, match="no detection"):
        ingest({"a.csv": GOOD}, masked_velocities=(2500, 3100))


# --- names and numbers ---------------------------------------------------------------------------
def test_file_names_without_their_endings_are_ids():
    names = ["NGC 1.fits", "NGC2.v2.csv", "NGC3.fits.gz", "sub/NGC4.txt", "NGC5"]
    profiles, _, _ = ingest({name: spectrum(i) for i, name in enumerate(names)})
    assert profiles["id"].tolist() == ["NGC 1", "NGC2.v2", "NGC3", "NGC5", "NGC4"]
    assert profiles["number"].isna().all()


def test_catalogue_numbers_make_the_ids():
    files = {"p7_v3.fits": GOOD, "p0012.csv": spectrum(2), "q5.csv": GOOD}
    profiles, _, rejected = ingest(files, id_pattern=r"p(\d+)", id_format="UGC{:05d}")
    assert profiles["id"].tolist() == ["UGC00012", "UGC00007"]
    assert profiles["number"].tolist() == [12, 7]
    assert reasons(rejected) == {"q5.csv": "no catalogue number"}


@pytest.mark.parametrize("name", ["p.csv", "p" + 30 * "9" + ".csv", "px.csv"])
def test_what_is_no_catalogue_number_is_rejected(name):
    _, _, rejected = ingest({name: GOOD, "p3.csv": spectrum(2)}, id_pattern=r"p(\w+|(?=\.))?")
    assert reasons(rejected) == {name: "no catalogue number"}


def test_index_range_includes_both_ends():
    files = {f"p{n}.csv": spectrum(n) for n in (1, 2, 3, 4)}
    profiles, _, rejected = ingest(files, id_pattern=r"p(\d+)", index_range=(2, 3))
    assert profiles["number"].tolist() == [2, 3]
    assert set(reasons(rejected).values()) == {"outside index_range"}


def test_second_file_of_an_id_is_rejected_with_the_name_of_the_first():
    profiles, _, rejected = ingest({"x.csv": GOOD, "x.txt": spectrum(2), "b/y.csv": GOOD})
    assert profiles["file"].tolist() == ["b/y.csv", "x.csv"]
    assert reasons(rejected) == {"x.txt": "duplicate id"}
    assert "x.csv" in rejected["value"][0]


def test_names_that_restart_in_each_folder_are_different_galaxies():
    profiles, _, rejected = ingest({"a/1.csv": GOOD, "b/1.csv": spectrum(2), "b/2.csv": GOOD})
    assert profiles["id"].tolist() == ["a/1", "b/1", "2"]
    assert rejected.empty


def test_unusable_file_does_not_take_the_id():
    profiles, _, rejected = ingest({"a/x.csv": FAINT, "b/x.csv": GOOD})
    assert profiles["file"].tolist() == ["b/x.csv"]
    assert reasons(rejected) == {"a/x.csv": "no detection"}


def test_equal_contents_under_two_ids_have_one_checksum():
    profiles, _, _ = ingest({"x.csv": GOOD, "y.csv": GOOD, "z.csv": spectrum(2)})
    assert profiles["sha256"].nunique() == 2
    assert profiles["sha256"][0] == profiles["sha256"][1]


# --- labels --------------------------------------------------------------------------------------
def three_files():
    return {f"CIG{n}.csv": spectrum(n) for n in (1, 2, 3)}


def three_labels(classes=(0, 1, 2)):
    return pd.DataFrame({"cig": [1, 2, 3], "Class": list(classes)})


BY_NUMBER = {"id_pattern": r"CIG(\d+)"}


def saved_and_loaded(table, path):
    if path.suffix == ".xlsx":
        table.to_excel(path, index=False)
    else:
        table.to_csv(path, sep=";", index=False)
    return LabelTableDataset(filepath=path).load()


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
@pytest.mark.parametrize("key", ["number", "number as float", "id", "file name"])
def test_labels_are_found_by_number_or_id(tmp_path, key, ending):
    ids = {
        "number": [3, 1, 9],
        "number as float": [3.0, 1.0, np.nan],
        "id": ["CIG000003", "CIG000001", "CIG000009"],
        "file name": ["CIG3", " CIG1 ", "CIG9"],
    }
    table = pd.DataFrame({"cig": ids[key], "Class": [1, 0, 1]})
    labels = saved_and_loaded(table, tmp_path / f"labels.{ending}")
    profiles, _, _ = ingest(three_files(), labels, **({} if key == "file name" else BY_NUMBER))
    assert profiles["class"].tolist() == [0, pd.NA, 1]
    assert profiles["label_source"].tolist() == [
        "label table", "not in the label table", "label table",
    ]  # fmt: skip


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_ids_keep_their_leading_zeros_and_numbers_need_none(tmp_path, ending):
    path = tmp_path / f"labels.{ending}"
    table = pd.DataFrame({"cig": ["0001", "0002", None], "Class": ["0", "1", "1"]})
    if ending == "xlsx":
        table.to_excel(path, index=False)
    else:
        table.to_csv(path, index=False)
    labels = LabelTableDataset(filepath=path, load_args={"dtype": str}).load()
    by_name, _, _ = ingest({f"000{n}.csv": spectrum(n) for n in (1, 2)}, labels)
    by_number, _, _ = ingest(three_files(), labels, **BY_NUMBER)
    assert by_name["class"].tolist() == [0, 1]
    assert by_number["class"].tolist() == [0, 1, pd.NA]


def test_columns_of_the_label_table_are_the_users(tmp_path):
    table = pd.DataFrame({"galaxy": ["CIG1", "CIG2", "CIG3"], "lopsided": [0, 1, 1]})
    labels = saved_and_loaded(table, tmp_path / "labels.csv")
    profiles, _, _ = ingest(
        three_files(), labels, label_id_column="galaxy", label_class_column="lopsided"
    )
    assert profiles["class"].tolist() == [0, 1, 1]


def test_without_a_table_there_are_no_classes(tmp_path):
    profiles, _, _ = ingest(three_files(), LabelTableDataset(filepath=None).load())
    assert profiles["label_source"].tolist() == ["no label table"] * 3
    assert profiles["class"].isna().all()
    assert profiles["class"].dtype == "Int64"


@pytest.mark.parametrize("column", ["cig", "Class", "V"])
def test_missing_column_of_the_label_table_is_named(column):
    labels = three_labels().assign(V=1.0).drop(columns=column)
    with pytest.raises(ValueError, match=rf"no column \['{column}'\]"):
        ingest(three_files(), labels, label_velocity_column="V", **BY_NUMBER)


def test_rows_that_contradict_each_other_stop_and_those_that_repeat_do_not():
    labels = pd.DataFrame({"cig": [1, 2, 2.0], "Class": [0, 1, 1]})
    profiles, _, _ = ingest(three_files(), labels, **BY_NUMBER)
    assert profiles["class"].tolist() == [0, 1, pd.NA]
    labels.loc[2, "Class"] = 0
    with pytest.raises(ValueError, match=r"more than one row for '2', .* Class is 1 and 0"):
        ingest(three_files(), labels, **BY_NUMBER)


def test_rows_and_files_that_do_not_match_are_counted(caplog):
    labels = pd.DataFrame({"id": ["a", "other"], "class": ["1", "odd"]})
    options = {"label_id_column": "id", "label_class_column": "class"}
    ingest({"a.csv": GOOD, "b.csv": spectrum(2)}, labels, **options)
    assert (
        "1 of 2 rows of the label table are of none of the spectra, such as 'other'" in caplog.text
    )
    assert "1 of 2 spectra have no row in the label table, such as 'b'" in caplog.text
    assert "1 labels are no class, expected a whole number from 0: 'odd' (1)" in caplog.text


def test_a_systemic_velocity_with_a_decimal_comma_guides_the_search():
    labels = three_labels().assign(V=["", "2850,5", "9000,5"])
    profiles, _, rejected = ingest(three_files(), labels, label_velocity_column="V", **BY_NUMBER)
    assert profiles["number"].tolist() == [1, 2]
    assert reasons(rejected) == {"CIG3.csv": "systemic velocity outside the spectrum"}


@pytest.mark.parametrize("value", [1.5, "lopsided", np.nan, -1, np.inf, None], ids=str)
def test_what_is_no_class_is_said(value):
    profiles, _, _ = ingest(three_files(), three_labels([0, value, 1]), **BY_NUMBER)
    assert profiles["class"].tolist() == [0, pd.NA, 1]
    assert profiles["class_value"].isna().tolist() == [False, True, False]
    assert "is not a whole number" in profiles["label_source"][1]


def test_classes_may_be_text_of_whole_numbers():
    profiles, _, _ = ingest(three_files(), three_labels(["0", "2.0", "x"]), **BY_NUMBER)
    assert profiles["class_value"].tolist() == [0, 2, pd.NA]


@pytest.mark.parametrize(
    ("chosen", "expected"), [((0, 2), [0, pd.NA, 1]), ((2, 0), [1, pd.NA, 0]), (None, [0, 1, 2])]
)
def test_chosen_classes_are_counted_in_their_order(chosen, expected):
    profiles, _, _ = ingest(three_files(), three_labels(), classes=chosen, **BY_NUMBER)
    assert profiles["class"].tolist() == expected
    assert profiles["class_value"].tolist() == [0, 1, 2]
    if chosen:
        assert profiles["label_source"][1] == "class 1 not among the chosen classes"


def test_systemic_velocities_of_the_table_beat_those_of_the_file():
    files = {
        "CIG1.fits": as_fits(spectrum(1), V21SYS=2800.0),
        "CIG2.fits": as_fits(spectrum(2), V21SYS=9000.0),
        "CIG3.fits": as_fits(spectrum(3), V21SYS=2800.0),
    }
    labels = three_labels().assign(V=[np.nan, 2850.0, 9000.0])
    profiles, _, rejected = ingest(files, labels, label_velocity_column="V", **BY_NUMBER)
    assert profiles["number"].tolist() == [1, 2]
    assert reasons(rejected) == {"CIG3.fits": "systemic velocity outside the spectrum"}


# --- nothing usable ------------------------------------------------------------------------------
def test_one_error_names_the_reasons_where_nothing_is_accepted():
    with pytest.raises(NothingUsableError, match=r"none of 3 files .* 21-cm line") as caught:
        ingest({"a": b"", "b": b"", "c": FAINT})
    assert "2 empty file (such as a: 0 bytes)" in str(caught.value)
    assert "1 no detection (c: " in str(caught.value)
    assert caught.value.rejected["file"].tolist() == ["a", "b", "c"]


def test_no_files_at_all():
    with pytest.raises(ValueError, match=r"none of 0 files .* no observations"):
        ingest({})


ORIGINALS = (
    GOOD,
    as_fits(spectrum(2)),
    as_fits(spectrum(3), OBJECT="NGC 1", V21SYS=2800.0),
    GOOD.split(b"\n", 1)[1].replace(b",", b" "),
    FAINT,
)


@st.composite
def damaged(draw):
    content = bytearray(draw(st.sampled_from(ORIGINALS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, draw(st.sampled_from([900, len(content)]))))
        new = draw(
            st.binary(max_size=6) | st.text("0123456789.-e ,\n'", max_size=6).map(str.encode)
        )
        length = draw(st.sampled_from([len(new), len(new), 0, 40, len(content)]))
        content[at : at + length] = new
    return bytes(content)


@given(st.lists(damaged(), min_size=1, max_size=8), st.booleans())
@settings(max_examples=60)
def test_no_mixture_of_damaged_files_loses_one(contents, with_good):
    files = {f"x{i}": content for i, content in enumerate(contents)}
    if with_good:
        assert "good" in ingest(files | {"good": GOOD})[0]["id"].tolist()
        return
    try:
        ingest(files)
    except ValueError as error:
        if not str(error).startswith(f"none of {len(files)} files"):
            raise


@given(
    st.lists(
        st.sampled_from([0, 1e29, -1e29, 1e9, 1e-30, np.nan, np.inf, -5.0, 3e-300]) | st.floats(),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 159),
    st.integers(1, 14),
    st.sampled_from([0, 1, 3]),
)
@settings(max_examples=150)
def test_no_values_stop_the_ingestion(values, start, repeats, order):
    lines = GOOD.decode().split("\n")
    for at, value in enumerate((values * repeats)[: 160 - start], start + 1):
        lines[at] = f"{lines[at].split(',')[0]},{value!r}"
    ingest({"good": GOOD, "odd": "\n".join(lines).encode()}, baseline_order=order)


# --- real files ----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def real_results(real_observations, root):
    """Profiles and rejections of each folder under the settings of conf/real."""
    settings = yaml.safe_load((root / "conf/real/hi_profiles/parameters.yml").read_text())
    parameters = settings["hi_profiles"]["ingestion"]
    results = {}
    for folder in ("gbt", "alfalfa", "fast"):
        files = {p.name: p.read_bytes() for p in (real_observations / folder).iterdir()}
        profiles, _, rejected = ingest(files, **parameters)
        results[folder] = profiles.set_index("id"), rejected
    return results


@pytest.mark.parametrize(("folder", "n"), [("gbt", 103), ("alfalfa", 3), ("fast", 20)])
def test_every_real_file_is_accounted_for(real_results, folder, n):
    profiles, rejected = real_results[folder]
    assert len(profiles) + len(rejected) == n
    assert set(profiles["axis"]) == {"velocity"}
    assert (profiles["snr"] >= 12).all()
    assert (profiles[["noise", "channel_width", "line_width"]] > 0).all(axis=None)


def test_clear_lines_of_green_bank_are_accepted(real_results):
    profiles, rejected = real_results["gbt"]
    assert 35 <= len(profiles) <= 55
    assert {"AGC1993", "AGC2269", "AGC26163", "AGC3232"} <= set(profiles.index)
    assert reasons(rejected)["AGC501715.fits"] == "uncalibrated"
    # Clear lines with ripple or interference elsewhere, and features that are no lines.
    assert {"AGC323628", "AGC4455", "AGC4481", "AGC560053"} <= set(profiles.index)
    assert not {"AGC190579", "AGC610773", "AGC630249"} & set(profiles.index)
    weak = rejected.set_index("file").loc["AGC270260.fits"]
    assert weak["reason"] == "weak detection"
    assert "at 12117 km/s, 463 km/s wide" in weak["value"]
    # Channels of 0.6 km/s to 8 km/s: 2.3 mJy remain.
    assert profiles["noise"].median() == pytest.approx(2.3, rel=0.25)
    outside = (profiles["line_centre"] > 150) | (profiles["line_centre"] < -150)
    assert outside.all()


def test_lines_of_alfalfa_are_at_their_systemic_velocities(real_results):
    profiles, _ = real_results["alfalfa"]
    assert profiles.loc["A012895", "line_centre"] == pytest.approx(6746, abs=25)
    assert len(profiles) == 3


def test_most_fast_spectra_are_accepted(real_results):
    assert len(real_results["fast"][0]) >= 15


def test_contact_sheets_show_every_spectrum_with_its_window_or_its_reason():
    velocity = np.arange(1000.0, 6000.0, 10.0)
    noise = np.random.default_rng(0).normal(0, 2, velocity.size)
    text = "velocity,flux\n" + "\n".join(f"{v},{s}" for v, s in zip(velocity, noise, strict=True))
    truth = draw_truth(14, np.random.default_rng(2), snr_median=60.0)
    files = {"noise.csv": text.encode, "nothing.fits": bytes}
    for i, row in truth.iterrows():
        buffer = BytesIO()
        fits.HDUList([to_hdu(row, np.random.default_rng(i))]).writeto(buffer)
        files[f"{row['id']}.fits"] = buffer.getvalue
    rejected = pd.DataFrame(
        [("noise.csv", "no detection", "S/N 2.0"), ("nothing.fits", "empty file", "0 bytes")],
        columns=["file", "reason", "value"],
    )

    profiles, *_ = ingest_spectra(
        {name: read for name, read in files.items() if name.startswith("CIG")},
        NO_LABELS,
        IngestionParameters(),
    )

    def titles(**settings):
        parameters = IngestionParameters(**settings)
        pages = draw_spectra_sheets(files, profiles, rejected, parameters)
        axes = [axis for page in pages for axis in page.axes if axis.get_title()]
        windows = [len(axis.patches) for axis in axes]
        return [axis.get_title() for axis in axes], windows

    names, windows = titles()
    assert sum(windows) == len(profiles)
    assert names[-1] == "noise.csv  no detection: S/N 2.0"
    assert len(names) == len(truth) + 1
    assert len(titles(sheet_spectra=3)[0]) == 3
    assert titles(sheet_spectra=0) == ([], [])
