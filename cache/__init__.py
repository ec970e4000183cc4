"""The feature store: features, pooled vectors, negatives and scores in one open format.

`docs/store.md` writes the format down.

Example:
    >>> import tempfile
    >>> from avem.cache import ClipRecord, FeatureStore, StoreWriter
    >>> folder = tempfile.mkdtemp()
    >>> writer = StoreWriter.open(folder)
    >>> rows = writer.add_clips([ClipRecord("mine/1", "mine", "1.mp4", sha256="0" * 64, emotion="anger")], folder)
    >>> FeatureStore.open(folder).clips["emotion"].to_pylist()
    ['anger']
"""

from avem.cache.features import Stream
from avem.cache.info import StoreInfo, store_info
from avem.cache.negatives.mine import MiningReport, ensure_negatives, mine_negatives
from avem.cache.negatives.mutual import match_all, match_mutual
from avem.cache.records import ClipRecord, DamagedFile, DamagedRow, RowDetails, Shard
from avem.cache.remote import writing as _writing  # noqa: F401  by which StoreWriter opens URLs
from avem.cache.scores import ScoreCache
from avem.cache.spec import Companion, StreamSpec
from avem.cache.store import FeatureStore
from avem.cache.stream import StreamWriter
from avem.cache.writer import StoreWriter

__all__ = [
    "ClipRecord",
    "Companion",
    "DamagedFile",
    "DamagedRow",
    "FeatureStore",
    "MiningReport",
    "RowDetails",
    "ScoreCache",
    "Shard",
    "StoreInfo",
    "StoreWriter",
    "Stream",
    "StreamSpec",
    "StreamWriter",
    "ensure_negatives",
    "match_all",
    "match_mutual",
    "mine_negatives",
    "store_info",
]
