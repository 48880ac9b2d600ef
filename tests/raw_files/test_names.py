"""What files are called: endings, folders where names restart, and what is nobody's file."""

import pytest

from skyloom.raw_files.names import file_stem, is_of_user, names_an_object, object_ids


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a/b/NGC628.FITS.GZ", "NGC628"),
        ("x.fit.gz", "x"),
        ("x.fits.fz", "x"),
        ("x.csv.bz2", "x"),
        ("X.PNG", "X"),
        ("J0123+45.6", "J0123+45.6"),
        ("0.5_1.2.png", "0.5_1.2"),
        ("spec-4055-55359-0001.v5", "spec-4055-55359-0001.v5"),
        (".fits", ".fits"),
    ],
)
def test_known_endings_in_any_case_are_left_out_and_nothing_else(name, stem):
    assert file_stem(name) == stem


def test_ids_have_a_folder_only_where_names_restart_in_each():
    files = ["1.fits", "a/1.FITS", "a/deep/1.fits.gz", "a/2.fits", "b/3.csv"]
    assert object_ids(files) == {
        "1.fits": "1", "a/1.FITS": "a/1", "a/deep/1.fits.gz": "a/deep/1", "a/2.fits": "2",
        "b/3.csv": "3",
    }  # fmt: skip


def test_files_of_one_folder_that_differ_in_their_endings_are_one_object():
    assert object_ids(["a/1.fits", "a/1.png"]) == {"a/1.fits": "1", "a/1.png": "1"}


def test_names_may_be_told_otherwise():
    assert object_ids(["a/x1", "b/y1"], lambda file: file[-1]) == {"a/x1": "a/1", "b/y1": "b/1"}


@pytest.mark.parametrize(
    ("path", "of_user"),
    [
        ("a.fits", True),
        ("night 1/b.csv", True),
        ("__MACOSX/a.fits", False),
        ("a/._b.fits", False),
        (".cache/d.fits", False),
        ("a/THUMBS.DB", False),
        ("desktop.ini", False),
        ("thumbs.db.fits", True),
    ],
)
def test_hidden_files_and_those_of_systems_are_nobodys(path, of_user):
    assert is_of_user(path) == of_user


@pytest.mark.parametrize(
    "name",
    ["HD 2857", "hd002857", "1021", "NGC 6205", "AGC 12345", "Sky Islands", "BD+17 4708", "A 1"],
)
def test_names_of_objects(name):
    assert names_an_object(name)


@pytest.mark.parametrize(
    "name",
    ["", " ", "-", "--", "???", "none", "N/A", "Unknown", "STD,FLUX", "sky", "SKY_03", "Test 1"],
)
def test_what_observers_write_in_place_of_a_name(name):
    assert not names_an_object(name)
