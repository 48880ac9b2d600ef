"""Tasks: keys, stored results, procedures side by side, and whatever can go wrong with them."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skyloom.compute import ClusterParameters, connect
from skyloom.learning.fitting import fit_on_split
from skyloom.learning.tasks import (
    FailedTask,
    Finished,
    ResultStore,
    Task,
    code_digest,
    digest,
    imported_modules,
    run_all,
    run_each,
    run_procedures,
)

# Dask opens a web server on a fixed port; it warns, and leaves a socket, if another run has it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Port 8787 is already in use:UserWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning"),
]

KEY = "ab" + "0" * 62


# --- digest ---------------------------------------------------------------------------------------

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
ARRAYS = st.sampled_from(["f4", "f8", ">f8", "i4", "i8", "u1", "?", "U3"]).flatmap(
    lambda dtype: hnp.arrays(dtype, SHAPES)
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(ARRAYS)
def test_equal_arrays_have_equal_digests_however_they_lie_in_memory(array):
    spread = np.empty((*array.shape, 2), array.dtype)
    spread[..., 0] = array
    spread = spread[..., 0]
    assert digest(array) == digest(array.copy()) == digest(array.copy(order="F"))
    assert digest(array) == digest(spread)


@given(ARRAYS, ARRAYS)
def test_arrays_have_equal_digests_only_if_they_are_the_same(first, second):
    same = (
        first.dtype == second.dtype
        and first.shape == second.shape
        and first.tobytes() == second.tobytes()
    )
    assert (digest(first) == digest(second)) == same


@given(ARRAYS.filter(lambda array: array.size and array.dtype.kind != "U"), st.data())
def test_one_other_number_in_an_array_changes_the_digest(array, data):
    changed = array.copy()
    with np.errstate(over="ignore"):  # 255 + 1 of 8 bits is 0: another number too
        changed.reshape(-1)[data.draw(st.integers(0, array.size - 1))] += 1
    assert (digest(changed) == digest(array)) == (changed.tobytes() == array.tobytes())


@pytest.mark.parametrize("shape", [(6,), (2, 3), (3, 2), (1, 6), (6, 1), (1, 2, 3)])
def test_another_shape_changes_the_digest(shape):
    others = [(6,), (2, 3), (3, 2), (1, 6), (6, 1), (1, 2, 3)]
    numbers = np.arange(6.0)
    same = [digest(numbers.reshape(other)) == digest(numbers.reshape(shape)) for other in others]
    assert sum(same) == 1


def test_a_number_and_an_array_of_one_number_have_different_digests():
    assert digest(np.array(1.5)) != digest(np.array([1.5]))


@pytest.mark.parametrize("dtype", ["f4", "i8", "i4", "u1", ">f8"])
def test_another_type_changes_the_digest(dtype):
    assert digest(np.arange(4.0)) != digest(np.arange(4.0).astype(dtype))
    assert digest(np.zeros(0)) != digest(np.zeros(0, dtype))


@given(PLAIN)
def test_equal_settings_have_equal_digests_in_any_order_of_their_names(value):
    def turned(item):
        if isinstance(item, dict):
            return {name: turned(item[name]) for name in reversed(item)}
        return [turned(part) for part in item] if isinstance(item, list) else item

    assert digest(turned(value)) == digest(value)
    assert digest({"a": value, "b": 1}) == digest({"b": 1, "a": value})
    assert digest(json.loads(json.dumps(value))) == digest(value)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([1, 2], [2, 1]),
        (1, 1.0),
        (1, True),
        (1, "1"),
        (None, "null"),
        ([[1], 2], [1, [2]]),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1, "b": None}),
        ({"a": np.arange(2), "b": np.arange(3)}, {"a": np.arange(3), "b": np.arange(2)}),
        (0.1, np.nextafter(0.1, 1)),
    ],
)
def test_other_settings_have_other_digests(first, second):
    assert digest(first) != digest(second)


def test_digest_is_the_same_in_another_process():
    value = {"b": [1, 2.5, None, "ü"], "a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    script = (
        "import numpy as np; from skyloom.learning.tasks import digest\n"
        "a = np.arange(6, dtype=np.float32).reshape(2, 3)\n"
        "print(digest({'a': a, 'b': [1, 2.5, None, 'ü']}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert run.stdout.decode().strip() == digest(value)


def test_what_cannot_be_written_down_has_no_digest():
    with pytest.raises(TypeError, match="cannot write object as JSON"):
        digest({"a": object()})


# --- the code of a task ---------------------------------------------------------------------------


@pytest.fixture
def edited(monkeypatch):
    """Changes the source of a module for as long as a test runs."""
    from skyloom.learning import tasks

    source = tasks._source

    def edit(name, addition):
        changed = {name: source(name) + addition}
        monkeypatch.setattr(tasks, "_source", lambda each: changed.get(each) or source(each))
        tasks._digest_of_module.cache_clear()

    yield edit
    tasks._digest_of_module.cache_clear()


def test_what_a_module_imports_is_followed_also_inside_of_functions():
    modules = imported_modules("skyloom.learning.fitting")
    assert {"skyloom.learning.fitting", "skyloom.learning.parameters"} <= modules
    # Imported in a function.
    assert "skyloom.evaluation.calibration" in modules
    # From there, and nothing that is not imported.
    assert imported_modules("skyloom.learning.nested") > imported_modules("skyloom.learning.tasks")
    assert "skyloom.learning.comparison" not in imported_modules("skyloom.learning.nested")
    assert all(name.partition(".")[0] == "skyloom" for name in modules)


def test_a_relative_import_is_refused_since_nobody_would_follow_it(monkeypatch):
    from skyloom.learning import tasks

    monkeypatch.setattr(tasks, "_source", lambda _: "from .fitting import predict\n")
    with pytest.raises(ImportError, match=r"skyloom\.anything imports relatively in line 1"):
        imported_modules("skyloom.anything")


def test_what_parameters_import_has_no_part_in_a_result():
    name = "skyloom.pipelines.hi_profiles.parameters"
    assert imported_modules(name) == {name}


def test_a_module_of_another_package_imports_nothing_of_this_one():
    assert imported_modules("json") == {"json"}


@pytest.mark.parametrize(
    ("module", "changes"),
    [
        ("skyloom.learning.fitting", True),
        ("skyloom.evaluation.calibration", True),  # imported by it, inside of a function
        ("skyloom.learning.comparison", False),
        ("skyloom.learning.nested", False),
    ],
)
def test_a_change_of_code_that_a_task_runs_changes_its_digest_and_no_other(module, changes, edited):
    before = code_digest(fit_on_split)
    edited(module, "\nx = 1\n")
    assert (code_digest(fit_on_split) != before) == changes
    edited(module, "")
    assert code_digest(fit_on_split) == before


def test_another_version_changes_the_digest(edited, monkeypatch):
    import skyloom

    before = code_digest(fit_on_split)
    monkeypatch.setattr(skyloom, "__version__", "0.0.0")
    edited("skyloom", "")  # forgets what it knows
    assert code_digest(fit_on_split) != before


def test_the_code_of_a_partial_is_that_of_its_function():
    assert code_digest(partial(fit_on_split, threads=2)) == code_digest(fit_on_split)
    assert code_digest(digest) != code_digest(fit_on_split)


# --- results on disk ------------------------------------------------------------------------------

RESULT = {"curve": np.arange(3.0), "history": np.ones((2, 4), np.float32), "n": np.array(7)}


def same_result(first, second):
    return set(first) == set(second) and all(
        first[name].dtype == second[name].dtype and np.array_equal(first[name], second[name])
        for name in first
    )


def file_of(store):
    (path,) = store.folder.rglob("*.npz")
    return path


@settings(max_examples=30)
@given(result=st.dictionaries(st.sampled_from(["a", "b 1", "ü"]), ARRAYS))
def test_a_result_comes_back_as_it_was(tmp_path_factory, result):
    store = ResultStore(tmp_path_factory.mktemp("store"))
    store.put(KEY, result)
    back = store.get(KEY)
    assert set(back) == set(result)
    for name, array in result.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert back[name].tobytes() == array.tobytes()


def test_there_is_no_result_before_it_is_put(tmp_path, caplog):
    store = ResultStore(tmp_path / "not made")
    assert store.get(KEY) is None
    assert not store.folder.exists()
    assert not caplog.records  # nothing is wrong with that


def test_results_of_different_tasks_do_not_meet(tmp_path):
    store = ResultStore(tmp_path)
    for i in range(20):
        store.put(digest(i), {"x": np.array(i)})
    assert [int(store.get(digest(i))["x"]) for i in range(20)] == list(range(20))


def test_a_result_put_again_takes_the_place_of_the_first(tmp_path):
    store = ResultStore(tmp_path)
    for i in range(2):
        store.put(KEY, {"x": np.array(i)})
    assert int(store.get(KEY)["x"]) == 1
    assert [path.name for path in tmp_path.rglob("*.*")] == [f"{KEY}.npz"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:1],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: b"\0" * len(data),
        lambda data: b"not an archive",
    ],
    ids=["empty", "one byte", "half", "last byte lost", "zeros", "text"],
)
def test_a_damaged_file_is_told_of_and_is_no_result(tmp_path, caplog, damage):
    store = ResultStore(tmp_path)
    store.put(KEY, RESULT)
    path = file_of(store)
    path.write_bytes(damage(path.read_bytes()))
    assert store.get(KEY) is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"{path} is damaged and is made anew" in record.getMessage()
    store.put(KEY, RESULT)
    assert same_result(store.get(KEY), RESULT)


def test_a_damaged_file_does_not_stay_open(tmp_path):
    store = ResultStore(tmp_path)
    store.put(KEY, RESULT)
    path = file_of(store)
    path.write_bytes(path.read_bytes()[:100])
    assert store.get(KEY) is None
    # What has been logged holds the error, and the error whatever was left open.
    assert str(path) not in [file.path for file in psutil.Process().open_files()]


def test_a_flipped_bit_anywhere_in_a_file_never_gives_another_result(tmp_path, caplog):
    caplog.set_level("CRITICAL", logger="skyloom")
    store = ResultStore(tmp_path)
    store.put(KEY, RESULT)
    path = file_of(store)
    good = path.read_bytes()
    wrong = []
    for i in range(len(good)):
        for bit in (0, 6):
            path.write_bytes(good[:i] + bytes([good[i] ^ 1 << bit]) + good[i + 1 :])
            try:
                found = store.get(KEY)
            except Exception as error:
                wrong.append((i, bit, repr(error)))
                continue
            if found is not None and not same_result(found, RESULT):
                wrong.append((i, bit, sorted(found)))
    assert not wrong


SPRUNG: list = []


def spring():
    SPRUNG.append(1)


class Trap:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return spring, ()


def test_a_pickle_in_the_store_is_refused_and_not_loaded(tmp_path, caplog):
    store = ResultStore(tmp_path)
    store.put(KEY, RESULT)
    np.savez(file_of(store), curve=np.array([Trap()], dtype=object))
    SPRUNG.clear()
    assert store.get(KEY) is None
    assert not SPRUNG
    assert "damaged" in caplog.text
    # The trap works: whoever allows pickles walks into it.
    dict(np.load(file_of(store), allow_pickle=True))
    assert SPRUNG


def test_python_objects_cannot_be_put(tmp_path):
    store = ResultStore(tmp_path)
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        store.put(KEY, {"x": np.array([{}], dtype=object)})
    assert store.get(KEY) is None


def test_a_file_that_was_being_written_is_not_a_result(tmp_path, monkeypatch):
    store = ResultStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", lambda self, target: 1 / 0)  # power is cut here
        with pytest.raises(ZeroDivisionError):
            store.put(KEY, RESULT)
    (left,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert left.suffix == ".part"
    left.write_bytes(left.read_bytes()[:100])
    assert store.get(KEY) is None
    store.put(KEY, RESULT)
    assert same_result(store.get(KEY), RESULT)


# --- procedures, in this process ------------------------------------------------------------------

CALLS: list = []
RUNNING: list = []
MAY_GO_ON = threading.Event()


@pytest.fixture(autouse=True)
def calls():
    """What the workers of this process have computed."""
    CALLS.clear()
    return CALLS


def double(settings, arrays, shared):
    CALLS.append(settings["x"])
    if settings.get("fails"):
        msg = f"no {settings['x']}"
        raise ArithmeticError(msg)
    return {"y": 2 * settings["x"] + sum(map(np.sum, [*arrays.values(), *shared.values()]))}


def wait_to_be_told(settings, arrays, shared):
    if settings["x"] and not MAY_GO_ON.wait(timeout=20):
        raise TimeoutError
    return {"y": np.array(settings["x"])}


def count_running(settings, arrays, shared):
    """How many are at it, this one among them."""
    RUNNING.append(settings["x"])
    time.sleep(0.05)
    n = len(RUNNING)
    RUNNING.remove(settings["x"])
    return {"y": np.array(n)}


def task(x, arrays=None, shared=(), **more):
    return Task({"x": x, **more}, arrays or {}, shared)


def at_once(tasks):
    """Ask for all tasks and hand out number and result of each."""
    results = yield tasks
    for asked, result in zip(tasks, results, strict=True):
        yield Finished((asked.settings["x"], value(result)))


def value(result):
    return result if isinstance(result, FailedTask) else float(result["y"])


def results_of(procedures, store, work=double, shared=None, **more):
    with connect(ClusterParameters(n_workers=0), 16) as (client, _):
        return list(run_procedures(procedures, work, shared or {}, store, client, **more))


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def test_a_worker_with_many_threads_fits_one_at_a_time(tmp_path):
    # Fits of a process share their compiled network and the state of its random numbers.
    RUNNING.clear()
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=4, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as several,
    ):
        tasks = [task(x) for x in range(8)]
        found = list(
            run_procedures([at_once(tasks)], count_running, {}, ResultStore(tmp_path), several)
        )
    assert found == [(x, 1.0) for x in range(8)]


def test_results_come_in_the_order_of_the_tasks(tmp_path):
    numbers = [5, 3, 8, 1, 9, 2]
    found = results_of([at_once([task(x) for x in numbers])], ResultStore(tmp_path))
    assert found == [(x, 2.0 * x) for x in numbers]


def test_work_gets_the_settings_arrays_and_shared_inputs_of_its_task(tmp_path):
    shared = {"a": np.full(3, 10.0), "b": np.full(2, 100.0), "unused": np.ones(1)}
    tasks = [
        task(1, {"rows": np.array([0.25])}, ("a",)),
        task(1, {"rows": np.array([0.25])}, ("a", "b")),
        task(1, {"rows": np.array([0.5])}),
    ]
    found = results_of([at_once(tasks)], ResultStore(tmp_path), shared=shared)
    assert [y for _, y in found] == [32.25, 232.25, 2.5]


def test_what_a_procedure_hands_out_comes_before_the_others_end(tmp_path, client):
    def first():
        yield Finished("begun")
        yield from at_once([task(0)])

    MAY_GO_ON.clear()
    running = run_procedures(
        [first(), at_once([task(1), task(2)])], wait_to_be_told, {}, ResultStore(tmp_path), client
    )
    assert next(running) == "begun"
    assert next(running) == (0, 0.0)
    MAY_GO_ON.set()
    assert list(running) == [(1, 1.0), (2, 2.0)]


def climb(start, rounds):
    """Ask for one task after another, each with what the one before gave."""
    x = start
    for number in range(rounds):
        (result,) = yield [task(x)]
        yield Finished((start, number, value(result)))
        x = int(result["y"])


def test_procedures_go_through_their_rounds_side_by_side(tmp_path, calls):
    found = results_of([climb(1, 4), climb(3, 2), at_once([task(100)])], ResultStore(tmp_path))
    assert [item for item in found if item[0] == 1] == [(1, i, 2.0 ** (i + 1)) for i in range(4)]
    assert [item for item in found if item[0] == 3] == [(3, 0, 6.0), (3, 1, 12.0)]
    assert (100, 200.0) in found
    assert sorted(calls) == [1, 2, 3, 4, 6, 8, 100]


def test_a_procedure_that_needs_no_task_goes_on(tmp_path):
    def nothing():
        results = yield []
        yield Finished(len(results or []))
        yield from at_once([task(1)])

    def nothing_at_all():
        return
        yield

    found = results_of([nothing(), nothing_at_all()], ResultStore(tmp_path))
    assert found == [0, (1, 2.0)]


def test_a_task_that_fails_is_a_result_and_the_others_go_on(tmp_path, caplog):
    tasks = [task(1), task(2, fails=True), task(3)]
    found = dict(results_of([at_once(tasks)], ResultStore(tmp_path)))
    assert found == {1: 2.0, 2: FailedTask("ArithmeticError: no 2"), 3: 6.0}
    assert "a fit failed: ArithmeticError: no 2" in caplog.text


def test_a_failed_task_is_not_stored_and_runs_again_next_time(tmp_path, calls):
    store = ResultStore(tmp_path)
    for _ in range(2):
        results_of([at_once([task(1), task(2, fails=True)])], store)
    assert sorted(calls) == [1, 2, 2]
    assert len(list(tmp_path.rglob("*.npz"))) == 1


def test_a_failed_task_runs_again_also_on_the_same_connection(tmp_path, client, calls):
    store = ResultStore(tmp_path)
    for _ in range(20):
        list(run_procedures([at_once([task(1, fails=True)])], double, {}, store, client))
    assert calls == [1] * 20


def test_a_failed_task_that_is_asked_for_in_a_later_round_runs_again(tmp_path, client, calls):
    def stubborn():
        for _ in range(20):
            yield [task(1, fails=True)]
        yield Finished("done")

    store = ResultStore(tmp_path)
    assert list(run_procedures([stubborn()], double, {}, store, client)) == ["done"]
    assert calls == [1] * 20


def test_equal_tasks_are_computed_once(tmp_path, calls):
    twice = at_once([task(4), task(5), task(4)])
    found = results_of([twice, at_once([task(4)]), climb(2, 2)], ResultStore(tmp_path))
    assert sorted(found) == [(2, 0, 4.0), (2, 1, 8.0), (4, 8.0), (4, 8.0), (4, 8.0), (5, 10.0)]
    assert sorted(calls) == [2, 4, 5]


def test_an_equal_task_that_fails_fails_for_everyone(tmp_path, calls):
    found = results_of([at_once([task(1, fails=True)]), at_once([task(1, fails=True)])],
                  ResultStore(tmp_path))  # fmt: skip
    assert found == [(1, FailedTask("ArithmeticError: no 1"))] * 2
    assert calls == [1]


def test_stored_results_are_not_computed_again(tmp_path, calls):
    store = ResultStore(tmp_path)
    first = results_of([climb(1, 3), at_once([task(7)])], store)
    assert len(calls) == 4
    again = results_of([climb(1, 4), at_once([task(7), task(8)])], ResultStore(tmp_path))
    assert sorted(again) == sorted([*first, (1, 3, 16.0), (8, 16.0)])
    assert sorted(calls[4:]) == [8]  # the fourth round of the climb asks for 8, too


def test_a_damaged_result_is_computed_again(tmp_path, calls, caplog):
    store = ResultStore(tmp_path)
    first = results_of([at_once([task(1), task(2)])], store)
    path = sorted(tmp_path.rglob("*.npz"))[0]
    good = path.read_bytes()
    path.write_bytes(good[:50])
    assert results_of([at_once([task(1), task(2)])], store) == first
    assert len(calls) == 3
    assert "damaged" in caplog.text
    assert path.read_bytes() == good


def tasks_of_three_kinds():
    return {
        "one": task(1, {"rows": np.arange(3)}, ("a",)),
        "two": task(2, {"rows": np.arange(4)}, ("a", "b")),
        "three": task(3, {"rows": np.arange(5)}),
    }


SHARED = {"a": np.arange(4.0), "b": {"images": np.ones((2, 2)), "rows": np.arange(2)}}


def shared_sum(settings, arrays, shared):
    CALLS.append(settings["x"])
    return {"y": np.array(settings["x"])}


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        (lambda tasks, shared: None, []),
        (lambda tasks, shared: tasks.update(one=task(10, {"rows": np.arange(3)}, ("a",))), [10]),
        (lambda tasks, shared: tasks["two"].settings.update(more=1), [2]),
        (lambda tasks, shared: tasks["three"].arrays.update(rows=np.array([0, 1, 2, 4, 3])), [3]),
        (lambda tasks, shared: tasks["three"].arrays.update(more=np.arange(2)), [3]),
        (lambda tasks, shared: shared.update(a=np.array([0.0, 1, 2, 4])), [1, 2]),
        (lambda tasks, shared: shared.update(b=SHARED["b"] | {"rows": np.array([1, 0])}), [2]),
        (lambda tasks, shared: shared.update(unused=np.zeros(1)), []),
        (lambda tasks, shared: tasks.update(two=tasks["two"]._replace(shared=("b",))), [2]),
    ],
    ids=["nothing", "a setting", "one more setting", "an array", "one more array",
         "an input of two tasks", "a part of an input of one task", "an input of no task",
         "which inputs a task reads"],
)  # fmt: skip
def test_a_change_computes_again_just_what_it_touches(tmp_path, calls, change, touched):
    store = ResultStore(tmp_path)
    results_of(
        [at_once(list(tasks_of_three_kinds().values()))], store, shared_sum, SHARED, code="1"
    )
    assert len(calls) == 3
    tasks, shared = tasks_of_three_kinds(), dict(SHARED)
    change(tasks, shared)
    results_of([at_once(list(tasks.values()))], store, shared_sum, shared, code="1")
    assert sorted(calls[3:]) == touched


def test_a_change_of_the_code_computes_everything_again(tmp_path, calls):
    store = ResultStore(tmp_path)
    for code in ("1", "2", "1"):
        tasks = list(tasks_of_three_kinds().values())
        results_of([at_once(tasks)], store, shared_sum, SHARED, code=code)
    assert sorted(calls) == [1, 1, 2, 2, 3, 3]


def test_the_order_of_settings_arrays_and_names_of_a_task_does_not_matter(tmp_path, calls):
    a, b = np.arange(2), np.arange(3)
    tasks = [
        Task({"x": 1, "more": 2}, {"a": a, "b": b}, ("a", "b")),
        Task({"more": 2, "x": 1}, {"b": b, "a": a}, ("b", "a")),
    ]
    results_of([at_once(tasks)], ResultStore(tmp_path), shared_sum, SHARED)
    assert calls == [1]


def test_a_shared_input_that_there_is_not_is_an_error(tmp_path):
    message = r"no shared input \['c'\]; there are \['a', 'b'\]"
    with pytest.raises(ValueError, match=message):
        results_of([at_once([task(1, {}, ("a", "c"))])], ResultStore(tmp_path), double, SHARED)


def test_whoever_watches_is_told_of_every_task(tmp_path):
    told = []
    procedures = [climb(1, 3), at_once([task(2), task(2), task(9, fails=True)])]
    results_of(
        procedures, ResultStore(tmp_path), on_task=lambda done, known: told.append((done, known))
    )
    assert told[-1] == (6, 6)
    assert all(done <= known for done, known in told)
    assert told == sorted(told)


def test_a_sweep_that_is_left_keeps_what_it_has_finished(tmp_path, client, calls):
    store = ResultStore(tmp_path)
    running = run_procedures([climb(1, 6)], double, {}, store, client)
    for _ in range(3):
        next(running)
    running.close()
    before = len(calls)
    assert len(list(tmp_path.rglob("*.npz"))) == 3
    assert len(results_of([climb(1, 6)], store)) == 6
    # The third item came while nothing was asked for yet.
    assert calls[before:] == [8, 16, 32]


# --- all of them, and each of them ----------------------------------------------------------------

HERE = ClusterParameters(n_workers=0)


def threaded(settings, arrays, shared, *, threads):
    """As a study's work is called."""
    assert threads >= 1
    return double(settings, arrays, shared)


def each(tasks, store, **more):
    about = {"size": 16, "about": "doubling"} | more
    return dict(run_each(tasks, threaded, {"one": np.array([1])}, store, HERE, **about))


def test_all_procedures_are_run_with_the_code_of_their_work_in_the_key(tmp_path, calls, edited):
    store, told = ResultStore(tmp_path), []

    def run():
        given = [climb(1, 2), at_once([task(7)])]
        return list(
            run_all(given, threaded, {}, store, HERE, size=16, on_task=lambda *n: told.append(n))
        )

    assert sorted(run()) == [(1, 0, 2.0), (1, 1, 4.0), (7, 14.0)]
    assert told[-1] == (3, 3)
    run()
    assert len(calls) == 3
    edited(__name__, "\nx = 1\n")
    run()
    assert len(calls) == 6


def test_each_task_is_run_and_handed_out_by_its_key(tmp_path, calls):
    tasks = {"a": task(1), ("b", 2): task(2, {}, ("one",)), 3: task(3)}
    results = each(tasks, ResultStore(tmp_path))
    assert {key: int(result["y"]) for key, result in results.items()} == {"a": 2, ("b", 2): 5, 3: 6}
    assert each(tasks, ResultStore(tmp_path)).keys() == results.keys()
    assert sorted(calls) == [1, 2, 3]  # what is there is not run again


def test_of_tasks_that_are_all_needed_one_that_fails_is_an_error_that_names_it(tmp_path, calls):
    store = ResultStore(tmp_path)
    tasks = {"good": task(1), "bad": task(2, fails=True)}
    with pytest.raises(RuntimeError, match=r"^doubling, bad: ArithmeticError: no 2$"):
        each(tasks, store)
    assert each({"good": task(1)}, store)["good"]["y"] == 2
    assert calls.count(1) == 1  # it was kept


def test_no_tasks_are_no_results(tmp_path):
    assert each({}, ResultStore(tmp_path)) == {}


def test_the_bar_says_what_is_done_and_what_it_counts(tmp_path, capsys):
    each({1: task(1), 2: task(2)}, ResultStore(tmp_path), unit="number")
    assert re.search(r"doubling: 100%.* 2/2 .*number", capsys.readouterr().err)


# --- procedures, in other processes ---------------------------------------------------------------

TOY = """
import os, time
import numpy as np
from skyloom.learning.tasks import Finished, Task

def work(settings, arrays, shared):
    x = settings["x"]
    time.sleep(settings.get("seconds", 0))
    if x == settings.get("poison"):
        os._exit(1)
    if os.environ.get("TOY_LOG"):
        with open(os.environ["TOY_LOG"], "a") as file:
            file.write(f"{x}\\n")
    return {"y": x * shared["factor"] + arrays["rows"].sum()}

def ask(xs, **more):
    return [Task({"x": x, **more}, {"rows": np.arange(x % 5)}, ("factor",)) for x in xs]

def grid(xs, **more):
    results = yield ask(xs, **more)
    for x, result in zip(xs, results, strict=True):
        yield Finished((x, getattr(result, "error", None) or float(result["y"][0])))

def climb(x, rounds, **more):
    for _ in range(rounds):
        (result,) = yield ask([x], **more)
        yield Finished((x, float(result["y"][0])))
        x = 1000 * (x // 1000) + int(result["y"][0]) % 1000

def procedures(seconds):
    several = [grid([x], seconds=seconds) for x in range(6)]
    return [climb(1001, 4, seconds=seconds), climb(5002, 4, seconds=seconds), *several]

shared = {"factor": np.full(1000, 3.0)}
"""

DRIVER = """
import sys
from pathlib import Path
import toy_tasks
from skyloom.compute import ClusterParameters, connect
from skyloom.learning.tasks import ResultStore, run_procedures

if __name__ == "__main__":
    rows = []
    with connect(ClusterParameters(n_workers=2), 16) as (client, _):
        for item in run_procedures(
            toy_tasks.procedures(0.2), toy_tasks.work, toy_tasks.shared,
            ResultStore(sys.argv[1]), client,
        ):
            print(*item, flush=True)
            rows.append(item)
    Path(sys.argv[2]).write_text(repr(sorted(rows)))
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Module that other processes can import, too."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy_tasks.py").write_text(TOY)
    (folder / "driver.py").write_text(DRIVER)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        import toy_tasks

        yield toy_tasks
    sys.modules.pop("toy_tasks")


@contextmanager
def scheduler_and_workers(folder, n_workers=2):
    """A scheduler and workers as they are started on a cluster; address and processes."""
    command = [sys.executable, "-m", "dask"]
    common = ["--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0",
              "--scheduler-file", str(folder / "scheduler.json")]  # fmt: skip
    single = ["--no-nanny", "--nthreads", "1", "--local-directory", str(folder)]
    processes = []
    with (folder / "dask.log").open("w") as log:
        try:
            processes.extend(
                subprocess.Popen([*command, *arguments, *common], stdout=log, stderr=log)
                for arguments in [["scheduler", "--port", "0"], *[["worker", *single]] * n_workers]
            )
            deadline = time.monotonic() + 30
            while not (folder / "scheduler.json").exists():
                assert time.monotonic() < deadline, (folder / "dask.log").read_text()
                time.sleep(0.05)
            yield json.loads((folder / "scheduler.json").read_text())["address"], processes
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.wait(timeout=10)


def test_other_machines_give_the_same_and_losing_one_costs_nothing(toy, tmp_path):
    expected = results_of(toy.procedures(0), ResultStore(tmp_path / "here"), toy.work, toy.shared)
    store = ResultStore(tmp_path / "there")
    found = []
    with (
        scheduler_and_workers(tmp_path) as (address, (_, first, _)),
        connect(ClusterParameters(address=address), 16) as (client, _),
    ):
        client.wait_for_workers(2, timeout=30)
        for item in run_procedures(toy.procedures(0.3), toy.work, toy.shared, store, client):
            found.append(item)
            if len(found) == 3:
                first.send_signal(signal.SIGKILL)  # both are busy: it dies in the middle of a task
        assert first.wait(timeout=10) == -signal.SIGKILL
    assert sorted(found) == sorted(expected)
    assert len(list(store.folder.rglob("*.npz"))) == len(expected)


def test_a_lost_scheduler_ends_the_sweep_and_is_not_taken_for_failed_fits(toy, tmp_path):
    store = ResultStore(tmp_path / "store")
    found = []
    with (
        scheduler_and_workers(tmp_path) as (address, (scheduler, *_)),
        connect(ClusterParameters(address=address), 16) as (client, _),
    ):
        running = run_procedures(
            [toy.grid([x], seconds=0.1) for x in range(10)], toy.work, toy.shared, store, client
        )
        found.append(next(running))
        scheduler.send_signal(signal.SIGKILL)
        with pytest.raises(OSError):  # noqa: PT011 - whichever kind of lost connection
            found += running
    assert not [item for item in found if isinstance(item[1], str)]


def run_driver(driver, folder, *, kill_after=None):
    """Run a sweep as a program of its own; what it had finished by its end or its death."""
    command = [sys.executable, driver, str(folder / "store")]
    environment = os.environ | {"TOY_LOG": str(folder / "log.txt")}
    lines = []
    with (folder / "driver.log").open("a") as log:
        process = subprocess.Popen(
            [*command, str(folder / "table.txt")], env=environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        timer = threading.Timer(40, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                lines.append(line.split()[0])
                if len(lines) == kill_after:
                    process.kill()  # the driver alone: its workers find out by themselves
                    break
            code = process.wait(timeout=20)
        finally:
            timer.cancel()
            process.stdout.close()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert code == (-signal.SIGKILL if kill_after else 0), (folder / "driver.log").read_text()
    return lines


def test_a_killed_sweep_goes_on_where_it_was(toy, tmp_path):
    expected = results_of(toy.procedures(0), ResultStore(tmp_path / "other"), toy.work, toy.shared)
    driver = toy.__file__.replace("toy_tasks", "driver")
    before = run_driver(driver, tmp_path, kill_after=5)
    assert not (tmp_path / "table.txt").exists()
    after = run_driver(driver, tmp_path)
    assert (tmp_path / "table.txt").read_text() == repr(sorted(expected))
    assert len(before) == 5
    assert len(after) == len(expected)
    ran = (tmp_path / "log.txt").read_text().split()
    assert set(ran) == set(after)
    for name in before:
        assert ran.count(name) == 1, name
    # At most the tasks that each of the two workers was at ran twice.
    assert len(ran) <= len(expected) + 4


def test_a_task_that_kills_its_worker_fails_alone(toy, tmp_path):
    procedures = [toy.grid([x], poison=0, seconds=0.05) for x in range(6)]
    with connect(ClusterParameters(n_workers=1), 16) as (client, _):
        found = dict(
            run_procedures(procedures, toy.work, toy.shared, ResultStore(tmp_path), client)
        )
    assert found.pop(0).startswith("KilledWorker: ")
    assert found == {x: 3.0 * x + sum(range(x % 5)) for x in range(1, 6)}
