"""Polite downloads that can be stopped at any moment and say what came and what did not."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import requests
import urllib3
from tqdm import tqdm

from skyloom.raw_files import UnusableError

MANIFEST_COLUMNS = ("file", "status", "reason", "n_requests", "n_bytes", "sha256", "address")
"""Columns of a manifest of downloads."""

_FINAL = frozenset({400, 401, 403, 404, 405, 410, 414})  # asking again would not help
_BLOCK = 1 << 16  # bytes


def as_path(given: object) -> Path:
    """Path of a folder or file as somebody has typed it.

    Parameters
    ----------
    given : object
        May begin with ``~``, or be a number that is the name of a folder.

    Returns
    -------
    pathlib.Path
    """
    return Path(str(given)).expanduser()


class Wanted(NamedTuple):
    """A file to be, and where it comes from."""

    file: str
    address: str
    params: Mapping[str, str]


class Answer(NamedTuple):
    """What came of a request; looks like an answer of requests where astroquery reads it."""

    url: str
    content: bytes

    def raise_for_status(self) -> None:
        """Nothing: what was refused has raised `RefusedError` already."""


class RefusedError(Exception):
    """A request did not give what was asked for.

    Parameters
    ----------
    reason : str
        For the manifest.
    for_good : bool
        Whether asking again is in vain.
    wait : float
        What the server wants us to wait before the next request, s.
    """

    def __init__(self, reason: str, *, for_good: bool = False, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.for_good, self.wait = for_good, wait


@dataclass
class Downloader:
    """Fetches files one after the other.

    Parameters
    ----------
    check : callable
        Raises `skyloom.raw_files.UnusableError` if a name and bytes are not what is wanted; so
        servers that answer with an error page are found out, and damaged files of earlier runs.
    interval : float
        Least time between the beginnings of two requests, s.
    retries : int
        Further requests for a file after the first.
    backoff : float
        Wait before the first retry, s; doubled for each further one. A server that states how
        long to wait is obeyed.
    timeout : float
        For the connection, and for a whole answer, s.
    max_bytes : int
        Of an answer.
    """

    check: Callable[[str, bytes], object]
    interval: float = 1.0
    retries: int = 4
    backoff: float = 2.0
    timeout: float = 60.0
    max_bytes: int = 100_000_000
    _last: float = field(default=-1e9, init=False, repr=False)
    _asked: int = field(default=0, init=False, repr=False)
    _session: requests.Session = field(default_factory=requests.Session, init=False, repr=False)

    def download(
        self,
        wanted: Iterable[Wanted],
        folder: Path,
        fetch: Callable[[Wanted], bytes] | None = None,
    ) -> pd.DataFrame:
        """Fetch what is not there.

        Parameters
        ----------
        wanted : iterable of Wanted
            Their names are those of files in the folder, without a folder of their own.
        folder : pathlib.Path
            Made if it is missing. A good file in it is never touched; a damaged one is replaced
            once its successor has come. Nothing half-written has the name of a file.
        fetch : callable, optional
            Makes the bytes of a file that need several requests, each by `request`; raises
            `RefusedError` or `skyloom.raw_files.UnusableError`. By default a file is what its
            address gives.

        Returns
        -------
        pandas.DataFrame
            `MANIFEST_COLUMNS`, a row for each; ``status`` is ``"present"``, ``"fetched"`` or
            ``"failed"``.

        Raises
        ------
        ValueError
            If a name leaves the folder, or occurs twice.
        """
        wanted = list(wanted)
        names = [item.file for item in wanted]
        bad = [name for name in names if not name or Path(name).name != name or name[0] == "."]
        bad += [name for name, number in Counter(names).items() if number > 1]
        if bad:
            msg = f"each file needs a plain name of its own, not {bad[0]!r}"
            raise ValueError(msg)
        folder.mkdir(parents=True, exist_ok=True)
        with self._session:
            rows = [
                self._one(item, folder, fetch or self._at_its_address)
                for item in tqdm(wanted, desc=f"files to {folder}", unit="file")
            ]
        return pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS))

    def request(
        self,
        address: str,
        *,
        method: str = "GET",
        params: Mapping[str, str] | None = None,
        data: str | None = None,
        check: Callable[[bytes], object],
    ) -> Answer:
        """Ask, and ask again where that may help.

        Parameters
        ----------
        address, method, params, data
            As requests takes them.
        check : callable
            Raises `skyloom.raw_files.UnusableError` if the bytes are not what is wanted.

        Returns
        -------
        Answer

        Raises
        ------
        RefusedError
            With the reason of the last refusal.
        """
        for attempt in range(self.retries + 1):
            try:
                answer = self._ask(method, address, params, data)
                check(answer.content)
            except RefusedError as error:
                refused = error
            except UnusableError as error:
                refused = RefusedError(str(error))
            else:
                return answer
            if refused.for_good or attempt == self.retries:
                break
            time.sleep(max(self.backoff * 2**attempt, refused.wait))
        raise refused

    def _at_its_address(self, item):
        check = partial(self.check, item.file)
        return self.request(item.address, params=item.params, check=check).content

    def _one(self, item, folder, fetch):
        path = folder / item.file
        if path.exists():
            content = path.read_bytes()
            try:
                self.check(item.file, content)
            except UnusableError:
                pass  # damaged: another one is fetched
            else:
                return self._row(item, "present", "", 0, content)
        self._asked = 0
        try:
            content = fetch(item)
        except (RefusedError, UnusableError) as error:
            return self._row(item, "failed", str(error), self._asked, b"")
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(content)
        os.replace(part, path)
        return self._row(item, "fetched", "", self._asked, content)

    def _ask(self, method, address, params, data):
        time.sleep(max(0.0, self._last + self.interval - time.monotonic()))
        self._asked += 1
        self._last = begin = time.monotonic()
        content = bytearray()
        try:
            with self._session.request(
                method,
                address,
                params=params,
                data=data,
                headers={"User-Agent": "skyloom"},
                stream=True,
                timeout=self.timeout,
            ) as answer:
                if answer.status_code != requests.codes.ok:
                    raise RefusedError(
                        f"HTTP {answer.status_code}",
                        for_good=answer.status_code in _FINAL,
                        wait=_stated_wait(answer),
                    )
                # As it comes: a slow server must not keep us waiting for a whole block.
                while block := answer.raw.read1(_BLOCK, decode_content=True):
                    content += block
                    if len(content) > self.max_bytes:
                        raise RefusedError(f"more than {self.max_bytes} bytes", for_good=True)
                    if time.monotonic() - begin > self.timeout:
                        raise RefusedError(f"not whole after {self.timeout:g} s")
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise RefusedError(f"{type(error).__name__}: {error}"[:200]) from error
        return Answer(answer.url, bytes(content))

    @staticmethod
    def _row(item, status, reason, asked, content):
        digest = hashlib.sha256(content).hexdigest() if content else ""
        return item.file, status, reason, asked, len(content), digest, item.address


def _stated_wait(answer) -> float:
    """Seconds of a Retry-After header, an hour at most; 0 where there is none."""
    value = answer.headers.get("Retry-After", "")
    return min(float(value), 3600.0) if value.isdigit() else 0.0
