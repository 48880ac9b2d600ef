"""From files of any layout to a sample with a reason for everything that is not in it."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from astropy.coordinates import Angle
from astropy.io import fits
from PIL import Image
from pydantic import ValidationError

from skyloom.pipelines.radio_galaxies import ingestion
from skyloom.pipelines.radio_galaxies.ingestion import select_sample
from skyloom.pipelines.radio_galaxies.parameters import IngestionParameters
from skyloom.simulate.radio_galaxies import draw_truth, observe, to_hdu

NO_LABELS = pd.DataFrame()
PARAMETERS = IngestionParameters(size=64)
SPLIT = IngestionParameters(
    size=64,
    file_pattern=r"(?P<role>train|test)/(?P<class>\w+)/(?P<id>(?P<ra>[\d.]+)_(?P<dec>-?[\d.]+)_\w+)\.png$",
)

CONF = Path(__file__).parents[3] / "conf"
OF_USER = IngestionParameters(
    size=64,
    file_pattern=yaml.safe_load((CONF / "real/radio_galaxies/parameters.yml").read_text())[
        "radio_galaxies"
    ]["ingestion"]["file_pattern"],
)


def ingest_cut_outs(*arguments):
    sources, cutouts, rejected = ingestion.ingest_cut_outs(*arguments)
    return sources, cutouts.compute(), rejected


def survey(n=6, seed=0, size=100, **changes):
    """Truth and cut-outs of a few bright, compact fields."""
    rng = np.random.default_rng(seed)
    options = {"snr_median": 80, "neighbour_rate": 0, "offset": 0, "length_median": 20}
    truth = draw_truth(n, rng, **options | changes)
    truth["ra"], truth["dec"] = np.linspace(150, 160, n), 20.0
    return truth, observe(truth, rng, size=size)


TRUTH, IMAGES = survey()


def as_fits(image, row=None):
    stream = io.BytesIO()
    fits.HDUList([to_hdu(TRUTH.iloc[0] if row is None else row, image)]).writeto(stream)
    return stream.getvalue()


def as_png(image):
    scaled = np.clip(image / image.max(), 0, 1) * 255
    stream = io.BytesIO()
    Image.fromarray(scaled.astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def files(**contents):
    return {name: (lambda content=content: content) for name, content in contents.items()}


def fits_files():
    return files(**{f"{row['id']}.fits": as_fits(IMAGES[i], row) for i, row in TRUTH.iterrows()})


def labels():
    return TRUTH[["id", "class", "bending_angle"]]


def test_fits_cut_outs_become_a_table_and_an_array_in_mjy():
    sources, cutouts, rejected = ingest_cut_outs(fits_files(), labels(), PARAMETERS)
    assert rejected.empty
    assert cutouts.shape == (6, 64, 64)
    np.testing.assert_allclose(cutouts, IMAGES[:, 18:82, 18:82], rtol=1e-4, atol=1e-5)
    assert sources["class"].tolist() == TRUTH["class"].tolist()
    np.testing.assert_allclose(sources["bending_angle"], TRUTH["bending_angle"])
    np.testing.assert_allclose(sources["ra"], TRUTH["ra"], atol=1e-3)
    assert set(sources["pixel_scale"].round(3)) == {1.8}
    assert set(sources["label_source"]) == {"label table"}


def test_a_smaller_cut_out_is_filled_with_nothing_observed():
    sources, cutouts, _ = ingest_cut_outs(
        files(**{"a.fits": as_fits(IMAGES[0][:40, :50])}), NO_LABELS, PARAMETERS
    )
    assert np.isfinite(cutouts[0]).sum() == 40 * 50
    assert sources["class"].tolist() == [""]
    assert sources["label_source"].tolist() == ["no label"]


def archive():
    """Laid out like the published archive: splits, classes, and everything once more."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for i, kind in enumerate(["FRI", "FRII", "Compact", "Bent"]):
            for folder, at in (("train", i), ("test", i + 4), ("all", i), ("all", i + 4)):
                name = f"data/{folder}/{kind}/{10.5 + at}_{-3.25 + i}_{i}_Cat.png"
                target.writestr(name, as_png(IMAGES[at % 6]))
    return stream.getvalue()


def test_an_archive_tells_classes_positions_and_its_split():
    content = archive()
    sources, cutouts, rejected = ingest_cut_outs(
        files(**{"galaxy_data.zip": content}), NO_LABELS, SPLIT
    )
    assert len(sources) == len(cutouts) == 8
    assert sources["role"].value_counts().to_dict() == {"train": 4, "test": 4}
    assert sorted(set(sources["class"])) == ["FRI", "FRII", "bent", "compact"]
    row = sources[sources["file"].str.endswith("train/Bent/13.5_-0.25_3_Cat.png")].iloc[0]
    assert (row["ra"], row["dec"], row["class"]) == (13.5, -0.25, "bent")
    assert row["label_source"] == "file names"
    # What the pattern leaves out is listed, not forgotten.
    assert rejected["reason"].tolist() == ["left out by file_pattern"] * 8
    assert rejected["file"].str.contains("data/all/").all()
    assert rejected["value"].unique().tolist() == [SPLIT.file_pattern]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a/train/Bent/10.5_-3.25_3_Cat2018b.png", ("Cat2018b", "10.5_-3.25_3_Cat2018b", 10.5)),
        ("a/valid/FRI/10.5_3.25_0_Cat.fits.gz", ("Cat", "10.5_3.25_0_Cat", 10.5)),
        ("FRI/10.5_-3.25_rest of it.png", ("", "10.5_-3.25_rest of it", 10.5)),
        ("FRI/10.5_-3.25_2.png", ("", "10.5_-3.25_2", 10.5)),
        ("FRI/J0123+45.6.FITS", ("", "J0123+45.6", None)),
        ("deep/down/3C_31_Cat.png", ("", "3C_31_Cat", None)),
    ],
)
def test_the_catalogue_is_told_by_names_as_those_of_the_archive(root, name, told):
    text = (root / "conf/real/radio_galaxies/parameters.yml").read_text()
    pattern = yaml.safe_load(text)["radio_galaxies"]["ingestion"]["file_pattern"]
    sources, *_ = ingest_cut_outs(
        files(**{name: as_fits(IMAGES[0]) if ".fits" in name.lower() else as_png(IMAGES[0])}),
        NO_LABELS, IngestionParameters(size=64, file_pattern=pattern),
    )  # fmt: skip
    catalogue, identifier, ra = told
    assert sources[["catalogue", "id"]].iloc[0].tolist() == [catalogue, identifier]
    if ra is not None:
        assert sources["ra"].tolist() == [ra]


def test_a_stack_finds_its_labels_by_row():
    stream = io.BytesIO()
    np.save(stream, IMAGES[:3])
    table = pd.DataFrame({"id": ["bent_0", "bent_2"], "class": ["FRI", "unheard of"]})
    sources, _, _ = ingest_cut_outs(files(**{"bent.npy": stream.getvalue()}), table, PARAMETERS)
    assert sources["id"].tolist() == ["bent_0", "bent_1", "bent_2"]
    assert sources["class"].tolist() == ["FRI", "", ""]
    assert sources["label_source"].iloc[0] == "label table"
    assert sources["label_source"].iloc[2].startswith("class 'unheard of' is none of")


def test_angles_of_a_catalogue_with_other_column_names_are_read():
    table = pd.DataFrame({"RGZ": TRUTH["id"], "Type": "bent", "theta": np.arange(6.0)})
    parameters = PARAMETERS.model_copy(
        update={"id_column": "RGZ", "class_column": "Type", "angle_column": "theta"}
    )
    sources, _, _ = ingest_cut_outs(fits_files(), table, parameters)
    assert sources["bending_angle"].tolist() == [0, 1, 2, 3, 4, 5]


def test_the_label_table_may_take_a_class_away():
    content = as_fits(IMAGES[0])
    parameters = PARAMETERS.model_copy(
        update={"file_pattern": r"(?P<class>\w+)/(?P<id>\w+)\.fits$"}
    )
    table = pd.DataFrame({"id": ["a", "b"], "class": ["hybrid", None]})
    sources, _, _ = ingest_cut_outs(
        files(**{"FRI/a.fits": content, "FRI/b.fits": content}), table, parameters
    )
    assert sources["class"].tolist() == ["", "FRI"]  # an empty cell says nothing


def test_a_catalogue_of_angles_needs_no_classes(caplog):
    table = TRUTH[["id", "bending_angle"]]
    sources, _, _ = ingest_cut_outs(fits_files(), table, PARAMETERS)
    assert "no column 'class', so it tells no classes" in caplog.text
    np.testing.assert_allclose(sources["bending_angle"], TRUTH["bending_angle"])
    assert set(sources["class"]) == {""}


def test_labels_of_no_cut_out_are_counted(caplog):
    table = pd.concat([labels(), pd.DataFrame({"id": ["other"], "class": ["FRI"]})])
    ingest_cut_outs(fits_files(), table, PARAMETERS)
    assert (
        "1 of 7 rows of the label table are of none of the cut-outs, such as 'other'" in caplog.text
    )


def test_impossible_angles_count_as_missing_and_are_said(caplog):
    table = labels().assign(bending_angle=[-999.0, 300.0, np.inf, 0.0, 180.0, np.nan])
    sources, _, _ = ingest_cut_outs(fits_files(), table, PARAMETERS)
    np.testing.assert_array_equal(sources["bending_angle"], [np.nan] * 3 + [0, 180, np.nan])
    assert "3 bending angles are not between 0 and 180 deg" in caplog.text


def test_the_class_of_another_place_is_not_taken_and_both_positions_are_said(caplog):
    shifted = labels().assign(ra=np.roll(TRUTH["ra"], 1), dec=TRUTH["dec"])
    shifted.loc[3, "ra"] = TRUTH["ra"][3]
    sources, _, _ = ingest_cut_outs(fits_files(), shifted, PARAMETERS)
    assert sources["class"].tolist() == ["", "", "", TRUTH["class"][3], "", ""]
    np.testing.assert_allclose(sources["ra"], TRUTH["ra"], atol=1e-3)
    assert sources["label_source"][0] == "the label table has another position"
    assert "5 rows of the label table are not taken" in caplog.text
    first = f"SIM000001: {shifted['ra'][0]:.4f}, {shifted['dec'][0]:.4f} in the table, "
    assert first + f"{TRUTH['ra'][0]:.4f}, {TRUTH['dec'][0]:.4f} of the image" in caplog.text


@pytest.mark.parametrize(
    "columns",
    [
        {"RAdeg": "{ra:.5f}", "DEdeg": "{dec:.5f}"},
        {"_RAJ2000": "{ra:.5f}", "_DEJ2000": "{dec:.5f}"},
        {"RA": "{ra:.5f}", "DEC": "{dec:.5f}"},
        {"ra": "{comma_ra}", "dec": "{comma_dec}"},
        {"RA (J2000)": "{hours}", "Dec (J2000)": "{degrees}"},
    ],
    ids=lambda columns: " ".join(columns.values()),
)
def test_positions_of_the_label_table_are_as_catalogues_write_them(columns):
    table = labels().assign(id=[f"S{k}" for k in range(6)])
    for name, form in columns.items():
        table[name] = [
            form.format(
                ra=ra, dec=dec, comma_ra=f"{ra:.5f}".replace(".", ","),
                comma_dec=f"{dec:.5f}".replace(".", ",").replace("-", "−"),
                hours=Angle(ra, "deg").to_string("hourangle", sep=":"),
                degrees=Angle(dec, "deg").to_string("deg", sep=":"),
            )
            for ra, dec in TRUTH[["ra", "dec"]].to_numpy()
        ]  # fmt: skip
    sources, _, _ = ingest_cut_outs(fits_files(), table, PARAMETERS)
    assert sources["class"].tolist() == TRUTH["class"].tolist()


CLASS_NAMES = {
    "FRI": ("FR I", "FR-I", "fri", "FR_1", "Fr1", "FANAROFF-RILEY I"),
    "FRII": ("FR-II", "fr ii", "FR 2", "FRII"),
    "bent": ("BENT", "wide-angle tail", "WAT", "Wide Angle Tail", "nat", "Head–Tail"),
    "compact": ("Compact", "point source"),
}


@pytest.mark.parametrize(
    ("name", "written"), [(name, word) for name, words in CLASS_NAMES.items() for word in words]
)
def test_classes_are_called_as_people_call_them(name, written):
    content = as_fits(IMAGES[0])
    sources, _, _ = ingest_cut_outs(files(**{f"{written}/a.fits": content}), NO_LABELS, OF_USER)
    assert sources["class"].tolist() == [name]
    table = pd.DataFrame({"id": ["a"], "class": [written]})
    sources, _, _ = ingest_cut_outs(files(**{"a.fits": content}), table, PARAMETERS)
    assert sources["class"].tolist() == [name]


def test_folders_that_are_no_class_are_counted(caplog):
    content = as_fits(IMAGES[0])
    ingest_cut_outs(
        files(**{f"{n}.fits": content for n in ("blob/a", "blob/b", "FR I/c")}), NO_LABELS,
        OF_USER,
    )  # fmt: skip
    assert "2 labels are no class, expected FRI, FRII, bent, compact: 'blob' (2)" in caplog.text


def test_a_catalogue_without_our_ids_is_matched_by_position():
    table = labels().assign(
        id=[f"RGZ {k}" for k in range(6)], ra=TRUTH["ra"], dec=TRUTH["dec"] + 5 / 3600
    )
    table.loc[5, "dec"] += 30 / 3600  # further than the radius
    sources, _, _ = ingest_cut_outs(fits_files(), table, PARAMETERS)
    assert sources["class"].tolist() == [*TRUTH["class"][:5], ""]


@pytest.mark.parametrize("name", ["A.FITS", "A.fit", "A.fits.gz", "A.Png"])
def test_endings_are_no_part_of_an_id(name):
    content = as_png(IMAGES[0]) if name.endswith("Png") else as_fits(IMAGES[0])
    sources, _, _ = ingest_cut_outs(files(**{name: content}), NO_LABELS, PARAMETERS)
    assert sources["id"].tolist() == ["A"]


def test_a_position_of_the_table_counts_only_as_a_pair():
    table = labels().assign(ra=1.0)
    sources, _, _ = ingest_cut_outs(fits_files(), table, PARAMETERS)
    np.testing.assert_allclose(sources["ra"], TRUTH["ra"], atol=1e-3)
    both = labels().assign(ra=TRUTH["ra"], dec=[*TRUTH["dec"][:5] + 1 / 60, np.nan])
    sources, _, _ = ingest_cut_outs(fits_files(), both, PARAMETERS)
    assert sources["dec"].tolist()[:5] == both["dec"].tolist()[:5]
    assert sources["ra"].iloc[5] == pytest.approx(TRUTH["ra"].iloc[5], abs=1e-3)


def test_broken_files_are_rejected_with_a_reason_and_stop_nobody():
    def unreadable():
        raise OSError("no such disk")

    broken = files(
        **{
            "empty.fits": b"",
            "truncated.fits": as_fits(IMAGES[0])[:4000],
            "page.fits": b"<html>busy</html>",
            "dark.png": as_png(np.ones((20, 20)) * 0.0 + 1),
            "broken.zip": b"PK",
            "broken.npy": b"\x93NUMPY",
        }
    ) | {"gone.fits": unreadable}
    sources, _, rejected = ingest_cut_outs(broken | fits_files(), labels(), PARAMETERS)
    assert len(sources) == 6
    found = dict(zip(rejected["file"], rejected["reason"], strict=True))
    assert set(found) == set(broken)
    assert found["gone.fits"] == "unreadable"
    assert found["broken.zip"] == "damaged archive"
    assert found["dark.png"] == "empty image"
    assert (rejected["value"] != "").all()


def test_a_second_file_of_an_id_is_rejected_and_names_the_first():
    content = as_fits(IMAGES[0])
    sources, _, rejected = ingest_cut_outs(
        files(**{"one/a.fits": content, "one/a.FIT.gz": content}), NO_LABELS, PARAMETERS
    )
    assert sources["file"].tolist() == ["one/a.FIT.gz"]
    assert rejected.iloc[0].tolist() == ["one/a.fits", "duplicate id", "a, as one/a.FIT.gz"]


def test_names_that_restart_in_each_folder_are_different_sources():
    sources, _, rejected = ingest_cut_outs(
        files(
            **{f"{name}.fits": as_fits(IMAGES[0]) for name in ("FRI/1", "FRII/1", "FRII/2.5_-1.2")}
        ),
        NO_LABELS,
        PARAMETERS,
    )
    assert sources["id"].tolist() == ["FRI/1", "FRII/1", "2.5_-1.2"]
    assert rejected.empty


def test_stacks_in_folders_of_their_classes_are_different_sources(root):
    real = yaml.safe_load((root / "conf/real/radio_galaxies/parameters.yml").read_text())
    stream = io.BytesIO()
    np.save(stream, np.array(IMAGES[:2]))
    names = ("FRI/images.npy", "FRII/images.npy", "images.npy")
    sources, _, rejected = ingest_cut_outs(
        files(**dict.fromkeys(names, stream.getvalue())),
        NO_LABELS,
        IngestionParameters(**real["radio_galaxies"]["ingestion"], size=40),
    )
    assert rejected.empty
    assert sources["id"].is_unique
    assert sources["class"].tolist() == ["FRI", "FRI", "FRII", "FRII", "", ""]


def test_what_a_system_leaves_in_an_archive_is_nobodys_file():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("FRI/z1.fits", as_fits(IMAGES[0]))
        for junk in ("__MACOSX/FRI/._z1.fits", "FRI/.DS_Store", "Thumbs.db", "FRI/Desktop.ini"):
            file.writestr(junk, b"x")
    sources, _, rejected = ingest_cut_outs(
        files(**{"a.zip": stream.getvalue()}), NO_LABELS, PARAMETERS
    )
    assert sources["file"].tolist() == ["a.zip/FRI/z1.fits"]
    assert rejected.empty


def test_an_archive_with_nothing_in_it_is_rejected():
    stream = io.BytesIO()
    zipfile.ZipFile(stream, "w").close()
    _, _, rejected = ingest_cut_outs(
        files(**{"a.zip": stream.getvalue(), "b.fits": as_fits(IMAGES[0])}), NO_LABELS, PARAMETERS
    )
    assert rejected[["file", "reason"]].to_numpy().tolist() == [["a.zip", "empty archive"]]


def test_a_role_that_means_nothing_is_rejected_and_a_class_is_none():
    pattern = r"(?P<role>\w+)/(?P<class>\w+)/(?P<id>\w+)\.fits$"
    content = as_fits(IMAGES[0])
    sources, _, rejected = ingest_cut_outs(
        files(**{f"{n}.fits": content for n in ("train/FRI/a", "train/blob/b", "dev/FRI/c")}),
        NO_LABELS,
        PARAMETERS.model_copy(update={"file_pattern": pattern}),
    )
    assert sources["class"].tolist() == ["FRI", ""]
    assert sources["label_source"].iloc[1].startswith("class 'blob' is none of FRI, FRII")
    assert rejected["reason"].tolist() == ["unknown role"]
    assert rejected["value"].iloc[0].startswith("'dev', expected ['test', 'train'")


def test_a_folder_without_a_cut_out_ends_with_one_clear_error():
    with pytest.raises(ValueError, match="none of 1 files holds a usable cut-out: 1 empty file"):
        ingest_cut_outs(files(**{"a.fits": b""}), NO_LABELS, PARAMETERS)


@pytest.mark.parametrize("pattern", ["(", "(?P<colour>x)"])
def test_a_pattern_that_cannot_be_used_fails_before_anything_runs(pattern):
    with pytest.raises(ValidationError, match="file_pattern"):
        IngestionParameters(file_pattern=pattern)


# --- selection ------------------------------------------------------------------------------------


def selected(sources=None, cutouts=None, review=None, **changes):
    if sources is None:
        sources, cutouts, _ = ingest_cut_outs(fits_files(), labels(), PARAMETERS)
    return select_sample(
        sources,
        cutouts,
        pd.DataFrame() if review is None else review,
        PARAMETERS.model_copy(update={"radius": 20, **changes}),
    )


def test_clean_sources_are_kept_and_shown_on_sheets():
    sample, table, sheets, samples = selected()
    assert sample["keep"].all()
    assert len(table) == 6
    assert set(table["keep"]) == {"yes"}
    assert len(list(sheets)) == 1
    assert {name: len(load()) for name, load in samples.items()} == (
        TRUTH["class"].value_counts().to_dict()
    )


def test_each_fault_has_its_reason():
    _, images = survey(4, seed=1)
    images[0] *= 0.05  # the noise too: then it is not fainter in units of it
    images[0] += np.random.default_rng(0).normal(0, 1, images[0].shape)
    images[1] = np.roll(images[1], 30, axis=0)
    images[1, :] += np.random.default_rng(1).normal(0, 0.01, images[1].shape)
    named = files(**{f"{i}.fits": as_fits(image) for i, image in enumerate(images)})
    sources, cutouts, _ = ingest_cut_outs(named, NO_LABELS, PARAMETERS)
    sources[["ra", "dec"]] = [[10, 0], [11, 0], [12, 0], [12, 0.0005]]
    sample, *_ = selected(sources, cutouts)
    reasons = sample["reason"].tolist()
    assert reasons[0] in {"too faint", "no source", "no source in the middle"}
    assert reasons[1] in {"touches the edge", "no source in the middle"}
    assert reasons[2] == ""
    assert (reasons[3], sample["value"].iloc[3]) == ("duplicate", "of 2")
    assert sample["group"].iloc[3] == "2"


def test_entries_linked_by_content_or_place_are_one_source_however_long_the_chain():
    sources, cutouts, _ = ingest_cut_outs(fits_files(), labels(), PARAMETERS)
    sources = sources.iloc[:3].assign(
        ra=[100.0, 110.0, 110.0], dec=[0.0, 10.0, 10.0005], sha256=["same", "same", "other"]
    )
    sample, *_ = selected(sources, cutouts[:3])
    assert set(sample["group"]) == {sample["id"].iloc[0]}
    assert sample["keep"].tolist() == [True, False, False]


def test_of_twins_the_one_stays_that_more_is_known_of():
    sources, cutouts, _ = ingest_cut_outs(fits_files(), labels(), PARAMETERS)
    sources = sources.iloc[:3].assign(ra=100.0, dec=0.0, sha256=["a", "b", "c"])
    sources["class"] = ["", "bent", "FRI"]
    sources["bending_angle"] = [np.nan, 60.0, np.nan]
    sample, *_ = selected(sources, cutouts[:3])
    assert sample["keep"].tolist() == [False, True, False]
    known = sample["id"].iloc[1]
    assert sample["value"].tolist() == [
        f"of {known}", "", f"of {known}, which has the class bent"
    ]  # fmt: skip


def test_an_impossible_position_links_nothing_and_stops_nothing():
    sources, cutouts, _ = ingest_cut_outs(fits_files(), labels(), PARAMETERS)
    sample, *_ = selected(sources.assign(ra=-999.0, dec=-999.0), cutouts)
    assert sample["keep"].all()


def test_of_a_given_split_the_test_part_keeps_its_twin():
    content = archive()
    sources, cutouts, _ = ingest_cut_outs(files(**{"a.zip": content}), NO_LABELS, SPLIT)
    # The image of "train 0" is that of "test 6 % 6": identical files are one source.
    sample, *_ = selected(sources, cutouts, reject_at_edge=False, max_neighbour_share=1.0)
    twins = sample[sample.duplicated("group", keep=False)]
    assert len(twins)
    for _, group in twins.groupby("group"):
        assert group.loc[group["keep"], "role"].tolist() == ["test"]


def test_a_reader_has_the_last_word():
    _, table, *_ = selected()
    first, second = table["id"].iloc[:2]
    review = table.assign(keep=np.where(table["id"] == first, "no", table["keep"]))
    sample, after, *_ = selected(review=review)
    assert sample.set_index("id").loc[first, ["keep", "reason"]].tolist() == [False, "reviewed"]
    assert sample.set_index("id").loc[second, "keep"]
    assert after.set_index("id").loc[first, "keep"] == "no"
    # And takes back what the rules said.
    faint, *_ = selected(min_snr=1e9, review=table[["id", "keep"]].iloc[:1])
    assert faint.set_index("id")["keep"].sum() == 1
    assert faint.set_index("id").loc[first, "reason"] == ""


@pytest.mark.parametrize(
    ("review", "message"),
    [
        ({"id": ["nobody"], "keep": ["yes"]}, r"names sources that there are not: \['nobody'\]"),
        ({"id": ["SIM000001"], "keep": ["maybe"]}, "keep is yes or no in the review, not 'maybe'"),
        ({"id": ["SIM000001"]}, r"no column \['keep'\]"),
    ],
)
def test_a_review_that_cannot_be_read_is_an_error(review, message):
    with pytest.raises(ValueError, match=message):
        selected(review=pd.DataFrame(review))


def test_nothing_kept_ends_with_one_clear_error():
    with pytest.raises(ValueError, match=r"none of 6 cut-outs is kept: \{'too faint': 6\}"):
        selected(min_snr=1e9)
