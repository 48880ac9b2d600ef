"""Where fits run: this machine, a scheduler by its address, SLURM."""

import os
import socket
import subprocess
import sys
import time
import warnings

import psutil
import pytest
from pydantic import ValidationError

from skyloom.compute import ClusterParameters, connect, plan_workers, slurm_cluster

# Dask opens a web server on a fixed port; it warns, and leaves a socket, if another run has it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Port 8787 is already in use:UserWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning"),
]

SLURM = {"queue": "night", "cores": 1, "memory": "3GB", "walltime": "01:23:00", "account": "sky"}


# --- parameters -----------------------------------------------------------------------------------


def test_by_default_the_fits_run_on_this_machine():
    parameters = ClusterParameters()
    assert (parameters.address, parameters.slurm) == (None, None)
    assert (parameters.n_workers, parameters.threads_per_fit) == (None, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"address": "tcp://a:1", "slurm": SLURM, "n_workers": 2}, "either cluster.address or"),
        ({"slurm": SLURM}, "needs cluster.n_workers, the number of jobs"),
        ({"slurm": SLURM, "n_workers": 0}, "needs cluster.n_workers, the number of jobs"),
        ({"slurm": {}}, "needs cluster.n_workers, the number of jobs"),
        ({"workers": 2}, "workers\n  Extra inputs are not permitted"),
        ({"n_workers": -1}, "n_workers\n  Input should be greater than or equal to 0"),
        ({"threads_per_fit": 0}, "threads_per_fit\n  Input should be greater than or equal to 1"),
    ],
)
def test_impossible_parameters_are_refused_with_their_name(values, message):
    with pytest.raises(ValidationError, match=message):
        ClusterParameters.model_validate(values)


@pytest.mark.parametrize(
    "values",
    [
        {"address": "tcp://a:1"},
        {"address": "tcp://a:1", "n_workers": 3},
        {"slurm": SLURM, "n_workers": 1},
        {"n_workers": 0, "threads_per_fit": 4},
    ],
)
def test_possible_parameters_are_taken(values):
    parameters = ClusterParameters.model_validate(values)
    assert {name: getattr(parameters, name) for name in values} == values


@pytest.mark.parametrize(
    ("n_cores", "image_size", "expected"),
    [
        (8, 16, (8, 1)),
        (8, 127, (8, 1)),
        (8, 128, (4, 2)),
        (5, 128, (2, 2)),
        (2, 128, (1, 2)),
        (1, 128, (1, 1)),
        (1, 16, (1, 1)),
    ],
)
def test_small_images_get_a_worker_for_each_core_and_large_ones_two_cores(
    n_cores, image_size, expected
):
    assert plan_workers(n_cores, image_size) == expected


@pytest.mark.parametrize("image_size", [16, 128])
def test_workers_never_use_more_threads_than_there_are_cores(image_size):
    for n_cores in range(1, 40):
        n_workers, threads = plan_workers(n_cores, image_size)
        assert n_cores - 1 <= n_workers * threads <= n_cores


# --- this machine ---------------------------------------------------------------------------------


@pytest.fixture
def local_clusters(monkeypatch):
    """Arguments of every local cluster; all of them run in this process."""
    import dask.distributed

    made = []

    class Recorded(dask.distributed.LocalCluster):
        def __init__(self, **arguments):
            made.append(arguments)
            super().__init__(**arguments | {"processes": False, "n_workers": 1})

    monkeypatch.setattr("dask.distributed.LocalCluster", Recorded)
    monkeypatch.setattr("dask.system.CPU_COUNT", 6)
    return made


@pytest.mark.parametrize(
    ("values", "image_size", "expected"),
    [
        ({}, 16, (6, 1, True)),
        ({}, 128, (3, 2, True)),
        ({"n_workers": 2}, 128, (2, 2, True)),
        ({"threads_per_fit": 5}, 16, (6, 5, True)),
        ({"n_workers": 0}, 16, (1, 1, False)),
    ],
)
def test_what_is_not_given_is_planned(local_clusters, values, image_size, expected):
    with connect(ClusterParameters.model_validate(values), image_size) as (_, threads):
        (made,) = local_clusters
        assert (made["n_workers"], threads, made["processes"]) == expected
        assert made["threads_per_worker"] == 1  # TensorFlow has its own


def test_no_workers_means_this_process():
    with connect(ClusterParameters(n_workers=0), 16) as (client, threads):
        assert client.submit(os.getpid).result() == os.getpid()
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == 1
        assert threads == 1
    assert client.status == "closed"


def test_workers_are_processes_of_their_own_and_end_with_the_connection():
    with connect(ClusterParameters(n_workers=2), 16) as (client, _):
        client.wait_for_workers(2, timeout=30)
        processes = set(client.run(os.getpid).values())
        assert len(processes) == 2
        assert os.getpid() not in processes
        assert client.submit(os.getpid).result() in processes
    assert not [pid for pid in processes if psutil.pid_exists(pid)]


def test_an_error_in_a_sweep_comes_through_and_ends_the_cluster():
    with pytest.raises(ZeroDivisionError), connect(ClusterParameters(n_workers=0), 16) as (c, _):
        1 / 0  # noqa: B018
    assert c.status == "closed"


def test_two_runs_on_one_machine_do_not_disturb_each_other():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with (
            connect(ClusterParameters(n_workers=0), 16) as (first, _),
            connect(ClusterParameters(n_workers=0), 16) as (second, _),
        ):
            assert [c.submit(os.getpid).result() for c in (first, second)] == [os.getpid()] * 2


# --- what workers write ---------------------------------------------------------------------------

FIT = """
import os
from skyloom.compute import ClusterParameters, connect

def fit():
    import keras
    import numpy as np

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    model.fit(np.zeros((4, 4)), np.zeros((4, 2)), verbose=0)
    return os.getpid()

if __name__ == "__main__":
    with connect(ClusterParameters(n_workers=1), 16) as (client, _):
        assert client.submit(fit).result() != os.getpid()
"""


def run_program(text, folder, **environment):
    path = folder / "program.py"
    path.write_text(text)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    return subprocess.run(
        [sys.executable, str(path)], env=inherited | environment, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip


def test_a_worker_that_fits_a_network_writes_nothing(tmp_path):
    done = run_program(FIT, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


ANNOUNCEMENTS = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    "I0000 00:00:1795575808.397   24854 cudart_stub.cc:31] Could not find cuda drivers\n"
)
ERROR = "E0000 00:00:1795575808.397   24854 cpu.cc:3] no room\nTo go on, make some.\n"
IMPORT = """
from skyloom.compute import quieten_tensorflow
quieten_tensorflow()
quieten_tensorflow()
import tensorflow
print(tensorflow.answer, tensorflow.__file__.endswith("tensorflow.py"))
"""


@pytest.mark.parametrize("ending", ["", "raise ImportError('a library is missing')\n"])
def test_errors_at_the_import_of_tensorflow_keep_showing(tmp_path, ending):
    (tmp_path / "tensorflow.py").write_text(
        f"import os\nos.write(2, {(ANNOUNCEMENTS + ERROR).encode()!r})\nanswer = 42\n{ending}"
    )
    done = run_program(IMPORT, tmp_path)
    assert done.stderr.startswith(ERROR)
    assert "cuda" not in done.stderr
    assert ("ImportError: a library is missing" in done.stderr) == bool(ending)
    assert done.stdout == ("" if ending else "42 True\n")


def test_what_tensorflow_writes_after_its_import_is_left_alone(tmp_path):
    (tmp_path / "tensorflow.py").write_text("answer = 42\n")
    late = f"{IMPORT}import os\nos.write(2, {ANNOUNCEMENTS.encode()!r})\n"
    assert run_program(late, tmp_path).stderr == ANNOUNCEMENTS


def listening():
    """Address and port of all sockets of this process and its children that wait for others."""
    here = psutil.Process()
    return {
        (connection.laddr.ip, connection.laddr.port)
        for process in [here, *here.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


@pytest.mark.parametrize("n_workers", [0, 1])
def test_nobody_reaches_the_workers_of_this_machine_from_outside(n_workers):
    before = listening()
    with connect(ClusterParameters(n_workers=n_workers), 16) as (client, _):
        client.wait_for_workers(1, timeout=30)
        opened = listening() - before
    assert {address for address, _ in opened} <= {"127.0.0.1", "::1"}


# --- elsewhere ------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("port", [None, 1])
def test_an_address_without_a_scheduler_is_an_error_that_names_it(port, monkeypatch):
    import dask.distributed

    original, waits = dask.distributed.Client, []

    def client(address, *, timeout, **arguments):
        waits.append(timeout)
        return original(address, timeout="0.5s", **arguments)

    monkeypatch.setattr("dask.distributed.Client", client)
    address = f"tcp://127.0.0.1:{port or free_port()}"
    message = f"no Dask scheduler at cluster.address '{address}'"
    with (
        pytest.raises(ConnectionError, match=message),
        connect(ClusterParameters(address=address), 16),
    ):
        pass
    assert waits == ["20s"]  # a scheduler may be slow, but not endlessly


def test_a_scheduler_without_workers_is_an_error_that_names_it(monkeypatch):
    import dask.distributed

    original, waits = dask.distributed.Client.wait_for_workers, []

    def wait_for_workers(client, n_workers, timeout):
        waits.append(timeout)
        return original(client, n_workers, timeout=0.3)

    monkeypatch.setattr("dask.distributed.Client.wait_for_workers", wait_for_workers)
    with dask.distributed.LocalCluster(
        n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        with (
            pytest.raises(ConnectionError, match=f"at cluster.address '{address}' has no workers"),
            connect(ClusterParameters(address=address), 16),
        ):
            pass
    assert waits == [60]


def test_workers_are_those_of_the_scheduler_at_the_address():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1",
        dashboard_address=None,
    ) as cluster:  # fmt: skip
        parameters = ClusterParameters(address=cluster.scheduler_address, threads_per_fit=3)
        with connect(parameters, 16) as (client, threads):
            assert client.submit(os.getpid).result() == os.getpid()
            assert threads == 3
        # It belongs to someone else and goes on when a run has ended.
        with connect(parameters, 16) as (client, _):
            assert client.submit(sum, [1, 2]).result() == 3


SBATCH = """#!/bin/sh
cp "$1" "{folder}/job-$$.sh"
echo "sbatch $$" >> "{folder}/calls.txt"
{action}
echo "Submitted batch job $$"
"""

SCANCEL = """#!/bin/sh
echo "scancel $1" >> "{folder}/calls.txt"
"""


def install_slurm(folder, monkeypatch, action=""):
    """Commands that SLURM would have; jobs, if they are run at all, run on this machine."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        path = folder / name
        path.write_text(text.format(folder=folder, action=action))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


RUN_JOB = """
setsid bash "{folder}/job-$$.sh" > "{folder}/job-$$.log" 2>&1 &
echo $! >> "{folder}/pids.txt"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A queue that runs its jobs at once."""
    install_slurm(tmp_path, monkeypatch, RUN_JOB.format(folder=tmp_path))
    yield tmp_path
    for job in jobs_of(tmp_path):
        end_job(job)


def jobs_of(folder):
    pids = folder / "pids.txt"
    return [int(line) for line in pids.read_text().split()] if pids.exists() else []


def end_job(pid):
    """End a job with all of its processes, as SLURM does at its time limit."""
    try:
        job = psutil.Process(pid)
        family = [job, *job.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def lines_of(folder):
    calls = folder / "calls.txt"
    return calls.read_text().splitlines() if calls.exists() else []


def test_jobs_are_submitted_with_the_given_settings_and_cancelled_at_the_end(tmp_path, monkeypatch):
    install_slurm(tmp_path, monkeypatch)
    parameters = ClusterParameters(n_workers=3, slurm=SLURM)
    with slurm_cluster(parameters) as cluster:
        script = cluster.job_script()
        assert wait_until(lambda: len(lines_of(tmp_path)) >= 3, 10)
        address = cluster.scheduler_address
    submitted = [path.read_text() for path in tmp_path.glob("job-*.sh")]
    assert len(submitted) == 3
    for text in [script, *submitted]:
        for line in (
            "#SBATCH -p night",
            "#SBATCH -A sky",
            "#SBATCH -t 01:23:00",
            "#SBATCH --mem=3G",
            "#SBATCH --cpus-per-task=1",
        ):
            assert line in text.splitlines()
        assert f"dask_worker {address} " in text
        assert "--nthreads 1 " in text
    calls = lines_of(tmp_path)
    numbers = {line.split()[1] for line in calls if line.startswith("sbatch")}
    assert {line.split()[1] for line in calls if line.startswith("scancel")} == numbers


def test_a_job_is_one_process_whatever_its_cores(tmp_path, monkeypatch):
    install_slurm(tmp_path, monkeypatch)
    settings = SLURM | {"cores": 16}
    with slurm_cluster(ClusterParameters(n_workers=1, slurm=settings)) as cluster:
        script = cluster.job_script()
    assert "#SBATCH --cpus-per-task=16" in script
    assert "--nworkers" not in script


def test_settings_of_slurm_may_ask_for_more_processes_in_a_job(tmp_path, monkeypatch):
    install_slurm(tmp_path, monkeypatch)
    settings = SLURM | {"cores": 4, "processes": 2}
    with slurm_cluster(ClusterParameters(n_workers=2, slurm=settings)) as cluster:
        script = cluster.job_script()
    assert "#SBATCH --cpus-per-task=4" in script
    assert "--nworkers 2 " in script


# Dask complains of the cluster that it could not make.
@pytest.mark.filterwarnings("ignore:unclosed cluster:ResourceWarning")
def test_a_setting_that_slurm_does_not_know_is_an_error(tmp_path, monkeypatch):
    install_slurm(tmp_path, monkeypatch)
    parameters = ClusterParameters(n_workers=1, slurm=SLURM | {"quue": "night"})
    with pytest.raises((TypeError, ValueError), match="quue"):
        slurm_cluster(parameters)


def test_fits_run_in_the_jobs(slurm):
    with connect(ClusterParameters(n_workers=2, slurm=SLURM), 16) as (client, threads):
        client.wait_for_workers(2, timeout=30)
        processes = client.run(os.getppid).values()
        assert os.getpid() not in processes
        assert client.submit(sum, [1, 2]).result(timeout=20) == 3
        assert threads == 1
    assert len(jobs_of(slurm)) == 2


def test_a_job_at_its_time_limit_is_followed_by_another(slurm):
    with connect(ClusterParameters(n_workers=1, slurm=SLURM), 16) as (client, _):
        client.wait_for_workers(1, timeout=30)
        end_job(jobs_of(slurm)[0])
        assert client.submit(sum, [1, 2]).result(timeout=40) == 3


def test_a_machine_without_slurm_is_an_error_and_not_an_endless_wait(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(OSError, match="sbatch"),
        connect(ClusterParameters(n_workers=1, slurm=SLURM), 16),
    ):
        pass
