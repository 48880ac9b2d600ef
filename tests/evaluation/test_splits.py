"""Splits: every object tested once, groups on one side, and tampering noticed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyloom.evaluation.splits import (
    check_no_leak,
    largest_number_of_folds,
    names_in_one_place,
    same_objects,
    share_of_classes,
    split_manifest,
)

ARCSEC = 1 / 3600


def table_of(groups_by_class):
    """One row an object; `groups_by_class[c]` lists the group sizes of class c."""
    rows, group = [], 0
    for label, sizes in enumerate(groups_by_class):
        for size in sizes:
            rows += [(f"group{group}", label)] * size
            group += 1
    table = pd.DataFrame(rows, columns=["group", "class"])
    table.insert(0, "id", [f"object{i}" for i in range(len(table))])
    table["sha256"] = "hash of " + table["group"]
    return table


def singles(*counts):
    return table_of([[1] * count for count in counts])


def split(objects, n_folds=3, seeds=(0,), n_inner_folds=3):
    return split_manifest(objects, n_folds=n_folds, n_inner_folds=n_inner_folds, seeds=seeds)


@pytest.fixture
def manifest():
    return split(table_of([[1, 2, 1, 1, 1], [2, 1, 1, 2, 2, 3]]), seeds=(0, 1))


sizes = st.lists(st.integers(1, 4), min_size=3, max_size=9)


@settings(max_examples=30)
@given(
    groups_by_class=st.lists(sizes, min_size=2, max_size=3),
    n_folds=st.integers(3, 5),
    n_inner_folds=st.integers(2, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_object_is_tested_once_and_no_group_is_on_two_sides(
    groups_by_class, n_folds, n_inner_folds, seed
):
    objects = table_of(groups_by_class)
    folds = largest_number_of_folds(objects, n_folds)
    manifest = split(objects, folds, (seed,), n_inner_folds)
    tested = manifest[(manifest["role"] == "test") & (manifest["inner"] == 0)]
    assert sorted(tested["id"]) == sorted(objects["id"])
    for _, part in manifest.groupby(["fold", "inner"]):
        assert sorted(part["id"]) == sorted(objects["id"])
        assert part.groupby("group")["role"].nunique().max() == 1
        assert set(part["role"]) == {"train", "validation", "test"}
    check_no_leak(manifest)


@settings(max_examples=30)
@given(
    groups_by_class=st.lists(sizes, min_size=2, max_size=3),
    n_inner_folds=st.integers(2, 5),
    seed=st.integers(0, 1000),
)
def test_every_object_outside_the_test_part_validates_in_one_inner_fold(
    groups_by_class, n_inner_folds, seed
):
    manifest = split(table_of(groups_by_class), 3, (seed,), n_inner_folds)
    for _, part in manifest.groupby("fold"):
        inner_folds = part["inner"].nunique()
        assert 2 <= inner_folds <= n_inner_folds
        assert sorted(part["inner"].unique()) == list(range(inner_folds))
        roles = part.groupby("id")["role"].value_counts().unstack(fill_value=0)
        tested = roles["test"] > 0
        assert (roles.loc[tested, "test"] == inner_folds).all()
        assert (roles.loc[~tested, "validation"] == 1).all()
        assert (roles.loc[~tested, "train"] == inner_folds - 1).all()


@settings(max_examples=30)
@given(counts=st.lists(st.integers(3, 25), min_size=2, max_size=4), seed=st.integers(0, 1000))
def test_single_objects_are_stratified_in_test_and_never_missing_from_training(counts, seed):
    objects = singles(*counts)
    folds = largest_number_of_folds(objects, 5)
    manifest = split(objects, folds, (seed,))
    n_fits = len(manifest.drop_duplicates(["fold", "inner"]))
    for label, count in enumerate(counts):
        mine = manifest[manifest["class"] == label]
        first = mine[(mine["role"] == "test") & (mine["inner"] == 0)]
        tested = first.groupby("fold").size().reindex(range(folds))
        assert set(tested) <= {count // folds, -(-count // folds)}
        trained = mine[mine["role"] == "train"]
        assert len(trained.drop_duplicates(["fold", "inner"])) == n_fits


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_the_smallest_samples_can_be_split_without_a_warning(count):
    objects = singles(count, count)
    manifest = split(objects, largest_number_of_folds(objects, 5), n_inner_folds=2)
    per_fold = manifest.groupby(["fold", "inner", "role"])["class"].nunique()
    assert (per_fold == 2).all()
    assert len(per_fold) == 3 * 2 * min(count, 5)


def test_a_class_with_fewer_groups_than_inner_folds_validates_where_it_can():
    manifest = split(singles(3, 60), 3, n_inner_folds=5)
    rest = manifest[manifest["role"] != "test"]
    assert (rest["role"] == "validation").mean() == pytest.approx(0.2, abs=0.02)
    rare = rest[(rest["class"] == 0) & (rest["role"] == "validation")]
    assert rare.groupby("fold").size().tolist() == [2, 2, 2]  # each of the two left, once


@pytest.mark.parametrize("n_inner_folds", [2, 3, 5])
def test_the_validation_part_is_one_inner_fold(n_inner_folds):
    manifest = split(singles(60, 40), 5, n_inner_folds=n_inner_folds)
    rest = manifest[manifest["role"] != "test"]
    shares = (rest["role"] == "validation").groupby([rest["fold"], rest["inner"]]).mean()
    assert len(shares) == 5 * n_inner_folds
    np.testing.assert_allclose(shares, 1 / n_inner_folds, atol=0.03)


def test_inner_folds_are_fewer_where_the_largest_class_has_fewer_groups_left():
    manifest = split(singles(3, 3), 3, n_inner_folds=5)
    assert (manifest.groupby("fold")["inner"].nunique() == 2).all()


def test_inner_folds_are_stratified():
    rest = split(singles(60, 40), 5).query("role == 'validation'")
    shares = (rest["class"] == 1).groupby([rest["fold"], rest["inner"]]).mean()
    np.testing.assert_allclose(shares, 0.4, atol=0.03)


def test_same_seed_same_split_and_another_seed_another():
    objects = singles(12, 9)
    first, again, other = (split(objects, seeds=(s,)) for s in (3, 3, 4))
    pd.testing.assert_frame_equal(first, again)
    assert (first["role"] != other["role"]).any()


def test_each_seed_is_a_complete_cross_validation():
    objects = singles(8, 8)
    manifest = split(objects, 4, seeds=(5, 0, 7))
    tests = manifest[manifest["role"] == "test"].groupby(["seed", "inner", "id"]).size()
    assert len(tests) == 3 * 3 * len(objects)
    assert (tests == 1).all()
    alone = split(objects, 4, seeds=(7,))
    pd.testing.assert_frame_equal(
        manifest[manifest["seed"] == 7].reset_index(drop=True), alone.reset_index(drop=True)
    )


@pytest.mark.parametrize(
    ("objects", "n_folds", "expected"),
    [
        (singles(10, 10), 5, 5),
        (singles(4, 10), 5, 4),
        (singles(3, 3), 5, 3),
        (singles(3, 10), 2, 2),
        (singles(2, 10), 5, 0),
        (singles(10), 5, 0),
        (singles(10)[:0], 5, 0),
        (table_of([[5], [1, 1, 1, 1]]), 5, 0),  # five rows, but one group
        (table_of([[2, 2, 2], [1] * 9]), 5, 3),
    ],
)
def test_folds_are_limited_by_the_groups_of_the_rarest_class(objects, n_folds, expected):
    assert largest_number_of_folds(objects, n_folds) == expected


@pytest.mark.parametrize(("counts", "n_folds"), [((4, 10), 5), ((10,), 2), ((2, 9), 2)])
def test_too_few_objects_is_an_error_that_says_how_many_are_needed(counts, n_folds):
    with pytest.raises(ValueError, match=f"{n_folds} folds need {max(n_folds, 3)} groups"):
        split(singles(*counts), n_folds)


def test_folds_that_leave_nothing_for_validation_are_an_error_that_says_so():
    objects = table_of([[1, 1, 1], [1, 1, 2]])
    with pytest.raises(ValueError, match="2 folds leave no objects to stop the training with"):
        split(objects, 2)
    check_no_leak(split(objects, 3))


def row_of(manifest, role, seed=0, fold=0, inner=0):
    chosen = manifest.query("seed == @seed and fold == @fold and inner == @inner and role == @role")
    return chosen.index[0]


def where_one_object_is_tested(manifest, seed=0):
    """Rows in which the first object that is tested in a seed is tested."""
    chosen = manifest.loc[row_of(manifest, "test", seed), "id"]
    tested = (manifest["seed"] == seed) & (manifest["role"] == "test")
    return manifest.index[tested & (manifest["id"] == chosen)]


def test_an_untouched_manifest_has_no_leak_also_after_a_round_trip_through_csv(manifest, tmp_path):
    check_no_leak(manifest)
    manifest.to_csv(tmp_path / "manifest.csv", index=False)
    check_no_leak(pd.read_csv(tmp_path / "manifest.csv"))


def test_a_group_torn_apart_is_noticed(manifest):
    members = manifest.query("seed == 0 and fold == 0 and inner == 1 and role == 'train'")
    torn = members[members.duplicated("group", keep=False)].index[0]
    manifest.loc[torn, "role"] = "validation"
    with pytest.raises(ValueError, match=f"group '{manifest.loc[torn, 'group']}' has more than"):
        check_no_leak(manifest)


def test_a_test_object_copied_into_training_is_noticed(manifest):
    copied = manifest.loc[[row_of(manifest, "test")]].assign(role="train")
    with pytest.raises(ValueError, match="more than one role"):
        check_no_leak(pd.concat([manifest, copied], ignore_index=True))


def test_a_test_object_copied_into_training_under_another_group_is_noticed(manifest):
    copied = manifest.loc[[row_of(manifest, "test")]].assign(role="train", group="another")
    with pytest.raises(ValueError, match=f"object '{copied['id'].item()}' is"):
        check_no_leak(pd.concat([manifest, copied], ignore_index=True))


def test_a_test_file_copied_into_training_under_another_id_is_noticed(manifest):
    copied = manifest.loc[[row_of(manifest, "test")]].assign(role="train", group="new", id="new")
    everywhere = pd.concat(
        [
            manifest,
            *(
                copied.assign(seed=s, fold=f, inner=i, role="train" if f < 2 else "test")
                for s in (0, 1)
                for f in (0, 1, 2)
                for i in (0, 1, 2)
            ),
        ],
        ignore_index=True,
    )
    with pytest.raises(ValueError, match="identical files in different groups"):
        check_no_leak(everywhere)


def test_an_object_tested_twice_is_noticed(manifest):
    single = manifest[~manifest.duplicated(["seed", "fold", "inner", "group"], keep=False)]
    chosen = single.query("seed == 1 and fold == 0 and role != 'test'")["id"].iloc[0]
    again = (manifest["seed"] == 1) & (manifest["fold"] == 0) & (manifest["id"] == chosen)
    manifest.loc[again, "role"] = "test"
    with pytest.raises(ValueError, match="tests of objects expected"):
        check_no_leak(manifest)


def test_an_object_never_tested_is_noticed(manifest):
    with pytest.raises(ValueError, match="tests of objects expected"):
        check_no_leak(manifest.drop(index=where_one_object_is_tested(manifest)))


def test_an_object_untested_in_one_seed_only_is_noticed(manifest):
    with pytest.raises(ValueError, match="tests of objects expected"):
        check_no_leak(manifest.drop(index=where_one_object_is_tested(manifest, seed=1)))


@pytest.mark.parametrize("role", ["train", "validation"])
def test_a_test_object_that_one_inner_fold_learns_from_is_noticed(manifest, role):
    # The prediction for a test object is the mean over the networks of all inner folds.
    single = manifest[~manifest.duplicated(["seed", "fold", "inner", "group"], keep=False)]
    chosen = single.query("seed == 0 and fold == 1 and inner == 2 and role == 'test'").index[0]
    manifest.loc[chosen, "role"] = role
    with pytest.raises(ValueError, match="|".join(manifest.loc[chosen, ["id", "group"]])):
        check_no_leak(manifest)


def test_the_order_of_the_rows_does_not_hide_a_leak(manifest):
    copied = manifest.loc[[row_of(manifest, "test")]].assign(role="train", group="another")
    shuffled = pd.concat([manifest, copied]).sample(frac=1, random_state=np.random.default_rng(0))
    with pytest.raises(ValueError, match=f"object '{copied['id'].item()}' is"):
        check_no_leak(shuffled)


# --- which entries are the same object ------------------------------------------------------------


def test_the_same_place_in_two_catalogues_is_one_source():
    ra = [10.0, 200.0, 10.0 + 2 * ARCSEC, 10.0, np.nan, np.nan]
    dec = [0.0, 45.0, 0.0, 4 * ARCSEC, 0.0, 0.0]
    assert same_objects(ra, dec, 3.0).tolist() == [0, 1, 0, 3, 4, 5]
    assert same_objects(ra, dec, 5.0).tolist() == [0, 1, 0, 0, 4, 5]


def test_friends_of_friends_are_one_source_also_across_zero():
    ra = (np.arange(5) * 2 - 4) * ARCSEC % 360
    assert same_objects(ra, np.zeros(5), 2.5).tolist() == [0] * 5


def test_entries_with_a_name_in_common_are_one_object():
    nowhere = np.full(5, np.nan)
    names, files = ["HD1", "", "HD2", "HD1", ""], ["a", "b", "b", "c", "d"]
    assert same_objects(nowhere, nowhere, 3.0, names, files).tolist() == [0, 1, 1, 0, 4]
    assert same_objects(nowhere, nowhere, 3.0, [""] * 5).tolist() == [0, 1, 2, 3, 4]


def test_a_name_of_places_far_apart_is_no_objects_and_an_unknown_place_contradicts_none():
    names = ["HD1", "STD", "HD1", "STD", "far", "HD1", "none known", "none known"]
    ra = [10.0, 20.0, 10.0 + 100 * ARCSEC, 200.0, 5.0, np.nan, np.nan, np.nan]
    dec = [0.0, 0.0, 0.0, 80.0, 5.0, np.nan, np.nan, np.nan]
    agree = names_in_one_place(names, ra, dec, 120.0)
    assert agree.tolist() == [True, False, True, False, True, True, True, True]
    assert names_in_one_place(names, ra, dec, 10.0).tolist()[:3] == [False, False, False]


def test_places_on_both_sides_of_zero_and_at_the_pole_are_near():
    ra, dec = [359.9999, 0.0001, 0.0, 180.0], [0.0, 0.0, 89.9999, 89.9999]
    assert names_in_one_place(["a", "a", "b", "b"], ra, dec, 1.0).all()


@pytest.mark.parametrize("n", [0, 1])
def test_few_names_are_no_contradiction(n):
    assert names_in_one_place([""] * n, np.zeros(n), np.zeros(n), 1.0).tolist() == [True] * n


@pytest.mark.parametrize("n", [0, 1])
def test_few_sources_are_no_duplicates(n):
    assert same_objects(np.zeros(n), np.zeros(n), 5.0).tolist() == list(range(n))


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 1.0])
def test_a_share_is_taken_of_every_class(share):
    classes = np.repeat([0, 1, 2], [40, 20, 4])
    rows = share_of_classes(classes, share, np.random.default_rng(0))
    assert np.all(np.diff(rows) > 0)
    expected = np.maximum(1, np.round(share * np.array([40, 20, 4])))
    np.testing.assert_array_equal(np.bincount(classes[rows]), expected)
