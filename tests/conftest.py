"""Fixtures for tests of the whole project."""

import io
import os
import re
import shutil
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import settings

# Before TensorFlow is imported anywhere: no banner, no telemetry.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")

# Two workers on two cores: more threads only wait for each other. Before NumPy is imported.
for variable in (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
):
    os.environ.setdefault(variable, "1")

# Machines are shared: how long an example takes says nothing. The same examples in every run.
settings.register_profile("patient", deadline=None, derandomize=True)
settings.load_profile("patient")

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items):
    """Whole studies first: a worker that has a long file left at the end would work alone."""
    studies = {item.path for item in items if "shared_project" in item.fixturenames}
    items.sort(key=lambda item: item.path not in studies)


@pytest.fixture(scope="session")
def root():
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def real_observations():
    """Folder of real observations, beside the repository; skips where it is absent."""
    folder = ROOT.parent / "shared" / "data" / "hi_profiles"
    if not folder.is_dir():
        pytest.skip(f"real observations are not in {folder}")
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An MLflow store, whose tables take seconds to make, for all projects."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


def copy_project(folder, store):
    """Copy the project's configuration into an empty folder, so that runs write there."""
    shutil.copy(store, folder)
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (folder / "conf" / "local").mkdir()
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "src").mkdir()
    return folder


@pytest.fixture(autouse=True, scope="module")
def _no_tracking_server_of_another_module():
    """Fixtures of a module never log to a server that is configured, or was used before them."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(autouse=True)
def _no_tracking_server():
    """Tests never do; MLflow writes down in the environment what it was told."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture
def project(tmp_path, empty_store):
    """A project of its own for one test."""
    return copy_project(tmp_path, empty_store)


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory, empty_store):
    """A project shared by the tests of a module."""
    return copy_project(tmp_path_factory.mktemp("project"), empty_store)


class SkyArchives(ThreadingHTTPServer):
    """SkyView and VizieR on loopback, as they answer, and as they should not.

    ``fault`` is a function of the service (``form``, ``query``, ``image``, ``stars``) and of how
    often it has been asked, which names what goes wrong, or nothing; ``asked`` has every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _SkyHandler)
        self.asked, self.released = [], threading.Event()
        self.fault = lambda service, n: None
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.addresses = {
            "skyview_address": f"{self.url}/current/cgi/basicform.pl",
            "vizier_address": f"{self.url}/viz-bin/votable",
        }

    def times(self, service):
        return sum(name == service for name, _ in self.asked)


class _SkyHandler(BaseHTTPRequestHandler):
    size = 96  # pixels on a side, whatever is asked for
    side = 0.1  # deg, of the stars of the catalogue

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        path, query = urlsplit(self.path)[2:4]
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        if path.endswith("basicform.pl"):
            self.answer("form", asked, self.form)
        elif path.endswith("runquery.pl"):
            self.answer("query", asked, self.page)
        else:
            self.answer("image", asked, self.image)

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = dict(line.partition("=")[::2] for line in text.splitlines())
        self.answer("stars", asked, self.stars)

    def answer(self, service, asked, make):
        self.server.asked.append((service, asked))
        fault = self.server.fault(service, self.server.times(service))
        status, headers = 200, {}
        if fault == "hang":
            self.server.released.wait(20)
            return
        if fault is not None and fault.startswith("HTTP"):
            status, content = int(fault[5:8]), b"<html>sorry</html>"
            headers = {"Retry-After": "7"} if "wait" in fault else {}
        elif fault == "page":
            content = b"<html><b>Error:</b> no such thing</html>"
        else:
            content = make(asked, fault)
        if fault == "half":
            content = content[: len(content) // 2]
        headers["Content-Length"] = len(content)
        if fault == "cut":
            content = content[: len(content) // 2]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def form(self, asked, fault):
        return (
            b"<html><form action='runquery.pl' method='GET'><input name='Position'>"
            b"<select multiple NAME='survey' id='Optical:DSS'>"
            b"<option>DSS</option><option>DSS1 Red</option></select>"
            b"<select NAME='coordinates'><option selected>J2000</option></select>"
            b"</form></html>"
        )

    def page(self, asked, fault):
        name = "_".join([*asked["Position"].split(), asked["size"].split(",")[0]])
        return f"<html><a href=../../tempspace/fits/{name}.fits>FITS</a></html>".encode()

    def image(self, asked, fault):
        ra, dec, side = map(float, Path(self.path).stem.split("_"))
        hdus = self.hdus(ra, dec, side)[:1]
        if fault == "blank":
            hdus[0].data[:] = 0
        elif fault == "no WCS":
            del hdus[0].header["CTYPE*"]
        stream = io.BytesIO()
        hdus.writeto(stream)
        return stream.getvalue()

    def stars(self, asked, fault):
        from astropy.io.votable import from_table
        from astropy.table import MaskedColumn, Table

        if fault == "error":
            said = b"<INFO name='QUERY_STATUS' value='ERROR'>no such catalogue</INFO>"
            return b"<?xml version='1.0'?><VOTABLE>" + said + b"</VOTABLE>"
        ra, mark, dec = re.match(r"([\d.]+)([+-])([\d.]+)", asked["-c"]).groups()
        known = Table(self.hdus(float(ra), float(mark + dec), self.side)[1].data)
        table = Table(
            {
                "RAJ2000": known["ra"],
                "DEJ2000": known["dec"],
                "2MASS": [f"{k:08d}" for k in range(len(known))],
                "Note": ["", "Å"] + [""] * (len(known) - 2),
                "Empty": [""] * len(known),
                "magnitude" if fault == "no Jmag" else "Jmag": known["magnitude"],
                "Cntr": MaskedColumn(range(len(known)), mask=[True] + [False] * (len(known) - 1)),
            }
        )
        stream = io.BytesIO()
        from_table(table[:0] if fault == "empty" else table).to_xml(stream)
        return stream.getvalue()

    def hdus(self, ra, dec, side):
        """The same stars everywhere."""
        import numpy as np

        from skyloom.simulate.star_fields import draw_fields, observe_field, to_hdus

        field = draw_fields(1, np.random.default_rng(3), density_range=(6.0, 8.0))
        seen = observe_field(field.iloc[0], np.random.default_rng(3), size=self.size)
        scale = 3600 * side / self.size
        return to_hdus(seen, np.random.default_rng(3), ra=ra, dec=dec, pixel_scale=scale)


@pytest.fixture
def sky_archives():
    """SkyView and VizieR on loopback."""
    with SkyArchives() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.released.set()
        made.shutdown()
        thread.join()
