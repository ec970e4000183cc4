"""The clips of a store, one line each: for `avem cache list`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from avem.cache.manifest.columns import statuses
from avem.cache.records import FAILED, OK, PENDING
from avem.cache.store import FeatureStore
from avem.emotions import parse_emotion
from avem.errors import SettingError

STATES = (OK, FAILED, PENDING)
UNLABELLED = "none"
"""What `--label` calls clips without one of the seven labels."""


@dataclass(frozen=True, slots=True)
class ClipLine:
    """A clip of a store."""

    clip_id: str
    label: str
    """One of the seven emotions, or empty."""
    raw_label: str
    """The label as the dataset spells it."""
    split: str
    dataset: str
    source: str
    path: str
    statuses: dict[str, str]
    """`ok`, `pending` or `failed: reason`, of each stream that the store has."""

    @property
    def status(self) -> str:
        """All streams in a few words: `ok`, or what is not, such as `audio failed`."""
        states = {kind: status.partition(":")[0] for kind, status in self.statuses.items()}
        return ", ".join(f"{kind} {state}" for kind, state in states.items() if state != OK) or OK

    def row(self) -> dict[str, str]:
        """The line as columns of a table."""
        columns = ("clip_id", "label", "raw_label", "split", "dataset", "source", "path")
        cells = {name: str(getattr(self, name)) for name in columns}
        return {**cells, **{f"{kind}_status": status for kind, status in self.statuses.items()}}


@dataclass(frozen=True, slots=True)
class ListFilter:
    """Which clips are listed: those that fit everything given.

    Raises:
        SettingError: There is no such status.
    """

    label: str | None = None
    """An emotion or a synonym of one, a label as the dataset spells it, or `none`."""
    split: str | None = None
    status: str | None = None
    """One of `STATES`, in any stream; `ok` in all of them."""
    dataset: str | None = None
    text: str | None = None
    """Part of the id, the path or the dataset's label, in upper or lower case."""

    def __post_init__(self) -> None:
        """Check the status."""
        if self.status is not None and self.status not in STATES:
            raise SettingError(f"--status takes {', '.join(STATES)}, not {self.status!r}.")

    def takes(self, line: ClipLine) -> bool:
        """Whether a clip is listed."""
        return (
            self._takes_label(line)
            and self.split in (None, line.split)
            and self.dataset in (None, line.dataset)
            and self._takes_status(line)
            and self._takes_text(line)
        )

    def _takes_label(self, line: ClipLine) -> bool:
        if self.label is None:
            return True
        if self.label.lower() == UNLABELLED:
            return not line.label
        return line.label == (parse_emotion(self.label) or "-") or line.raw_label.lower() == self.label.lower()

    def _takes_status(self, line: ClipLine) -> bool:
        states = [status.partition(":")[0] for status in line.statuses.values()]
        if self.status == OK:
            return all(state == OK for state in states)
        return self.status is None or self.status in states

    def _takes_text(self, line: ClipLine) -> bool:
        wanted = (self.text or "").lower()
        return any(wanted in cell.lower() for cell in (line.clip_id, line.path, line.raw_label))


def list_clips(store: FeatureStore, wanted: ListFilter | None = None) -> Iterator[ClipLine]:
    """The clips of a store in the order of its rows.

    Args:
        store: The store.
        wanted: Which clips; None is all.

    Raises:
        StoreError: The store is damaged.
    """
    names = ["clip_id", "emotion", "emotions_raw", "split", "dataset", "source", "path"]
    columns = [store.stream(name).column for name in store.streams]
    read = [name for name in (f"{column}_status" for column in columns) if name in store.manifest.names]
    for _, table in store.manifest.groups([*names, *read]):
        found = [statuses(table, column) for column in columns]
        for cells in zip(*(table[name].to_pylist() for name in names), *found, strict=True):
            clip_id, label, raw_label, split, dataset, source, path, *rest = [str(cell or "") for cell in cells]
            states = dict(zip(columns, rest, strict=True))
            line = ClipLine(clip_id, label, raw_label, split, dataset, source, path, states)
            if wanted is None or wanted.takes(line):
                yield line
