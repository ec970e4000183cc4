"""Claims in place of locks, which buckets do not have. A claim ends when its owner stops reporting.

A writer has a session, `ledger/writers/<id>.json`, which it writes again every few seconds. A claim is an object that
names a session. It is made, and taken over from a dead session, by a conditional put: one writer alone succeeds. A
session is dead when the server says that it was last written longer ago than the lease: the server's clock is the
only one that counts.

A claim keeps two writers from doing the same work. It does not keep a writer that was suspended for longer than its
lease from writing late; what it writes is therefore conditional as well.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterable

from avem.cache.disk.layout import LEDGER
from avem.cache.remote.fetch import Fetcher, reason
from avem.cache.remote.objects import ConflictError, Content, S3Objects
from avem.errors import StoreError

logger = logging.getLogger(__name__)

LEASE_S = 30.0
"""Age from which a session is dead."""
BEATS = 4
"""How often a session is written within its lease."""
FORGOTTEN = 100
"""Leases after which a dead session is removed."""
POLL_S = 0.25
"""How often somebody who waits for a claim looks again."""
SESSIONS = f"{LEDGER}/writers"


class Bucket:
    """Conditional changes of one store's objects.

    Args:
        fetcher: The store.

    Raises:
        StoreError: The URL's protocol has no conditional writes that avem knows.
    """

    def __init__(self, fetcher: Fetcher) -> None:
        self.fetcher, self.url = fetcher, fetcher.url
        if not isinstance(fetcher.objects, S3Objects):
            raise StoreError(
                f"{fetcher.url} can't be written: avem writes to s3:// URLs, or on a local disk; for other URLs copy a "
                "local store there with `avem cache push`."
            )

    @property
    def _s3(self) -> S3Objects:
        objects = self.fetcher.objects
        assert isinstance(objects, S3Objects)
        return objects

    def get(self, name: str) -> tuple[bytes, str] | None:
        """An object's content and version, or None where there is none."""
        try:
            reply = self.fetcher.run(self.fetcher.repeat(lambda: self._s3.get(name, 0, None)))
        except FileNotFoundError:
            return None
        except Exception as error:  # botocore's and aiohttp's errors have no common base
            raise StoreError(f"{self.url}/{name} can't be read ({reason(error)}).") from error
        return reply.data, reply.version or ""

    def put(self, name: str, data: Content, version: str | None) -> str:
        """Write an object if it still has a version (None: if there is none); gives its new version.

        A first attempt may have succeeded although its reply was lost. The object then has this very content already,
        and that is what counts.

        Raises:
            ConflictError: Another writer has written it.
            StoreError: The server can't be reached, or refuses.
        """
        for attempt in range(3):
            try:
                return self.fetcher.run(self.fetcher.repeat(lambda: self._s3.put_if(name, data, version)))
            except ConflictError:
                there = self.get(name)
                if there is not None and there[0] == bytes(data[:]):
                    return there[1]
                if (None if there is None else there[1]) != version or attempt == 2:
                    raise  # else two puts met, and S3 refused both
            except Exception as error:  # botocore's and aiohttp's errors have no common base
                raise StoreError(f"{self.url}/{name} can't be written ({reason(error)}).") from error
        raise AssertionError("the last attempt returns or raises")

    def remove(self, name: str, version: str) -> bool:
        """Remove an object if it still has a version; False if it has another one."""
        try:
            self.fetcher.run(self.fetcher.repeat(lambda: self._s3.remove_if(name, version)))
        except ConflictError:
            return False
        except Exception as error:  # botocore's and aiohttp's errors have no common base
            raise StoreError(f"{self.url}/{name} can't be removed ({reason(error)}).") from error
        return True

    def age_s(self, name: str) -> float | None:
        """Seconds since an object was written, by the server's clock; None where there is none."""
        try:
            return self.fetcher.run(self.fetcher.repeat(lambda: self._s3.age_s(name)))
        except Exception as error:  # botocore's and aiohttp's errors have no common base
            raise StoreError(f"{self.url}/{name} can't be read ({reason(error)}).") from error


class Session:
    """One writer's session and its claims; ends with `close` or, after the lease, with its process.

    Threads may share one.

    Args:
        bucket: The store.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket, self.id = bucket, uuid.uuid4().hex
        self._name = f"{SESSIONS}/{self.id}.json"
        self._claims: dict[str, str] = {}
        self._stop = threading.Event()
        self._beat()
        self._thread = threading.Thread(target=self._beats, args=(LEASE_S / BEATS,), name="session", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give up every claim and end the session."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        try:
            for name in list(self._claims):
                self.release(name)
            self._bucket.fetcher.remove(self._name)
        except StoreError as error:  # the lease ends it in any case
            logger.info("%s", error)

    def take(self, name: str) -> bool:
        """Become the owner of a claim; False if a writer that is alive is. Taking it again is fine.

        Args:
            name: The claim's object.
        """
        mine = json.dumps({"owner": self.id}).encode()
        while True:
            held = self._bucket.get(name)
            if held is not None and held[0] == mine:
                self._claims[name] = held[1]
                return True
            if held is not None and self._is_alive(_owner(held[0])):
                return False
            try:
                self._claims[name] = self._bucket.put(name, mine, None if held is None else held[1])
            except ConflictError:
                continue  # another writer was quicker
            return True

    def wait(self, name: str) -> None:
        """Become the owner of a claim as soon as nobody else is."""
        while not self.take(name):
            time.sleep(POLL_S)

    def holds(self, name: str) -> bool:
        """Whether a claim that was taken is still this writer's, and nobody thought that it was dead."""
        held = self._bucket.get(name)
        return held is not None and _owner(held[0]) == self.id

    def release(self, name: str) -> None:
        """Give a claim up."""
        version = self._claims.pop(name, None)
        if version is not None:
            self._bucket.remove(name, version)

    def settle(self, claims: Iterable[str]) -> None:
        """Wait until each other owner of these claims has written its session again, or is dead."""
        held = (self._bucket.get(name) for name in claims)
        owners = {_owner(item[0]) for item in held if item is not None} - {self.id, ""}
        first = {owner: self._bucket.age_s(f"{SESSIONS}/{owner}.json") for owner in owners}
        waiting = {owner: age for owner, age in first.items() if age is not None and age <= LEASE_S}
        if waiting:
            logger.info("%s: waiting up to %.0f s to see which other writers are at work.", self._bucket.url, LEASE_S)
        while waiting:
            time.sleep(2 * POLL_S)
            for owner, before in list(waiting.items()):
                age = self._bucket.age_s(f"{SESSIONS}/{owner}.json")
                if age is None or age < before or age > LEASE_S:
                    del waiting[owner]

    def sweep(self) -> None:
        """Remove sessions that died long ago."""
        for name in self._bucket.fetcher.list(SESSIONS):
            age = self._bucket.age_s(name)
            if age is not None and age > FORGOTTEN * LEASE_S:
                self._bucket.fetcher.remove(name)

    def _is_alive(self, owner: str) -> bool:
        age = self._bucket.age_s(f"{SESSIONS}/{owner}.json") if owner else None
        return age is not None and age <= LEASE_S

    def _beat(self) -> None:
        self._bucket.fetcher.write(self._name, json.dumps({"lease_s": LEASE_S}).encode())

    def _beats(self, every_s: float) -> None:
        while not self._stop.wait(every_s):
            try:
                self._beat()
            except StoreError as error:  # the next beat may succeed in time
                logger.warning("%s", error)


def _owner(data: bytes) -> str:
    """The session that a claim names; empty for one that is damaged, which anybody may take."""
    try:
        return str(json.loads(data)["owner"])
    except (ValueError, KeyError, TypeError):
        return ""
