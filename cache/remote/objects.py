"""Objects behind a URL, one request at a time: what differs between S3 and the other protocols that fsspec knows.

S3 is asked through its own client, because its replies carry an object's version with the data. Everything else goes
through fsspec's file systems, whose packages bring `gs://`, `hf://`, `memory://` and more.
"""

from __future__ import annotations

import asyncio
import mmap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeAlias

import fsspec
from fsspec.asyn import AsyncFileSystem

CONNECTIONS = 64
"""Requests that are under way at once."""


PART_BYTES = 2**24
"""Larger objects are written to S3 in parts of at least this size."""
PARTS_AT_ONCE = 4
MOST_PARTS = 10_000
"""S3 takes no more."""

CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409", "NoSuchKey", "404")
"""Codes by which S3 says that a condition does not hold; with `If-Match`, also that there is no object."""

Content: TypeAlias = "bytes | mmap.mmap"
"""What is written: a whole file may be mapped rather than read."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request for bytes brought."""

    data: bytes
    """Fewer bytes than asked for where the object ends before."""
    version: str | None = None
    """Of the object that the bytes are from, where the reply says so: S3's ETag."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a listing."""

    size: int
    version: str | None


class Objects(Protocol):
    """Requests to a store's server; each is a coroutine on fsspec's event loop. Errors are the protocol's own."""

    async def get(self, name: str, start: int, stop: int | None) -> Reply:
        """Bytes of an object; a negative start without a stop asks for its last bytes.

        Raises:
            FileNotFoundError: There is no such object.
        """
        ...

    async def list(self, folder: str, *, deep: bool) -> dict[str, Listed]:
        """Objects below a folder by their names in the store, those in its subfolders too if `deep`."""
        ...

    async def names(self, folder: str) -> set[str]:
        """Names of the objects and folders in a folder, without its own name."""
        ...

    async def put(self, name: str, data: Content) -> str | None:
        """Write an object, whole or not at all; gives its version, where the server says it."""
        ...

    async def remove(self, name: str) -> None:
        """Remove an object; none need be there."""
        ...

    def is_transient(self, error: Exception) -> bool:
        """Whether the same request may succeed when it is made again."""
        ...


def open_objects(url: str) -> Objects:
    """The objects below a URL.

    Raises:
        ValueError: The protocol is unknown.
        ImportError: Its package is not installed.
    """
    files, root = fsspec.core.url_to_fs(url, **_more_connections(url))
    if "s3" in _protocols(files):
        return S3Objects(files, root)
    return FsspecObjects(files, root)


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def _more_connections(url: str) -> dict[str, Any]:
    """Options that let S3's client keep as many connections as are used; it has ten otherwise."""
    protocol = url.partition("://")[0]
    if protocol not in ("s3", "s3a"):
        return {}
    given = dict(fsspec.config.conf.get(protocol, {}).get("config_kwargs", {}))
    return {"config_kwargs": {"max_pool_connections": CONNECTIONS, **given}}


class ConflictError(Exception):
    """An object that another writer has written since it was read."""


NOT_TRANSIENT = (ConflictError, FileNotFoundError, PermissionError, ValueError)
"""Errors that the same request would meet again."""


class S3Objects:
    """Objects in a bucket of S3, or of a server that speaks its protocol.

    Args:
        files: An `s3fs.S3FileSystem`, for its credentials and its client.
        root: Bucket and prefix.
    """

    def __init__(self, files: Any, root: str) -> None:
        self._files = files
        self.bucket, _, prefix = root.strip("/").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._options: dict[str, Any] = dict(files.req_kw)

    def key(self, name: str) -> str:
        """An object's key in the bucket."""
        return f"{self._prefix}{name}"

    async def client(self) -> Any:
        """The aiobotocore client."""
        await self._files.set_session()
        return await self._files.get_s3(self.bucket)

    async def get(self, name: str, start: int, stop: int | None) -> Reply:
        """See `Objects`."""
        options = dict(self._options)
        if start < 0:
            options["Range"] = f"bytes={start}"
        elif start or stop is not None:
            options["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        client = await self.client()
        try:
            reply = await client.get_object(Bucket=self.bucket, Key=self.key(name), **options)
            async with reply["Body"] as body:
                return Reply(await body.read(), reply.get("ETag"))
        except Exception as error:
            code = error_code(error)
            if code in ("NoSuchKey", "NoSuchBucket", "404"):
                raise FileNotFoundError(name) from error
            if code in ("InvalidRange", "416"):  # the range begins behind the object's end
                return Reply(b"")
            raise

    async def list(self, folder: str, *, deep: bool) -> dict[str, Listed]:
        """See `Objects`."""
        client = await self.client()
        prefix = self.key(f"{folder}/" if folder else "")
        options = {"Bucket": self.bucket, "Prefix": prefix, **({} if deep else {"Delimiter": "/"})}
        found: dict[str, Listed] = {}
        try:
            async for page in client.get_paginator("list_objects_v2").paginate(**options):
                for item in page.get("Contents", ()):
                    found[item["Key"][len(self._prefix) :]] = Listed(item["Size"], item.get("ETag"))
        except Exception as error:
            if error_code(error) == "NoSuchBucket":
                return {}
            raise
        return {name: item for name, item in found.items() if not name.endswith("/")}

    async def names(self, folder: str) -> set[str]:
        """See `Objects`."""
        client = await self.client()
        prefix = self.key(f"{folder}/" if folder else "")
        options = {"Bucket": self.bucket, "Prefix": prefix, "Delimiter": "/"}
        found: set[str] = set()
        try:
            async for page in client.get_paginator("list_objects_v2").paginate(**options):
                found |= {item["Key"][len(prefix) :] for item in page.get("Contents", ())}
                found |= {item["Prefix"][len(prefix) :].rstrip("/") for item in page.get("CommonPrefixes", ())}
        except Exception as error:
            if error_code(error) == "NoSuchBucket":
                return set()
            raise
        return found - {""}

    async def put(self, name: str, data: Content) -> str | None:
        """See `Objects`."""
        client, where = await self.client(), {"Bucket": self.bucket, "Key": self.key(name)}
        if len(data) <= 2 * PART_BYTES:
            reply = await client.put_object(**where, Body=bytes(data[:]), **self._options)
            return str(reply["ETag"])
        upload = {**where, "UploadId": (await client.create_multipart_upload(**where, **self._options))["UploadId"]}
        size, free = max(PART_BYTES, -(-len(data) // MOST_PARTS)), asyncio.Semaphore(PARTS_AT_ONCE)

        async def part(number: int) -> dict[str, Any]:
            async with free:
                body = bytes(data[number * size : (number + 1) * size])
                sent = await client.upload_part(**upload, PartNumber=number + 1, Body=body, **self._options)
                return {"PartNumber": number + 1, "ETag": sent["ETag"]}

        try:
            parts = await asyncio.gather(*map(part, range(-(-len(data) // size))))
            reply = await client.complete_multipart_upload(**upload, MultipartUpload={"Parts": list(parts)})
        except BaseException:
            await client.abort_multipart_upload(**upload)
            raise
        return str(reply["ETag"])

    async def remove(self, name: str) -> None:
        """See `Objects`."""
        await (await self.client()).delete_object(Bucket=self.bucket, Key=self.key(name))

    async def put_if(self, name: str, data: Content, version: str | None) -> str:
        """Write an object if it still has a version; None: if there is none yet. Gives its new version.

        Raises:
            ConflictError: It has another version, or none.
        """
        client = await self.client()
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        where = {"Bucket": self.bucket, "Key": self.key(name)}
        try:
            reply = await client.put_object(**where, Body=bytes(data[:]), **condition, **self._options)
        except Exception as error:
            if error_code(error) in CONFLICTS:
                raise ConflictError(name) from error
            raise
        return str(reply["ETag"])

    async def remove_if(self, name: str, version: str) -> None:
        """Remove an object if it still has a version.

        Raises:
            ConflictError: It has another version.
        """
        client = await self.client()
        try:
            await client.delete_object(Bucket=self.bucket, Key=self.key(name), IfMatch=version)
        except Exception as error:
            if error_code(error) in ("NoSuchKey", "404"):
                return
            if error_code(error) in CONFLICTS:
                raise ConflictError(name) from error
            raise

    async def age_s(self, name: str) -> float | None:
        """Seconds since an object was written, by the server's clock alone; None where there is no such object."""
        client = await self.client()
        try:
            reply = await client.head_object(Bucket=self.bucket, Key=self.key(name))
        except Exception as error:
            if error_code(error) in ("NoSuchKey", "404"):
                return None
            raise
        now = parsedate_to_datetime(reply["ResponseMetadata"]["HTTPHeaders"]["date"])
        return float((now - reply["LastModified"]).total_seconds())

    def is_transient(self, error: Exception) -> bool:
        """See `Objects`; botocore itself repeats what the server answers with an error status."""
        return not error_code(error) and not isinstance(error, NOT_TRANSIENT)


def error_code(error: BaseException) -> str:
    """S3's code of an error, such as `NoSuchKey`; empty for an error that is not the server's answer."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


class FsspecObjects:
    """Objects through any of fsspec's file systems.

    Args:
        files: The file system.
        root: The store's path in it.
    """

    def __init__(self, files: Any, root: str) -> None:
        self._files, self._root = files, root.rstrip("/")
        self._async = isinstance(files, AsyncFileSystem)
        self._threads = None if self._async else ThreadPoolExecutor(CONNECTIONS // 2, "remote")

    async def get(self, name: str, start: int, stop: int | None) -> Reply:
        """See `Objects`."""
        path = f"{self._root}/{name}"
        limits = {} if start == 0 and stop is None else {"start": start, "end": stop}
        try:
            data = await self._call("cat_file", path, **limits)
        except FileNotFoundError:
            raise
        except Exception as error:
            if getattr(error, "status", getattr(error, "code", None)) == 416:
                return Reply(b"")
            raise
        return Reply(bytes(data))

    async def list(self, folder: str, *, deep: bool) -> dict[str, Listed]:
        """See `Objects`."""
        self._files.invalidate_cache()
        try:
            path = f"{self._root}/{folder}".rstrip("/")
            found = await self._call("find", path, maxdepth=None if deep else 1, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        first = len(self._files._strip_protocol(self._root)) + 1
        return {str(path)[first:]: Listed(int(info["size"]), version_of(info)) for path, info in found.items()}

    async def names(self, folder: str) -> set[str]:
        """See `Objects`."""
        self._files.invalidate_cache()
        try:
            found = await self._call("ls", f"{self._root}/{folder}".rstrip("/"), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {str(path).rstrip("/").rpartition("/")[2] for path in found}

    async def put(self, name: str, data: Content) -> str | None:
        """See `Objects`."""
        path = f"{self._root}/{name}"
        await self._call("pipe_file", path, bytes(data[:]))
        self._files.invalidate_cache()
        return version_of(await self._call("info", path))

    async def remove(self, name: str) -> None:
        """See `Objects`."""
        try:
            await self._call("rm_file", f"{self._root}/{name}")
        except FileNotFoundError:
            return

    def is_transient(self, error: Exception) -> bool:
        """See `Objects`."""
        return not isinstance(error, (FileNotFoundError, PermissionError, ValueError, TypeError, NotImplementedError))

    async def _call(self, method: str, *arguments: Any, **named: Any) -> Any:
        if self._async:
            return await getattr(self._files, f"_{method}")(*arguments, **named)
        call = getattr(self._files, method)
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(*arguments, **named))


def version_of(info: dict[str, Any]) -> str | None:
    """What changes when an object does, from fsspec's description of it; None where there is nothing of the kind."""
    for name in ("ETag", "etag", "generation", "md5Hash", "blob_id", "oid", "last_modified", "mtime", "created"):
        if info.get(name):
            return str(info[name])
    return None
