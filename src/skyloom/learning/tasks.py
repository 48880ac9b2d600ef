"""Tasks mapped over Dask, every result kept as it comes.

A *task* is one fit. A *procedure* is a generator that yields lists of tasks, gets their results,
and decides what comes next: a grid asks for all of its tasks at once, a search in rounds. Many
procedures run side by side on the same workers.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import io
import json
import logging
import os
import threading
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

import skyloom
from skyloom.compute import ClusterParameters, connect

logger = logging.getLogger(__name__)

Result = dict[str, np.ndarray]
_PLOTS = "skyloom.plots"
_CHECKSUM = hashlib.sha256().digest_size
_one_at_a_time = threading.Lock()


class Task(NamedTuple):
    """One piece of work, with everything its result depends on.

    Attributes
    ----------
    settings : dict
        Plain values that can be written as JSON.
    arrays : dict of str to numpy.ndarray
        Small arrays of this task alone, such as the rows to train on.
    shared : tuple of str
        Names of the shared inputs it reads.
    """

    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]
    shared: tuple[str, ...] = ()


class FailedTask(NamedTuple):
    """What stands in place of the result of a task that failed.

    Attributes
    ----------
    error : str
        Type and message of the exception.
    """

    error: str


class Finished(NamedTuple):
    """What a procedure yields to hand out a result before it ends.

    Attributes
    ----------
    item : object
        The result.
    """

    item: Any


Procedure = Generator["list[Task] | Finished", "list[Result | FailedTask] | None", Any]


def digest(value: Any) -> str:
    """SHA-256 of plain values and arrays, nested in dicts and lists.

    Parameters
    ----------
    value : object
        Anything JSON can hold, and NumPy arrays.

    Returns
    -------
    str
        Equal for equal contents, on any machine.
    """

    def encode(item):
        if isinstance(item, np.ndarray):
            return [str(item.dtype), item.shape, hashlib.sha256(item.tobytes()).hexdigest()]
        msg = f"cannot write {type(item).__name__} as JSON"
        raise TypeError(msg)

    text = json.dumps(value, sort_keys=True, default=encode)
    return hashlib.sha256(text.encode()).hexdigest()


def code_digest(work: Callable[..., Result]) -> str:
    """SHA-256 of the code that a task runs: a change of it makes earlier results stale.

    Parameters
    ----------
    work : callable
        A function of a module of this package, or a partial of one.

    Returns
    -------
    str
        Of the sources of its module and of all modules of the package that this imports, directly
        or not, also inside of functions; but for figures. Nothing is listed by hand, so that
        nothing can be forgotten.
    """
    return _digest_of_module(getattr(work, "func", work).__module__)


@functools.cache
def _digest_of_module(name: str) -> str:
    sources = {each: _source(each) for each in sorted(imported_modules(name))}
    return digest([skyloom.__version__, sources])


def imported_modules(name: str) -> set[str]:
    """A module of this package and all that it imports of the package.

    Parameters
    ----------
    name : str
        Of the module; one of another package imports nothing of this one.

    Returns
    -------
    set of str
    """
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        # Parameters are what a user sets: their values are in the settings of a task, and what
        # their module imports (addresses of archives, say) has no part in a result.
        if module.rpartition(".")[2] != "parameters":
            # Nor has a figure.
            waiting += [name for name in _imports(module) if not name.startswith(_PLOTS)]
    return found


def _imports(module: str) -> list[str]:
    """Modules of this package that one names in its import statements."""
    package = skyloom.__name__
    names = []
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            if module.partition(".")[0] == package:
                msg = f"{module} imports relatively in line {node.lineno}; name the module in full"
                raise ImportError(msg)
        elif isinstance(node, ast.ImportFrom):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    # What is imported from a module may be a function of it.
    return [
        name for name in names
        if name.partition(".")[0] == package and _exists(name)
    ]  # fmt: skip


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module and no package
        return False


def _source(module: str) -> str:
    """Source of a module that need not have been imported."""
    specification = importlib.util.find_spec(module)
    return Path(specification.origin).read_text() if specification and specification.origin else ""


class ResultStore:
    """Results of tasks on disk, a file each, written under another name and then renamed.

    Parameters
    ----------
    folder : path-like
        Made when first needed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"

    def get(self, key: str) -> Result | None:
        """Result of a task, or None where there is none that can be read.

        Parameters
        ----------
        key : str
            From `digest`.

        Returns
        -------
        dict of str to numpy.ndarray, or None
        """
        path = self._path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        checksum, archive = content[:_CHECKSUM], content[_CHECKSUM:]
        if hashlib.sha256(archive).digest() != checksum:
            logger.warning("%s is damaged and is made anew", path)
            return None
        with np.load(io.BytesIO(archive), allow_pickle=False) as arrays:
            try:
                return dict(arrays)
            except ValueError as error:  # Python objects, which are never loaded
                logger.warning("%s is refused and made anew: %s", path, error)
                return None

    def put(self, key: str, result: Result) -> None:
        """Keep a result.

        Parameters
        ----------
        key : str
            From `digest`.
        result : dict of str to numpy.ndarray
            Without Python objects.
        """
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **result)
        partial = path.with_suffix(f".{os.getpid()}.part")
        with partial.open("wb") as file:
            file.write(hashlib.sha256(buffer.getbuffer()).digest())
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave an empty file under the name
        partial.replace(path)


def run_procedures(
    procedures: Iterable[Procedure],
    work: Callable[[dict, dict, dict], Result],
    shared: dict[str, Any],
    store: ResultStore,
    client: Any,
    *,
    code: str = "",
    on_task: Callable[[int, int], None] | None = None,
) -> Iterator[Any]:
    """Run procedures side by side and hand out what they finish, as they finish it.

    Parameters
    ----------
    procedures : iterable of generator
        Each yields lists of `Task` and receives the list of their results, in order;
        `FailedTask` stands for one that failed. It may yield `Finished` at any time.
    work : callable
        ``work(settings, arrays, shared)`` returns the result of one task. A function of a module,
        so that workers can import it.
    shared : dict of str to object
        Inputs of many tasks. A worker receives each once, and again if it was lost.
    store : ResultStore
        Where results are kept; a task whose result is there is not run again.
    client : distributed.Client
        Connection to the workers.
    code : str
        Digest of the code that ``work`` uses; part of every task's key.
    on_task : callable
        Told the number of tasks done and known after each one.

    Yields
    ------
    object
        The ``item`` of every `Finished`.

    Raises
    ------
    ValueError
        If a task names a shared input that there is not.
    """
    run = _Run(procedures, work, shared, store, client, code, on_task)
    for number in range(len(run.sessions)):
        yield from run.advance(number)
    for future in run.futures:
        for number in run.finish(future):
            yield from run.advance(number)


class _Run:
    """Procedures that run side by side, and the tasks that they wait for."""

    def __init__(self, procedures, work, shared, store, client, code, on_task) -> None:
        from dask.distributed import as_completed

        self.sessions = [_Session(procedure) for procedure in procedures]
        self.futures = as_completed(loop=client.loop)
        self._work, self._shared, self._store, self._client = work, shared, store, client
        self._code, self._on_task = code, on_task
        self._digests = {name: digest(value) for name, value in shared.items()}
        self._inputs: dict[str, Any] = {}  # futures of the shared inputs, made as they are needed
        self._waiting: dict[str, list[tuple[int, int]]] = {}  # procedure and position, by task
        self._running: dict[str, Task] = {}
        self._suspects: dict[str, Task] = {}  # lost their worker, or were beside one that kills it
        self._tried_alone: set[str] = set()
        self._done = self._known = 0

    def advance(self, number: int) -> Iterator[Any]:
        """Run a procedure until it waits for results that are not there yet."""
        session = self.sessions[number]
        while (request := session.next()) is not None:
            if isinstance(request, Finished):
                yield request.item
                continue
            self._known += len(request)
            missing = [
                position
                for position, task in enumerate(request)
                if not self._is_known(number, position, task)
            ]
            self._report()
            if missing:
                return

    def finish(self, future: Any) -> list[int]:
        """Hand a result to who waits for it; answers with the procedures that can go on."""
        key = future.key.split("-")[1]
        task, result = self._running.pop(key), _result_of(future)
        if _lost_its_worker(result) and key not in self._tried_alone:
            self._suspects[key] = task
            result = None
        # Whoever kills its worker takes others with it: they are tried again one at a time.
        if self._suspects and not self._running:
            suspect, task = self._suspects.popitem()
            self._tried_alone.add(suspect)
            self._submit(suspect, task, priority=0)
        future.release()
        if result is None:
            return []
        if not isinstance(result, FailedTask):
            self._store.put(key, result)
        ready = []
        for number, position in self._waiting.pop(key):
            session = self.sessions[number]
            session.results[position] = result
            self._done += 1
            if session.is_complete:
                ready.append(number)
        self._report()
        return ready

    def _is_known(self, number: int, position: int, task: Task) -> bool:
        """Whether the result is there already; else the task is waited for."""
        key = self._key_of(task)
        result = None if key in self._waiting else self._store.get(key)
        if result is not None:
            self.sessions[number].results[position] = result
            self._done += 1
            return True
        if key not in self._waiting:
            self._waiting[key] = []
            self._submit(key, task, priority=-number)
        self._waiting[key].append((number, position))
        return False

    def _key_of(self, task: Task) -> str:
        missing = set(task.shared) - set(self._digests)
        if missing:
            msg = f"no shared input {sorted(missing)}; there are {sorted(self._digests)}"
            raise ValueError(msg)
        read = {name: self._digests[name] for name in task.shared}
        return digest([self._code, task.settings, task.arrays, read])

    def _submit(self, key: str, task: Task, priority: int) -> None:
        self._running[key] = task
        for name in task.shared:
            if name not in self._inputs:
                # A task rather than scattered data: Dask makes it anew if its worker is lost.
                self._inputs[name] = self._client.submit(
                    _Constant(self._shared[name]), key=f"input-{self._digests[name]}",
                    priority=10**6,
                )  # fmt: skip
        self.futures.add(
            self._client.submit(
                _run_alone,
                self._work,
                task.settings,
                task.arrays,
                {name: self._inputs[name] for name in task.shared},
                # A key of its own: Dask does not run one again whose failure it remembers.
                key=f"task-{key}-{uuid.uuid4().hex}",
                priority=priority,
                pure=False,
            )
        )

    def _report(self) -> None:
        if self._on_task is not None:
            self._on_task(self._done, self._known)


def run_all(
    procedures: Iterable[Procedure],
    work: Callable[..., Result],
    shared: dict[str, Any],
    store: ResultStore,
    cluster: ClusterParameters,
    *,
    size: int,
    on_task: Callable[[int, int], None] | None = None,
) -> Iterator[Any]:
    """Connect to the workers, run procedures on them, and hand out what they finish.

    Parameters
    ----------
    procedures, shared, store, on_task
        As in `run_procedures`.
    work : callable
        ``work(settings, arrays, shared, threads=n)``. Its code is part of every task's key.
    cluster : skyloom.compute.ClusterParameters
        Where they run.
    size : int
        Pixels on a side of what is fitted, for the number of threads.

    Yields
    ------
    object
        The ``item`` of every `Finished`.
    """
    with connect(cluster, size) as (client, threads):
        yield from run_procedures(
            procedures, functools.partial(work, threads=threads), shared, store, client,
            code=code_digest(work), on_task=on_task,
        )  # fmt: skip


def run_each(
    tasks: dict[Any, Task],
    work: Callable[..., Result],
    shared: dict[str, Any],
    store: ResultStore,
    cluster: ClusterParameters,
    *,
    size: int,
    about: str,
    unit: str = "fit",
) -> Iterator[tuple[Any, Result]]:
    """Run tasks of which none waits for another, all of which are needed.

    Parameters
    ----------
    tasks : dict of object to Task
        By any key.
    work, shared, store, cluster, size
        As in `run_all`.
    about, unit : str
        What the bar says, and what it counts.

    Yields
    ------
    key : object
    result : dict of numpy.ndarray

    Raises
    ------
    RuntimeError
        If one fails.
    """

    def procedure(key):
        (result,) = yield [tasks[key]]
        yield Finished((key, result))

    with tqdm(total=len(tasks), desc=about, unit=unit) as bar:
        for key, result in run_all(map(procedure, tasks), work, shared, store, cluster, size=size):
            if isinstance(result, FailedTask):
                msg = f"{about}, {key}: {result.error}"
                raise RuntimeError(msg)
            bar.update()
            yield key, result


class _Session:
    """A procedure and the results it waits for."""

    def __init__(self, procedure: Procedure) -> None:
        self._procedure = procedure
        self._expected = 0
        self._waits = False
        self.results: dict[int, Result | FailedTask] = {}
        self._started = False

    @property
    def is_complete(self) -> bool:
        return len(self.results) == self._expected

    def next(self):
        """What it asks for next, or None at its end."""
        answer = None
        if self._waits:
            answer = [self.results[i] for i in range(self._expected)]
        self.results, self._expected, self._waits = {}, 0, False
        try:
            request = self._procedure.send(answer) if self._started else next(self._procedure)
        except StopIteration:
            return None
        self._started = True
        if not isinstance(request, Finished):
            self._expected, self._waits = len(request), True
        return request


def _run_alone(work: Callable[..., Result], *arguments: Any) -> Result:
    """Run a task while no other one runs in this process: TensorFlow's models are not shared."""
    with _one_at_a_time:
        return work(*arguments)


class _Constant:
    """Function without arguments that returns a value."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self) -> Any:
        return self._value


def _lost_its_worker(result: Result | FailedTask) -> bool:
    return isinstance(result, FailedTask) and result.error.startswith("KilledWorker")


def _result_of(future: Any) -> Result | FailedTask:
    """Result of a future, or the error that it ended with."""
    from dask.distributed import CancelledError

    try:
        return future.result()
    except CancelledError as error:
        msg = "the connection to the Dask scheduler was lost; finished fits are kept"
        raise ConnectionError(msg) from error
    except Exception as error:  # whatever a configuration can do wrong
        logger.warning("a fit failed: %s: %s", type(error).__name__, error)
        return FailedTask(f"{type(error).__name__}: {error}")
