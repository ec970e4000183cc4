"""`avem cache push`: a local store to a URL."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

from avem.cache.disk import layout
from avem.cache.disk.layout import LEDGER, METADATA
from avem.cache.remote.fetch import Fetcher
from avem.cache.remote.objects import Content, Listed
from avem.cache.remote.transfer import (
    PUSHED,
    Copied,
    Record,
    TransferReport,
    belongs,
    in_order,
    is_manifest,
    is_same,
    local_files,
    remember_shared,
    shared_digests,
    stage_of,
)
from avem.errors import StoreError
from avem.reading import read_regular


def push(store: str | Path, url: str) -> TransferReport:
    """Copy a local store to a URL: what differs, so that a copy that was interrupted continues.

    A writer may be at work on the store: what it commits meanwhile is copied the next time.

    Args:
        store: The local store.
        url: Where to, such as `s3://bucket/cache`: nothing is there, or a store or a part of one that was pushed from
            this one or is what this one was pulled from.

    Raises:
        StoreError: There is something else behind the URL, a store there was changed by others, or the server refuses.

    Example:
        >>> push("./cache", "s3://bucket/cache").copied            # doctest: +SKIP
        128
    """
    root = Path(store).expanduser()
    layout.store_attributes(layout.read_metadata(root), str(root))
    # Read before the features are listed: every row that these name is then among the features.
    small = {name: content for name in _small_names(root) if (content := _read(root / name)) is not None}
    found = {name: state for name, state in local_files(root).items() if stage_of(name) < 2 or name in small}
    fetcher = Fetcher(url)
    listing = fetcher.list("", deep=True)
    there = {name: item for name, item in listing.items() if belongs(name)}
    data = fetcher.read(PUSHED) if PUSHED in listing else None
    record = Record(lambda text: _save(fetcher, text), data, f"{fetcher.url}/{PUSHED}", fetcher.url)
    _refuse_foreign(fetcher, listing)
    _refuse_changed(fetcher, there, root, small)
    remember_shared(root, fetcher.url, (small[name] for name in small if is_manifest(name) or name == METADATA))
    same = {}
    for name, state in found.items():
        if both := is_same(record.files.get(name), state, there.get(name), root / name):
            same[name] = both
    gone = [name for name in record.files if name.startswith(f"{LEDGER}/") and name in there and name not in found]
    record.files = {name: item for name, item in record.files.items() if name in found} | same
    record.save()  # from the first file on, this says that there is a store in the making

    def copy(name: str) -> None:
        record.add(name, _send(fetcher, root, name, small.get(name)))

    sizes = {name: state.st_size for name, state in found.items()}
    changed = found.keys() - same.keys()
    try:
        in_order(changed, sizes, copy, "push")
        for name in gone:  # records that the manifest, which is there now, has taken over
            fetcher.remove(name)
    finally:
        record.save()
    return TransferReport(len(changed), sum(sizes[name] for name in changed), len(same), len(gone))


def _small_names(root: Path) -> list[str]:
    """The ledger, the manifest and the root, in an order in which each says nothing that those before it don't know."""
    return sorted((name for name in local_files(root) if stage_of(name) >= 2), key=stage_of)


def _read(path: Path) -> bytes | None:
    try:
        return read_regular(path)
    except FileNotFoundError:  # a record that was folded since it was listed
        return None
    except OSError as error:
        raise StoreError(f"{path} can't be read ({error.strerror}).") from error


def _send(fetcher: Fetcher, root: Path, name: str, content: bytes | None) -> Copied:
    """Send one file, and say what was sent; a file that is replaced meanwhile is sent as it was before."""
    with (root / name).open("rb") as file:
        state = os.fstat(file.fileno())
        mapped: Content = content if content is not None else _mapped(file.fileno(), state.st_size)
        version = fetcher.write(name, mapped)
        digest = hashlib.sha256(mapped).hexdigest()
        return Copied(len(mapped), state.st_mtime_ns, digest, version or "")


def _mapped(handle: int, size: int) -> Content:
    return mmap.mmap(handle, size, access=mmap.ACCESS_READ) if size else b""


def _save(fetcher: Fetcher, text: bytes) -> None:
    fetcher.write(PUSHED, text)


def _refuse_foreign(fetcher: Fetcher, listing: dict[str, Listed]) -> None:
    """Refuse a URL with something that is neither a store nor a part of one that was being pushed."""
    if not listing or PUSHED in listing:
        return
    data = fetcher.read(METADATA) if METADATA in listing else None
    if data is None:
        raise StoreError(f"{fetcher.url} holds something that is not a feature store made by avem; give another URL.")
    layout.store_attributes(layout.parse_metadata(data, fetcher.url), fetcher.url)


def _refuse_changed(fetcher: Fetcher, there: dict[str, Listed], root: Path, small: dict[str, bytes]) -> None:
    """Refuse to overwrite a manifest or a root that this store never had in common with what is there."""
    shared = shared_digests(root, fetcher.url)
    for name in [name for name in there if (is_manifest(name) and not name.endswith(".ids")) or name == METADATA]:
        content = fetcher.read(name) if name in there else None
        if content is None or content == small.get(name) or hashlib.sha256(content).hexdigest() in shared:
            continue
        raise StoreError(
            f"{fetcher.url} holds a store that was not copied from this one, or was changed by others since; push to "
            "another URL, or pull that store."
        )
