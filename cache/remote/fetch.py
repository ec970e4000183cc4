"""Reading many byte ranges of a store behind a URL at once."""

from __future__ import annotations

import asyncio
import os
import queue
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from fsspec.asyn import get_loop

from avem.cache.remote.objects import CONNECTIONS, Content, Listed, Objects, Reply, open_objects
from avem.cache.remote.ranges import Range, Request, plan_requests
from avem.cache.remote.read_cache import ReadCache
from avem.errors import StoreError
from avem.guards.secrets import remember_url

ATTEMPTS = 5
"""How often a request is made before its fault counts as lasting."""
FIRST_WAIT_S = 0.1
"""Wait before the second attempt, doubled for each further one."""

Result = TypeVar("Result")


class LostObjectError(StoreError):
    """An object of a remote store that is not there."""


class Fetcher:
    """Reads of one remote store: many at once, neighbours in one request, with transient faults repeated.

    Threads may share one, forked processes may keep using it, and it can be pickled.

    Args:
        url: The store.
        read_cache: Where ranges are kept on a local disk, if anywhere.

    Raises:
        StoreError: The URL's protocol is unknown, or its package is not installed.

    Example:
        >>> fetcher = Fetcher("s3://bucket/cache")                                  # doctest: +SKIP
        >>> index = fetcher.suffix("video/mine/features/c.0.0.0", 1028)             # doctest: +SKIP
        >>> rows = fetcher.fetch([("video/mine/features/c.0.0.0", 0, 4096)])        # doctest: +SKIP
    """

    def __init__(self, url: str, read_cache: ReadCache | None = None) -> None:
        remember_url(url)
        self.url, self.read_cache = url.rstrip("/"), read_cache
        self._versions: dict[str, str] = {}
        self._objects: Objects | None = None
        self._pid = 0
        self.objects  # noqa: B018  a wrong URL is an error now

    def __reduce__(self) -> tuple[type[Fetcher], tuple[str, ReadCache | None]]:
        return Fetcher, (self.url, self.read_cache)

    @property
    def objects(self) -> Objects:
        """The server's objects; opened again in a forked process, where the event loop's thread does not run."""
        if self._pid != os.getpid():
            try:
                objects = open_objects(self.url)
            except (ValueError, ImportError) as error:
                raise StoreError(f"The store {self.url} can't be reached: {error}.") from error
            self._objects, self._pid = objects, os.getpid()
        assert self._objects is not None
        return self._objects

    def fetch(self, ranges: Sequence[Range], *, fresh: bool = False) -> list[memoryview]:
        """Read byte ranges of any objects, all at once.

        Args:
            ranges: (name in the store, first byte, byte behind the last one). `(name, -n, None)` is an object's last
                n bytes, `(name, 0, None)` all of it.
            fresh: Whether to read past the read cache, and to put there what comes.

        Returns:
            The bytes of each range, in the order asked for; shorter where an object ends before.

        Raises:
            LostObjectError: There is no such object.
            StoreError: The server can't be reached, or refuses.
        """
        found: list[memoryview] = [memoryview(b"")] * len(ranges)
        for position, data in self.each(ranges, fresh=fresh):
            if isinstance(data, Exception):
                raise data
            found[position] = data
        return found

    def suffix(self, name: str, count: int) -> memoryview:
        """The last bytes of an object, in one request; raises as `fetch`."""
        return self.fetch([(name, -count, None)])[0]

    def read(self, name: str) -> bytes | None:
        """All of a small object, or None where there is none.

        Raises:
            StoreError: The server can't be reached, or refuses.
        """
        return self.read_many([name])[0]

    def read_many(self, names: Sequence[str]) -> list[bytes | None]:
        """Several small objects at once, each whole, or None where there is none; raises as `read`."""
        found: list[bytes | None] = [None] * len(names)
        for position, data in self.each([(name, 0, None) for name in names], fresh=True):
            if isinstance(data, LostObjectError):
                continue
            if isinstance(data, Exception):
                raise data
            found[position] = bytes(data)
        return found

    def read_versions(self, names: Sequence[str]) -> list[tuple[bytes, str] | None]:
        """Several small objects at once, each with its version; raises as `read`."""
        found: list[tuple[bytes, str] | None] = [None] * len(names)
        for position, result in self._from_server([(name, 0, None) for name in names]):
            if isinstance(result, tuple):
                found[position] = bytes(result[0]), result[1] or ""
            elif not isinstance(result, LostObjectError):
                raise result
        return found

    def list(self, folder: str, *, deep: bool = False) -> dict[str, Listed]:
        """Objects in a folder by their names in the store, with size and version; none where there is no such folder.

        Args:
            folder: Its name in the store; empty for the store itself.
            deep: Whether to list subfolders too.

        Raises:
            StoreError: The server can't be reached, or refuses.
        """
        try:
            found = self.run(self.repeat(lambda: self.objects.list(folder, deep=deep)))
        except Exception as error:  # each protocol has errors of its own
            raise StoreError(f"{self.url}/{folder} can't be listed ({reason(error)}).") from error
        self._versions.update({name: item.version for name, item in found.items() if item.version})
        return found

    def names(self, folder: str) -> set[str]:
        """Names of the objects and folders in a folder; none where there is no such folder. Raises as `list`."""
        try:
            return self.run(self.repeat(lambda: self.objects.names(folder)))
        except Exception as error:  # each protocol has errors of its own
            raise StoreError(f"{self.url}/{folder} can't be listed ({reason(error)}).") from error

    def exists(self, name: str) -> bool:
        """Whether there is an object, or a folder of objects, of this name; raises as `read`."""
        try:
            self.fetch([(name, 0, 1)], fresh=True)
        except LostObjectError:
            return bool(self.list(name, deep=True))
        return True

    def write(self, name: str, data: Content) -> str | None:
        """Write an object, whole or not at all, over one that is there.

        Returns:
            Its version, where the server says it.

        Raises:
            StoreError: The server can't be reached, or refuses.
        """
        try:
            return self.run(self.repeat(lambda: self.objects.put(name, data)))
        except Exception as error:  # each protocol has errors of its own
            raise StoreError(f"{self.url}/{name} can't be written ({reason(error)}).") from error

    def remove(self, name: str) -> None:
        """Remove an object; none need be there. Raises as `write`."""
        try:
            self.run(self.repeat(lambda: self.objects.remove(name)))
        except Exception as error:  # each protocol has errors of its own
            raise StoreError(f"{self.url}/{name} can't be removed ({reason(error)}).") from error

    def version(self, name: str) -> str | None:
        """The version of an object as it was seen last."""
        return self._versions.get(name)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on fsspec's event loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, get_loop()).result()

    def each(self, ranges: Sequence[Range], *, fresh: bool = False) -> Iterator[tuple[int, memoryview | StoreError]]:
        """Read byte ranges as `fetch` does, and give each one's position and bytes, or error, as soon as it is there.

        Errors are `LostObjectError` or another `StoreError`.
        """
        wanted = list(range(len(ranges)))
        cache = self.read_cache
        if cache is not None and not fresh:
            kept = {i: data for i in wanted if (data := self._from_cache(cache, ranges[i])) is not None}
            yield from kept.items()
            wanted = [i for i in wanted if i not in kept]
        for number, found in self._from_server([ranges[i] for i in wanted]):
            position = wanted[number]
            if isinstance(found, StoreError):
                yield position, found
                continue
            data, version = found
            if version is not None:
                self._versions[ranges[position][0]] = version
            if cache is not None:
                self._to_cache(cache, ranges[position], data)
            yield position, data

    def _from_cache(self, cache: ReadCache, wanted: Range) -> memoryview | None:
        version = self._versions.get(wanted[0])
        if version is None:
            return None
        data = cache.get(_key(self.url, wanted, version))
        return None if data is None else memoryview(data)

    def _to_cache(self, cache: ReadCache, wanted: Range, data: memoryview) -> None:
        version, (_, start, stop) = self._versions.get(wanted[0]), wanted
        expected = -start if start < 0 else stop - start if stop is not None else None
        if version is not None and len(data) == expected:
            cache.put(_key(self.url, wanted, version), data)

    def _from_server(self, ranges: Sequence[Range]) -> Iterator[tuple[int, tuple[memoryview, str | None] | StoreError]]:
        """Position and bytes, with the object's version where the reply has it, or error, as they come."""
        requests = plan_requests(ranges)
        missing = Counter(position for request in requests for position in request.of)
        parted = {position: _Parts() for position, count in missing.items() if count > 1}
        for request, reply in self._replies(requests):
            for position in request.of:
                _, start, stop = ranges[position]
                missing[position] -= 1
                if isinstance(reply, StoreError):
                    if missing[position] >= 0:
                        yield position, reply
                    missing[position] = -1  # a range in parts has one error
                elif position in parted:
                    parted[position].add(request.start - start, reply.data)
                    if missing[position] == 0:
                        yield position, (parted.pop(position).joined(), reply.version)
                else:
                    data = memoryview(reply.data)
                    data = data if stop is None else data[start - request.start : stop - request.start]
                    yield position, (data, reply.version)

    def _replies(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply | StoreError]]:
        """Each request with its reply, or with its error once repeating it has not helped, as they come."""
        done: queue.SimpleQueue[tuple[Request, Reply | StoreError]] = queue.SimpleQueue()
        if not requests:
            return
        objects, free = self.objects, asyncio.Semaphore(CONNECTIONS)

        async def one(request: Request) -> None:
            name = request.name
            try:
                async with free:
                    reply: Reply | StoreError = await self.repeat(
                        lambda: objects.get(name, request.start, request.stop)
                    )
            except FileNotFoundError:
                reply = LostObjectError(f"{self.url}/{name} is not there; run `avem cache verify`.")
            except Exception as error:  # noqa: BLE001  each protocol has errors of its own
                reply = StoreError(f"{self.url}/{name} can't be read ({reason(error)}).")
                reply.__cause__ = error
            done.put((request, reply))

        async def together() -> None:
            await asyncio.gather(*map(one, requests))

        work = asyncio.run_coroutine_threadsafe(together(), get_loop())
        try:
            for _ in requests:
                yield done.get()
        finally:
            work.cancel()

    async def repeat(self, request: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Make a request again and again while its fault is one that may pass."""
        for attempt in range(ATTEMPTS):
            try:
                return await request()
            except Exception as error:
                if attempt == ATTEMPTS - 1 or not self.objects.is_transient(error):
                    raise
                await asyncio.sleep(FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1.5))
        raise AssertionError("the last attempt raises")


class _Parts:
    """Parts of a long range, put together when all are there."""

    def __init__(self) -> None:
        self._parts: dict[int, bytes] = {}

    def add(self, first: int, data: bytes) -> None:
        """Add the part that begins at a position of the range."""
        self._parts[first] = data

    def joined(self) -> memoryview:
        """The range; it ends where the object does."""
        whole = bytearray()
        for first, data in sorted(self._parts.items()):
            if first == len(whole):
                whole += data
        return memoryview(whole)


def _key(url: str, wanted: Range, version: str) -> str:
    name, start, stop = wanted
    return f"{url}\n{name}\n{version}\n{start}\n{stop}"


def reason(error: BaseException) -> str:
    """An error in a few words."""
    return (str(getattr(error, "strerror", None) or error).splitlines() or [type(error).__name__])[0].rstrip(".")
