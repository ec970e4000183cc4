"""Where a store is: a folder on this machine or a URL that fsspec understands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import zarr
from fsspec.implementations.local import LocalFileSystem

from avem.errors import MissingFileError, StoreError
from avem.guards.secrets import remember_url
from avem.reading import read_regular, require_regular


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is, and reading small files in it."""

    url: str
    """As the user gave it."""
    local: Path | None
    """The folder, where it is on this machine."""
    _files: Any
    _root: str

    @classmethod
    def parse(cls, path: str | Path) -> Location:
        """Understand a path or a URL.

        Raises:
            StoreError: The URL's protocol is unknown or the package for it is not installed.
        """
        remember_url(str(path))
        try:
            files, root = fsspec.core.url_to_fs(str(path))
        except (ValueError, ImportError) as error:
            raise StoreError(f"The store {path} can't be reached: {error}.") from error
        local = Path(root).expanduser() if isinstance(files, LocalFileSystem) else None
        return cls(str(path), local, files, str(local or root))

    def read(self, name: str) -> bytes | None:
        """Content of a file in the store, or None where there is none.

        Raises:
            StoreError: The disk or the server fails, or it is a pipe or a device, whose content may never end.
        """
        try:
            if self.local is not None:
                return read_regular(self.local / name)
            data: bytes = self._files.cat_file(f"{self._root}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except self._errors as error:
            raise StoreError(f"{self.url}/{name} can't be read ({_reason(error)}).") from error
        return data

    def exists(self, name: str) -> bool:
        """Whether there is a file or a folder of this name in the store.

        Raises:
            StoreError: The disk or the server fails.
        """
        try:
            self._files.invalidate_cache()
            return bool(self._files.exists(f"{self._root}/{name}"))
        except self._errors as error:
            raise StoreError(f"{self.url}/{name} can't be read ({_reason(error)}).") from error

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder of the store, sorted; none where there is no such folder."""
        try:
            self._files.invalidate_cache()
            return sorted(
                str(path).rpartition("/")[2] for path in self._files.ls(f"{self._root}/{folder}", detail=False)
            )
        except (FileNotFoundError, NotADirectoryError):
            return []
        except self._errors as error:
            raise StoreError(f"{self.url}/{folder} can't be listed ({_reason(error)}).") from error

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
            raise StoreError(f"{self.url}/{name} can't be read ({_reason(error)}); run `avem cache verify`.") from error

    @property
    def _errors(self) -> type[Exception]:
        """Errors that mean that the store can't be reached; each protocol's package has its own."""
        return OSError if self.local is not None else Exception


class _RegularFiles(zarr.storage.LocalStore):
    """A folder of which zarr-python reads regular files alone: reading a pipe or a device may never end."""

    async def get(self, key: str, *arguments: Any, **named: Any) -> Any:
        path = self.root / key
        if path.exists():
            require_regular(path)
        return await super().get(key, *arguments, **named)


def _reason(error: Exception) -> str:
    """An error in a few words."""
    return (str(getattr(error, "strerror", None) or error).splitlines() or [type(error).__name__])[0]
