"""The feature store: features, pooled vectors, negatives and scores in one open format.

`docs/store.md` writes the format down; `docs/architecture.md` shows the store's place between the other rooms.
"""

from avem.cache.records import ClipRecord, DamagedRow, RowDetails, Shard, StreamSpec
from avem.cache.store import FeatureStore
from avem.cache.stream import StreamWriter
from avem.cache.writer import StoreWriter

__all__ = [
    "ClipRecord",
    "DamagedRow",
    "FeatureStore",
    "RowDetails",
    "Shard",
    "StoreWriter",
    "StreamSpec",
    "StreamWriter",
]
