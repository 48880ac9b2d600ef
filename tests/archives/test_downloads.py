"""Downloads from a server that also misbehaves."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest

from skyloom.archives.downloads import MANIFEST_COLUMNS, Downloader, Wanted, as_path
from skyloom.raw_files import UnusableError

GOOD = b"GOOD" + bytes(range(256)) * 40


def check(name, content):
    if not content.startswith(b"GOOD") or len(content) != len(GOOD):
        raise UnusableError("not what was wanted", content[:6])


class Server(ThreadingHTTPServer):
    """Answers each path as its name says, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []

    def times(self, path):
        return sum(urlsplit(asked).path == path for _, asked in self.asked)


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.server.asked.append((time.monotonic(), self.path))
        path = urlsplit(self.path).path
        getattr(self, path.split("/")[1], self.missing)(self.server.times(path))

    def give(self, content=GOOD, status=200, size=None, **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content) if size is None else size))
        self.end_headers()
        self.wfile.write(content)

    def good(self, n):
        self.give()

    def missing(self, n):
        self.give(b"not here", 404)

    def busy_twice(self, n):
        if n < 3:
            self.give(b"busy", 503)
        else:
            self.give()

    def asks_to_wait(self, n):
        if n == 1:
            self.give(b"slowly", 429, Retry_After="1")
        else:
            self.give()

    def broken(self, n):
        self.give(b"sorry", 500)

    def truncated_once(self, n):
        if n == 1:
            self.give(GOOD[:100], size=len(GOOD))
        else:
            self.give()

    def short_once(self, n):
        self.give(GOOD[:100] if n == 1 else GOOD)

    def page(self, n):
        self.give(b"<html>no image here</html>")

    def hangs_up_once(self, n):
        if n > 1:
            self.give()

    def drips(self, n):
        self.send_response(200)
        self.send_header("Content-Length", str(len(GOOD)))
        self.end_headers()
        for k in range(40):
            self.wfile.write(GOOD[k * 100 : (k + 1) * 100])
            self.wfile.flush()
            time.sleep(0.1)

    def endless(self, n):
        self.give(GOOD * 50)


@pytest.fixture
def server():
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def get(server, tmp_path):
    """Download paths of the server into a folder."""

    def get(*paths, **options):
        options = {"interval": 0.0, "backoff": 0.01, "retries": 3, "timeout": 5.0} | options
        address = f"http://127.0.0.1:{server.server_port}"
        wanted = [Wanted(f"{path}.dat", f"{address}/{path}", {"ra": "1 2 3"}) for path in paths]
        table = Downloader(check, **options).download(wanted, tmp_path / "files")
        assert list(table.columns) == list(MANIFEST_COLUMNS)
        return table.set_index("file") if len(table) > 1 else table.iloc[0]

    return get


def files(tmp_path):
    return {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()}


def test_files_come_with_their_digest(get, tmp_path, server):
    row = get("good")
    assert (row["status"], row["n_requests"], row["n_bytes"]) == ("fetched", 1, len(GOOD))
    assert len(row["sha256"]) == 64
    assert files(tmp_path) == {"good.dat": GOOD}
    assert parse_qs(urlsplit(server.asked[0][1]).query) == {"ra": ["1 2 3"]}


@pytest.mark.parametrize(
    ("path", "n_requests"),
    [("busy_twice", 3), ("truncated_once", 2), ("short_once", 2), ("hangs_up_once", 2)],
)
def test_a_server_that_fails_now_and_then_is_asked_again(get, tmp_path, path, n_requests):
    row = get(path)
    assert (row["status"], row["n_requests"]) == ("fetched", n_requests)
    assert files(tmp_path) == {f"{path}.dat": GOOD}


@pytest.mark.parametrize(
    ("path", "n_requests", "reason"),
    [
        ("broken", 4, "HTTP 500"),
        ("missing", 1, "HTTP 404"),
        ("page", 4, "not what was wanted: b'<html>'"),
        ("endless", 1, "more than 50000 bytes"),
    ],
)
def test_what_never_comes_is_listed_with_the_reason(get, tmp_path, path, n_requests, reason):
    row = get(path, max_bytes=50_000)
    assert (row["status"], row["n_requests"], row["reason"]) == ("failed", n_requests, reason)
    assert files(tmp_path) == {}


def test_a_slow_answer_does_not_last_for_ever(get, tmp_path):
    begin = time.monotonic()
    row = get("drips", timeout=0.5, retries=0)
    assert row["status"] == "failed"
    assert row["reason"] == "not whole after 0.5 s"
    assert time.monotonic() - begin < 3
    assert files(tmp_path) == {}


def test_nobody_at_the_address_is_a_failure_like_others(tmp_path):
    downloader = Downloader(check, interval=0, backoff=0, retries=1, timeout=2)
    table = downloader.download([Wanted("a.dat", "http://127.0.0.1:9/", {})], tmp_path)
    assert table["status"].tolist() == ["failed"]
    assert table["reason"][0].startswith("ConnectionError")


def test_one_failure_does_not_stop_the_others(get, tmp_path):
    table = get("missing", "good", "page", "busy_twice")
    assert table["status"].tolist() == ["failed", "fetched", "failed", "fetched"]
    assert set(files(tmp_path)) == {"good.dat", "busy_twice.dat"}


def test_what_is_there_is_not_asked_for_again(get, server, tmp_path):
    get("good")
    before = (tmp_path / "files" / "good.dat").stat()
    row = get("good")
    after = (tmp_path / "files" / "good.dat").stat()
    assert (row["status"], row["n_requests"], row["n_bytes"]) == ("present", 0, len(GOOD))
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert len(server.asked) == 1


def test_a_damaged_file_is_replaced_and_kept_if_no_better_one_comes(get, tmp_path):
    (tmp_path / "files").mkdir()
    for name in ("good.dat", "broken.dat"):
        (tmp_path / "files" / name).write_bytes(GOOD[:50])
    assert get("good", "broken")["status"].tolist() == ["fetched", "failed"]
    assert files(tmp_path) == {"good.dat": GOOD, "broken.dat": GOOD[:50]}


def test_requests_keep_their_distance(get, server):
    get("good", "good2", "busy_twice", interval=0.2)
    begun = [moment for moment, _ in server.asked]
    assert len(begun) == 5  # good2 is missing; busy_twice is asked for three times
    assert min(later - earlier for earlier, later in pairwise(begun)) > 0.15


def test_retries_wait_longer_each_time(get, server):
    get("broken", backoff=0.1)
    begun = [moment for moment, _ in server.asked]
    waits = [later - earlier for earlier, later in pairwise(begun)]
    assert [wait > least for wait, least in zip(waits, (0.09, 0.19, 0.39), strict=True)] == [
        True
    ] * 3


def test_a_server_may_say_how_long_to_wait(get, server):
    get("asks_to_wait")
    (first, _), (second, _) = server.asked
    assert 0.95 < second - first < 4


@pytest.mark.parametrize("name", ["../a.fits", "a/b.fits", "/a.fits", ".hidden", ""])
def test_no_name_leaves_the_folder(tmp_path, name):
    with pytest.raises(ValueError, match="plain name of its own"):
        Downloader(check).download([Wanted(name, "http://127.0.0.1:9", {})], tmp_path / "files")
    assert not (tmp_path / "files").exists()


def test_two_files_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not 'a'"):
        Downloader(check).download([Wanted("a", "x", {})] * 2, tmp_path)


def test_a_folder_may_be_a_number_or_below_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert [str(as_path(given)) for given in (2020, "~/x", "/y")] == ["2020", "/home/me/x", "/y"]
