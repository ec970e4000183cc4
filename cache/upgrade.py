"""Bringing a store of an older format to the newest, in place."""

from __future__ import annotations

from pathlib import Path

from avem.cache.disk import layout
from avem.cache.disk.locks import store_lock
from avem.cache.disk.sweep import sweep
from avem.errors import StoreError
from avem.guards.disk import disk_reason


def upgrade(path: str | Path) -> int:
    """Bring a store to the newest format; features and the manifest stay as they are.

    All that changes is the root's metadata, in one step. A killed upgrade leaves a store of the old format or of the
    new one, and the next upgrade does the rest.

    Args:
        path: The store's folder.

    Returns:
        The format that the store was in.

    Raises:
        StoreError: It is not a feature store, is of a newer format, or can't be written.

    Example:
        >>> import tempfile
        >>> from avem.cache import StoreWriter
        >>> from avem.cache.upgrade import upgrade
        >>> upgrade(StoreWriter.open(tempfile.mkdtemp()).path)
        2
    """
    store = Path(path).expanduser()
    try:
        with store_lock(store / layout.LEDGER, exclusive=True):
            sweep(store)
            metadata = layout.read_metadata(store)
            attributes = layout.store_attributes(metadata, str(store))
            before = int(attributes["format_version"])
            entries = layout.stream_entries(attributes)
            streams = {entry.name: {"column": entry.column} for entry in entries.values()}
            new = {**attributes, "format_version": layout.FORMAT_VERSION, "streams": streams}
            metadata["attributes"]["avem"] = new
            layout.write_root(store, metadata)
    except OSError as error:
        raise StoreError(f"The store {store} can't be written: {disk_reason(error)}.") from error
    return before
