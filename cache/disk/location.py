"""Where a store is: a folder on this machine or a URL that fsspec understands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from avem.cache.remote.fetch import Fetcher, reason
from avem.cache.remote.read_cache import ReadCache
from avem.errors import MissingFileError, StoreError
from avem.guards.secrets import remember_url
from avem.reading import read_regular, require_regular
from avem.urls import as_url, is_url


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is, and reading small files in it."""

    url: str
    """As the user gave it."""
    local: Path | None
    """The folder, where it is on this machine."""
    remote: Fetcher | None
    """Reads the store, where it is not on this machine."""

    @classmethod
    def parse(cls, path: str | Path, read_cache: str | ReadCache | None = None) -> Location:
        """Understand a path or a URL.

        Args:
            path: A folder, or a URL that fsspec understands.
            read_cache: For a URL: where parts of the store are kept, as `ReadCache.parse` understands it.
                None: as the environment variable `AVEM_READ_CACHE` says, if at all.

        Raises:
            StoreError: The URL's protocol is unknown or the package for it is not installed.
            SettingError: The read cache can't be used.
        """
        text = as_url(path)
        remember_url(text)
        if not is_url(text):
            return cls(text, Path(text.removeprefix("file://").removeprefix("local://")).expanduser(), None)
        if isinstance(read_cache, str):
            read_cache = ReadCache.parse(read_cache)
        return cls(text, None, Fetcher(text, read_cache or ReadCache.from_environment()))

    def read(self, name: str) -> bytes | None:
        """Content of a file in the store, or None where there is none.

        Raises:
            StoreError: The disk or the server fails, or it is a pipe or a device, whose content may never end.
        """
        return self.read_many([name])[0]

    def read_many(self, names: Sequence[str]) -> list[bytes | None]:
        """Content of several small files, read at once where each is a request; None for a file that is not there.

        Raises:
            StoreError: As by `read`.
        """
        if self.remote is not None:
            return self.remote.read_many(names)
        return [self._read_local(name) for name in names]

    def _read_local(self, name: str) -> bytes | None:
        try:
            return read_regular(self.folder / name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{self.url}/{name} can't be read ({reason(error)}).") from error

    def exists(self, name: str) -> bool:
        """Whether there is a file or a folder of this name in the store.

        Raises:
            StoreError: The disk or the server fails.
        """
        if self.remote is not None:
            return self.remote.exists(name)
        try:
            return (self.folder / name).exists()
        except OSError as error:
            raise StoreError(f"{self.url}/{name} can't be read ({reason(error)}).") from error

    def names(self, folder: str) -> list[str]:
        """Names of the files and folders in a folder of the store, sorted; none where there is no such folder.

        Raises:
            StoreError: The disk or the server fails.
        """
        if self.remote is not None:
            return sorted(self.remote.names(folder))
        try:
            return sorted(item.name for item in (self.folder / folder).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreError(f"{self.url}/{folder} can't be listed ({reason(error)}).") from error

    @property
    def folder(self) -> Path:
        """The folder of a store on this machine."""
        assert self.local is not None
        return self.local

    def zarr_array(self, name: str) -> zarr.Array[Any]:
        """An array of the store through zarr-python, for reading.

        Raises:
            MissingFileError: There is no such array.
            StoreError: The disk or the server fails, or the array's metadata is damaged.
        """
        if self.local is not None:
            store: Any = _RegularFiles(self.local, read_only=True)
        else:
            store = zarr.storage.FsspecStore.from_url(self.url, read_only=True)
        try:
            return zarr.open_array(store, path=name, mode="r")
        except FileNotFoundError as error:
            raise MissingFileError(f"{self.url} has no array {name}.") from error
        except Exception as error:  # zarr-python has no error of its own for metadata that it does not understand
            raise StoreError(f"{self.url}/{name} can't be read ({reason(error)}); run `avem cache verify`.") from error


class _RegularFiles(zarr.storage.LocalStore):
    """A folder of which zarr-python reads regular files alone: reading a pipe or a device may never end."""

    async def get(self, key: str, *arguments: Any, **named: Any) -> Any:
        path = self.root / key
        if path.exists():
            require_regular(path)
        return await super().get(key, *arguments, **named)
