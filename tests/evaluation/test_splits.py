"""Splits: every object tested once, groups on one side, and tampering noticed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyloom.evaluation.splits import check_no_leak, largest_number_of_folds, split_manifest


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


def split(objects, n_folds=3, seeds=(0,), validation_share=0.25):
    return split_manifest(objects, n_folds=n_folds, seeds=seeds, validation_share=validation_share)


@pytest.fixture
def manifest():
    return split(table_of([[1, 2, 1, 1, 1], [2, 1, 1, 2, 2, 3]]), seeds=(0, 1))


sizes = st.lists(st.integers(1, 4), min_size=3, max_size=9)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    groups_by_class=st.lists(sizes, min_size=2, max_size=3),
    n_folds=st.integers(3, 5),
    seed=st.integers(0, 2**32 - 1),
    validation_share=st.sampled_from([0.1, 0.2, 0.5]),
)
def test_every_object_is_tested_once_and_no_group_is_on_two_sides(
    groups_by_class, n_folds, seed, validation_share
):
    objects = table_of(groups_by_class)
    folds = largest_number_of_folds(objects, n_folds)
    manifest = split(objects, folds, (seed,), validation_share)
    tested = manifest.loc[manifest["role"] == "test", "id"]
    assert sorted(tested) == sorted(objects["id"])
    for _, part in manifest.groupby("fold"):
        assert sorted(part["id"]) == sorted(objects["id"])
        assert part.groupby("group")["role"].nunique().max() == 1
        assert set(part["role"]) == {"train", "validation", "test"}
    check_no_leak(manifest)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(counts=st.lists(st.integers(3, 25), min_size=2, max_size=4), seed=st.integers(0, 1000))
def test_single_objects_are_stratified_in_test_and_never_missing_from_training(counts, seed):
    objects = singles(*counts)
    folds = largest_number_of_folds(objects, 5)
    manifest = split(objects, folds, (seed,), 0.2)
    for label, count in enumerate(counts):
        mine = manifest[manifest["class"] == label]
        tested = mine[mine["role"] == "test"].groupby("fold").size().reindex(range(folds))
        assert set(tested) <= {count // folds, -(-count // folds)}
        assert mine[mine["role"] == "train"]["fold"].nunique() == folds


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_the_smallest_samples_can_be_split_without_a_warning(count):
    objects = singles(count, count)
    manifest = split(objects, largest_number_of_folds(objects, 5), validation_share=0.2)
    per_fold = manifest.groupby(["fold", "role"])["class"].nunique()
    assert (per_fold == 2).all()
    assert len(per_fold) == 3 * min(count, 5)


def test_a_rare_class_does_not_take_half_the_training_objects_for_validation():
    manifest = split(singles(3, 60), 3, validation_share=0.2)
    share = (manifest["role"] == "validation").sum() / (manifest["role"] != "test").sum()
    assert share == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_the_validation_share_is_kept(share):
    manifest = split(singles(60, 40), 5, validation_share=share)
    rest = manifest[manifest["role"] != "test"]
    assert (rest["role"] == "validation").mean() == pytest.approx(share, abs=0.02)


def test_same_seed_same_split_and_another_seed_another():
    objects = singles(12, 9)
    first, again, other = (split(objects, seeds=(s,)) for s in (3, 3, 4))
    pd.testing.assert_frame_equal(first, again)
    assert (first["role"] != other["role"]).any()


def test_each_seed_is_a_complete_cross_validation():
    objects = singles(8, 8)
    manifest = split(objects, 4, seeds=(5, 0, 7))
    tests = manifest[manifest["role"] == "test"].groupby(["seed", "id"]).size()
    assert len(tests) == 3 * len(objects)
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


def row_of(manifest, role, seed=0, fold=0):
    chosen = manifest.query("seed == @seed and fold == @fold and role == @role")
    return chosen.index[0]


def test_an_untouched_manifest_has_no_leak_also_after_a_round_trip_through_csv(manifest, tmp_path):
    check_no_leak(manifest)
    manifest.to_csv(tmp_path / "manifest.csv", index=False)
    check_no_leak(pd.read_csv(tmp_path / "manifest.csv"))


def test_a_group_torn_apart_is_noticed(manifest):
    members = manifest.query("seed == 0 and fold == 0 and role == 'train'")
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
    with pytest.raises(ValueError, match="in more than one group"):
        check_no_leak(pd.concat([manifest, copied], ignore_index=True))


def test_a_test_file_copied_into_training_under_another_id_is_noticed(manifest):
    copied = manifest.loc[[row_of(manifest, "test")]].assign(role="train", group="new", id="new")
    everywhere = pd.concat(
        [
            manifest,
            *(copied.assign(seed=s, fold=f, role="train") for s in (0, 1) for f in (0, 1)),
            *(copied.assign(seed=s, fold=2, role="test") for s in (0, 1)),
        ],
        ignore_index=True,
    )
    with pytest.raises(ValueError, match="identical files in different groups"):
        check_no_leak(everywhere)


def test_an_object_tested_twice_is_noticed(manifest):
    single = manifest[~manifest.duplicated(["seed", "fold", "group"], keep=False)]
    chosen = single.query("seed == 1 and fold == 0 and role == 'train'").index[0]
    manifest.loc[chosen, "role"] = "test"
    with pytest.raises(ValueError, match="tests of objects expected"):
        check_no_leak(manifest)


def test_an_object_never_tested_is_noticed(manifest):
    with pytest.raises(ValueError, match="tests of objects expected"):
        check_no_leak(manifest.drop(index=row_of(manifest, "test")))


def test_an_object_untested_in_one_seed_only_is_noticed(manifest):
    chosen = manifest.query("seed == 1 and role == 'test'").index[0]
    with pytest.raises(ValueError, match="tests of objects expected"):
        check_no_leak(manifest.drop(index=chosen))


def test_the_order_of_the_rows_does_not_hide_a_leak(manifest):
    copied = manifest.loc[[row_of(manifest, "test")]].assign(role="train", group="another")
    shuffled = pd.concat([manifest, copied]).sample(frac=1, random_state=np.random.default_rng(0))
    with pytest.raises(ValueError, match="in more than one group"):
        check_no_leak(shuffled)
