"""Dask: a cluster on this machine by default, any other by its address or through SLURM."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

_LARGE_IMAGE = 128  # pixels; one thread was faster for all that benchmarks/workers.py measured


class ClusterParameters(BaseModel):
    """Where the fits run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str | None = Field(
        None, description="of a Dask scheduler, tcp://host:port; null: a cluster on this machine"
    )
    n_workers: int | None = Field(
        None, ge=0, description="null: as many as were faster; 0: in this process, for debugging"
    )
    threads_per_fit: int | None = Field(
        None, ge=1, description="TensorFlow threads of a worker; null: as many as were faster"
    )
    slurm: dict[str, Any] | None = Field(
        None,
        description="arguments of dask_jobqueue.SLURMCluster: queue, cores, memory, walltime ...; "
        "n_workers jobs are asked for",
    )

    @model_validator(mode="after")
    def _one_place(self):
        if self.address is not None and self.slurm is not None:
            msg = "give either cluster.address or cluster.slurm"
            raise ValueError(msg)
        if self.slurm is not None and not self.n_workers:
            msg = "cluster.slurm needs cluster.n_workers, the number of jobs"
            raise ValueError(msg)
        return self


def plan_workers(n_cores: int, image_size: int) -> tuple[int, int]:
    """Workers on this machine and TensorFlow threads of each, as measured faster.

    Small images leave a second thread idle; large ones use it, and fewer workers then save memory.

    Parameters
    ----------
    n_cores : int
        Cores of the machine.
    image_size : int
        Pixels on a side of what the network sees.

    Returns
    -------
    n_workers, threads : int
    """
    threads = 2 if image_size >= _LARGE_IMAGE and n_cores > 1 else 1
    return max(1, n_cores // threads), threads


def quieten_tensorflow() -> None:
    """Keep TensorFlow from announcing at its import, in this process, what the machine lacks.

    Its log level is set to errors of the program. Some lines ignore the level, since they are
    written before it is read; they are left out of what the import writes.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" not in sys.modules and not any(
        isinstance(finder, _TensorFlowFinder) for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, _TensorFlowFinder())


class _TensorFlowFinder(MetaPathFinder):
    """Finds TensorFlow where Python does, and filters what its import writes."""

    def find_spec(self, fullname, *_):
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None:
            execute = spec.loader.exec_module

            def execute_quietly(module) -> None:
                with _no_announcements():
                    execute(module)

            spec.loader.exec_module = execute_quietly
        return spec


# As Abseil begins a line of information: with its level and the date.
_ANNOUNCEMENT = re.compile(rb"I\d{4} |WARNING: All log messages before absl::InitializeLog")


@contextmanager
def _no_announcements() -> Iterator[None]:
    """Leave TensorFlow's information out of what is written to the standard error, also by C.

    What C says before it aborts the whole process, as on a processor without the instructions that
    it was built for, is lost with it; ``python -c "import tensorflow"`` shows it.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as written:
        original = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            written.seek(0)
            lines = [line for line in written if not _ANNOUNCEMENT.match(line)]
            os.write(original, b"".join(lines))
            os.close(original)


@contextmanager
def connect(parameters: ClusterParameters, image_size: int) -> Iterator[tuple[Any, int]]:
    """Connection to the workers.

    Parameters
    ----------
    parameters : ClusterParameters
        ``cluster``.
    image_size : int
        Pixels on a side of what the network sees; decides the number of workers where it is free.

    Yields
    ------
    client : distributed.Client
    threads : int
        TensorFlow threads a fit should use.

    Raises
    ------
    ConnectionError
        If no scheduler answers at the address, or it has no workers.
    """
    import dask
    from dask.distributed import Client, WorkerPlugin
    from dask.system import CPU_COUNT

    # Its import has set another level; workers read theirs from the environment.
    logging.getLogger("distributed").setLevel(logging.ERROR)
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "error")
    # The images of a sample travel to the scheduler once, which Dask would warn of.
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "4 GiB"})

    class _Quiet(WorkerPlugin):  # of workers that come later, too
        name = "skyloom-quiet"  # else a scheduler that lives on gets one more with each run

        def setup(self, **_) -> None:
            quieten_tensorflow()

    n_workers, threads = plan_workers(CPU_COUNT, image_size)
    n_workers = n_workers if parameters.n_workers is None else parameters.n_workers
    threads = parameters.threads_per_fit or threads
    if parameters.address is not None:
        try:
            client = Client(parameters.address, timeout="20s", set_as_default=False)
        except OSError as error:
            msg = f"no Dask scheduler at cluster.address {parameters.address!r}: {error}"
            raise ConnectionError(msg) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=60)
            except TimeoutError as error:
                msg = f"the Dask scheduler at cluster.address {parameters.address!r} has no workers"
                raise ConnectionError(msg) from error
            client.register_plugin(_Quiet())
            yield client, threads
        return
    with (
        _cluster(parameters, n_workers) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(_Quiet())
        yield client, threads


def _cluster(parameters: ClusterParameters, n_workers: int):
    if parameters.slurm is not None:
        return slurm_cluster(parameters)
    from dask.distributed import LocalCluster

    return LocalCluster(
        n_workers=max(1, n_workers),
        threads_per_worker=1,
        processes=n_workers > 0,
        # Nobody else reaches them, and a fixed port would warn where two run.
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        silence_logs=40,
    )


def slurm_cluster(parameters: ClusterParameters) -> Any:
    """Cluster whose workers are SLURM jobs.

    Parameters
    ----------
    parameters : ClusterParameters
        With ``slurm`` and ``n_workers``.

    Returns
    -------
    dask_jobqueue.SLURMCluster
        Its ``job_script()`` shows what is submitted.
    """
    from dask_jobqueue import SLURMCluster

    if shutil.which("sbatch") is None:
        msg = "cluster.slurm needs the command sbatch, which is not on this machine"
        raise FileNotFoundError(msg)
    options = {"processes": 1, **parameters.slurm}
    cluster = SLURMCluster(**options)
    # A job that reaches its time limit is followed by another.
    n_workers = parameters.n_workers * options["processes"]
    cluster.adapt(minimum=n_workers, maximum=n_workers)
    return cluster
