"""The clips that a store holds with the features that a model reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avem.cache import FeatureStore
from avem.cache.windows import clip_spans, whole_ids
from avem.extract.in_memory import EncodedRow
from avem.files import file_sha256
from avem.tools.ask.inputs import AskedClip
from avem.train.data.store_streams import StoreStream, find_streams
from avem.train.data.streams import PAIR
from avem.train.model.media import SIDES

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel


class HeldClips:
    """A store, as one model reads it.

    Args:
        store: The store.
        model: The model.
        name: What messages call the model.
        windows: Whether a long clip that is held both whole and in windows is read in windows.

    Raises:
        FingerprintError: The store has no features of the kind that the model was trained on.
    """

    def __init__(self, store: FeatureStore, model: FamilyModel, name: str, *, windows: bool) -> None:
        self.store, self._windows = store, windows
        self.handles: dict[str, StoreStream] = find_streams(
            store,
            getattr(model, "streams", PAIR),
            [side for side in SIDES if model.takes(side)],
            model.expected_digest,
            name,
        )

    def rows(self, clip: AskedClip) -> list[int]:
        """Rows of a clip with features: its own, or those of its windows in the order of time; none where it has none.

        Raises:
            UnknownClipError: The store does not hold a clip that is named by its id.
        """
        store = self.store
        spans = clip_spans(store.clips)
        there = np.zeros(len(store.clips), dtype=np.bool_)
        for handle in self.handles.values():
            there |= np.asarray(handle.available, dtype=np.bool_)
        found = [row for row in self._named(clip) if there[row]]
        windows = [row for row in found if spans[row] is not None]
        whole = [row for row in found if spans[row] is None]
        use = windows if windows and (self._windows or not whole) else whole
        return sorted(use, key=lambda row: spans[row] or (0.0, 0.0))

    def digest(self, clip: AskedClip) -> str:
        """SHA-256 of a clip's media file, as the store has it or as it is now.

        Raises:
            UnknownClipError: The store does not hold a clip that is named by its id.
        """
        if clip.path is not None:
            return file_sha256(clip.path)
        return str(self.store.clips["sha256"][self._named(clip)[0]].as_py())

    def source(self, clip: AskedClip) -> str:
        """Where a clip's features come from, and by what name where its file is another than the store's.

        Raises:
            UnknownClipError: The store does not hold a clip that is named by its id.
        """
        place = f"from {self.store.location.url}"
        row = self.rows(clip)[0]
        own = self.store.media_path(row)
        if clip.path is None or (own.exists() and own.samefile(clip.path)):
            return place
        return f"{place}, where the same content is {whole_ids(self.store.clips)[row]}"

    def read(self, row: int) -> dict[str, EncodedRow]:
        """A clip's features, by name of the stream."""
        found = {}
        for handle in self.handles.values():
            if handle.available[row]:
                companions = {name: handle.companion(name, [row])[0] for name in handle.spec.companions}
                found[handle.name] = EncodedRow(handle.rows([row])[0], companions)
        return found

    def file_of(self, clip: AskedClip) -> Path | None:
        """The media file of a clip, if it still exists."""
        rows = self.rows(clip)
        path = self.store.media_path(rows[0]) if rows else None
        return path if path is not None and path.is_file() else None

    def _named(self, clip: AskedClip) -> list[int]:
        """Rows of a clip by its id or its content, with or without features."""
        store, owners = self.store, whole_ids(self.store.clips)
        if clip.path is None:
            names = store.clips["clip_id"].to_pylist()
            found = [row for row, name in enumerate(names) if name == clip.name]
            found = found or [row for row, owner in enumerate(owners) if owner == clip.name]
            return found or store.rows([clip.name]).tolist()  # says what there is
        digest = file_sha256(clip.path)
        found = [row for row, sha256 in enumerate(store.clips["sha256"].to_pylist()) if sha256 == digest]
        return [row for row in found if owners[row] == owners[found[0]]]
