"""`avem cache pull`: a store behind a URL to a folder."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from avem.cache.disk import layout
from avem.cache.disk.layout import LEDGER, METADATA
from avem.cache.disk.locks import store_lock
from avem.cache.remote.fetch import Fetcher
from avem.cache.remote.objects import Listed
from avem.cache.remote.transfer import (
    PULLED,
    Copied,
    Record,
    TransferReport,
    belongs,
    in_order,
    is_manifest,
    is_same,
    local_files,
    remember_shared,
    stage_of,
)
from avem.errors import MissingFileError, StoreError
from avem.files import sync_directory, write_atomic
from avem.guards.disk import writing
from avem.guards.output_kinds import STORE
from avem.guards.outputs import folder_path, folder_target

PIECE_BYTES = 2**26
"""Bytes of a file that are fetched before they are written."""


def pull(url: str, store: str | Path) -> TransferReport:
    """Copy a store from a URL to a folder: what differs, so that a copy that was interrupted continues.

    Args:
        url: Where from.
        store: The folder: new, or a store or a part of one that came from this URL and was not changed since.

    Raises:
        MissingFileError: There is no store behind the URL.
        StoreError: The folder holds a store that did not come from there, or that was changed since.
        SettingError: The folder holds something else.
        WriteError: It can't be written.

    Example:
        >>> pull("s3://bucket/cache", "./cache").copied            # doctest: +SKIP
        128
    """
    root = Path(store).expanduser()
    is_begun = (root / PULLED).is_file()
    folder_path(root, "STORE") if is_begun else folder_target(root, STORE, option="STORE")
    fetcher = Fetcher(url)
    there = {name: item for name, item in fetcher.list("", deep=True).items() if belongs(name)}
    small = _small_files(fetcher, there)
    if METADATA not in small:
        raise MissingFileError(f"There is no feature store at {fetcher.url}; give the URL of one.")
    layout.store_attributes(layout.parse_metadata(small[METADATA], fetcher.url), fetcher.url)
    data = (root / PULLED).read_bytes() if is_begun else None
    record = Record(lambda text: write_atomic(root / PULLED, text), data, str(root / PULLED), fetcher.url)
    found = local_files(root)
    _refuse_changed(fetcher, root, found, record, small)
    remember_shared(root, fetcher.url, (small[name] for name in small if is_manifest(name) or name == METADATA))
    record.save()  # from the first file on, this says that there is a store in the making
    with store_lock(root / LEDGER, exclusive=True):
        return _pull(fetcher, root, there, small, record)


def _pull(
    fetcher: Fetcher, root: Path, there: dict[str, Listed], small: dict[str, bytes], record: Record
) -> TransferReport:
    """Copy what differs, with the folder held."""
    found = local_files(root)
    wanted = {name: item for name, item in there.items() if stage_of(name) < 2 or name in small}
    same = {}
    for name, item in wanted.items():
        if both := is_same(record.files.get(name), found.get(name), item, root / name):
            same[name] = both
    gone = [name for name in record.files if name.startswith(f"{LEDGER}/") and name in found and name not in wanted]
    record.files = {name: item for name, item in record.files.items() if name in wanted} | same

    def copy(name: str) -> None:
        record.add(name, _receive(fetcher, root / name, name, wanted[name], small.get(name)))

    sizes = {name: item.size for name, item in wanted.items()}
    changed = wanted.keys() - same.keys()
    try:
        in_order(changed, sizes, copy, "pull")
        for name in gone:  # records that the manifest, which is here now, has taken over
            (root / name).unlink(missing_ok=True)
    finally:
        record.save()
    return TransferReport(len(changed), sum(sizes[name] for name in changed), len(same), len(gone))


def _small_files(fetcher: Fetcher, there: dict[str, Listed]) -> dict[str, bytes]:
    """The ledger, the manifest and the root, in an order in which each says nothing that those before it don't know."""
    found: dict[str, bytes] = {}
    for number in (2, 3, 4):
        names = [name for name in there if stage_of(name) == number]
        contents = zip(names, fetcher.read_many(names), strict=True)
        found |= {name: content for name, content in contents if content is not None}
    return found


def _receive(fetcher: Fetcher, path: Path, name: str, item: Listed, content: bytes | None) -> Copied:
    """Write one file under a temporary name and rename it; says what was written."""
    if content is not None:
        write_atomic(path, content)
        state = path.stat()
        return Copied(len(content), state.st_mtime_ns, hashlib.sha256(content).hexdigest(), fetcher.version(name) or "")
    digest = hashlib.sha256()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                for start in range(0, item.size, PIECE_BYTES):
                    piece = fetcher.fetch([(name, start, min(start + PIECE_BYTES, item.size))], fresh=True)[0]
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            if temporary.stat().st_size != item.size or fetcher.version(name) not in (None, item.version):
                raise StoreError(f"{fetcher.url}/{name} was changed while it was copied; run the same command again.")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)
    return Copied(item.size, path.stat().st_mtime_ns, digest.hexdigest(), item.version or "")


def _refuse_changed(
    fetcher: Fetcher, root: Path, found: dict[str, os.stat_result], record: Record, small: dict[str, bytes]
) -> None:
    """Refuse to overwrite a ledger, a manifest or a root that was changed here, or that came from elsewhere."""
    for name in found:
        if stage_of(name) < 2:
            continue
        known, state = record.files.get(name), found[name]
        if known is not None and (known.size, known.modified_ns) == (state.st_size, state.st_mtime_ns):
            continue
        content = (root / name).read_bytes()
        if content != small.get(name) and (known is None or hashlib.sha256(content).hexdigest() != known.sha256):
            raise StoreError(
                f"{root} holds a store that did not come from {fetcher.url}, or was changed since ({name}); pull into "
                "another folder."
            )
