"""What the datasets of this package have in common."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable
from pathlib import PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem
from kedro.io.core import (
    AbstractVersionedDataset,
    DatasetError,
    Version,
    get_filepath_str,
    get_protocol_and_path,
)


class _FileDataset(AbstractVersionedDataset[Any, Any]):
    """One file on any file system that fsspec knows, replaced as a whole or not at all.

    A subclass writes `_read` and `_write`, both for the path of a file on this machine. Files
    elsewhere pass through a temporary folder.

    Parameters
    ----------
    filepath : str or os.PathLike
        The file, with a protocol such as ``s3://`` where it is not on this machine.
    load_args, save_args : dict, optional
        How to load and save; see the class.
    version : kedro.io.Version, optional
        Given by Kedro for an entry with ``versioned: true``.
    credentials, fs_args : dict, optional
        Arguments of the fsspec file system.
    metadata : dict, optional
        For plugins such as kedro-viz; Kedro ignores it.
    """

    def __init__(
        self,
        *,
        filepath: str | os.PathLike[str],
        load_args: dict[str, Any] | None = None,
        save_args: dict[str, Any] | None = None,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._protocol, path = get_protocol_and_path(filepath, version)
        self._fs = fsspec.filesystem(self._protocol, **(credentials or {}), **(fs_args or {}))
        self._is_local = isinstance(self._fs, LocalFileSystem)
        self._load_args = load_args or {}
        self._save_args = save_args or {}
        self.metadata = metadata
        super().__init__(
            filepath=PurePosixPath(os.path.expanduser(path) if self._is_local else path),
            version=version,
            exists_function=self._fs.exists,
            glob_function=self._fs.glob,
        )

    @abstractmethod
    def _read(self, path: str) -> Any:
        """Return the content of the file `path` on this machine."""

    @abstractmethod
    def _write(self, data: Any, path: str) -> None:
        """Write `data` to the new file `path` on this machine."""

    def load(self) -> Any:
        """Load the file.

        Returns
        -------
        object
            The content; see the class.

        Raises
        ------
        kedro.io.DatasetError
            The file is missing or unreadable; the message names it and says why.
        """
        return self._local_copy(self._read)

    def save(self, data: Any) -> None:
        """Save `data`: under a temporary name beside the file first, then renamed.

        Parameters
        ----------
        data : object
            What the class can save.

        Raises
        ------
        kedro.io.DatasetError
            Saving failed; a file that was there before is as it was.
        """
        target = self._get_save_path()
        path = get_filepath_str(target, self._protocol)
        # A dot and no known suffix: what a killed process leaves is never taken for data.
        temporary = str(target.with_name(f".{target.name}.{uuid4().hex}.tmp"))
        self._fs.makedirs(str(target.parent), exist_ok=True)
        try:
            if self._is_local:
                self._write(data, temporary)
                with open(temporary, "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            else:
                with TemporaryDirectory() as folder:
                    self._write(data, local := os.path.join(folder, target.name))
                    self._fs.put_file(local, temporary)
                self._fs.mv(temporary, path)
        finally:
            if self._fs.exists(temporary):
                self._fs.rm_file(temporary)
            self._fs.invalidate_cache(path)

    def _local_copy(self, read: Callable[[str], Any]) -> Any:
        """Call `read` with the path of the file, or of a copy of it, on this machine."""
        path = get_filepath_str(self._get_load_path(), self._protocol)
        try:
            if self._is_local:
                return read(path)
            with TemporaryDirectory() as folder:
                self._fs.get_file(path, local := os.path.join(folder, self._filepath.name))
                return read(local)
        except Exception as error:
            raise DatasetError(f"{path} cannot be loaded: {error}") from error

    def _exists(self) -> bool:
        return self._fs.exists(get_filepath_str(self._get_load_path(), self._protocol))

    def _describe(self) -> dict[str, Any]:
        return {
            "filepath": self._filepath,
            "protocol": self._protocol,
            "load_args": self._load_args,
            "save_args": self._save_args,
            "version": self._version,
        }

    def _release(self) -> None:
        super()._release()
        self._fs.invalidate_cache(get_filepath_str(self._filepath, self._protocol))


# Kedro 1.7 marks wrapped saves of unversioned datasets only, wraps this one again in each subclass,
# and then warns that the version loaded is not the version saved.
_FileDataset.save.__savewrapped__ = True
