"""Files of a data set, the same whether they lie in a folder or in a zip. Names are relative, with forward slashes."""

from __future__ import annotations

import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from dnnlib.errors import DatasetError


class StorageError(DatasetError):
    """The place where files are cannot be reached, or does not hold what it should: no fault of a single sample."""


class Storage(ABC):
    """Where a data set's files are. Can be sent to loader workers."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path = path
        self.names = sorted(names)
        self._known = frozenset(names)

    @property
    def place(self) -> str:
        """The folder, the file or the URL, for messages."""
        return str(self.path)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def below(self, folder: str, suffixes: tuple[str, ...]) -> list[str]:
        """Names in `folder` (all of them for "") and its sub-folders that end in one of `suffixes`, sorted."""
        return [name for name in self.names if name.startswith(folder) and name.lower().endswith(suffixes)]

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A file's bytes.

        Raises:
            DatasetError: it is missing or damaged.
        """

    @abstractmethod
    def display(self, name: str) -> str:
        """The file as messages name it."""


class FolderStorage(Storage):
    """Files in a folder and its sub-folders; hidden ones are left out."""

    def __init__(self, path: Path, only: Sequence[str] | None = None) -> None:
        """List the files below `path`, or only those in the sub-folders named in `only`."""
        names: list[str] = []
        for top in [path] if only is None else [path / name for name in only]:
            for folder, below, files in os.walk(top, followlinks=True):
                below[:] = [name for name in below if not name.startswith(".")]
                relative = Path(folder).relative_to(path)
                names.extend((relative / name).as_posix() for name in files if not name.startswith("."))
        super().__init__(path, names)

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise DatasetError(f"{self.display(name)}: cannot be read ({error.strerror}); check the path and its permissions.") from error

    def display(self, name: str) -> str:
        """The file's path."""
        return str(self.path / name)


class ZipStorage(Storage):
    """Files in a zip; one folder around everything is ignored.

    Every process opens the archive for itself: a file position shared across a fork would mix up reads.
    """

    def __init__(self, path: Path) -> None:
        self._archive: zipfile.ZipFile | None = None
        self._owner = -1
        self.path = path
        names = [info.filename for info in self._open().infolist() if not info.is_dir()]
        tops = {name.partition("/")[0] for name in names if "/" in name}
        wrapped = len(tops) == 1 and all("/" in name for name in names)
        self._top = f"{tops.pop()}/" if wrapped else ""
        super().__init__(path, [name[len(self._top) :] for name in names])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_archive": None, "_owner": -1}

    def _open(self) -> zipfile.ZipFile:
        if self._archive is None or self._owner != os.getpid():
            try:
                self._archive = zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, OSError) as error:
                raise DatasetError(f"{self.path}: is not a complete zip file ({error}); copy or make it again.") from error
            self._owner = os.getpid()
        return self._archive

    def read(self, name: str) -> bytes:
        """A file's bytes, checked against the archive's checksum."""
        try:
            return self._open().read(self._top + name)
        except KeyError as error:
            raise DatasetError(f"{self.display(name)}: is not in the zip file; make the data set again.") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise DatasetError(f"{self.display(name)}: is damaged ({error}); copy or make the zip file again.") from error

    def display(self, name: str) -> str:
        """`archive.zip:inner/name`."""
        return f"{self.path}:{self._top}{name}"
