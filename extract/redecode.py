"""Making features new whose clips were decoded by another decoder: `avem cache repair --redecode`.

Nothing is given up before it is known that everything can be made again: every source file is there and unchanged, and
the encoders are those that made the store. What has begun is written down in the ledger, so the next `avem cache
repair` finishes what was killed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avem.cache import FeatureStore, StoreWriter
from avem.cache.decoders import OLD, decoder_of, without_decoder
from avem.cache.disk.layout import LEDGER
from avem.cache.disk.locks import unswept
from avem.cache.records import KINDS, OK, PENDING, Kind
from avem.cache.windows import clip_spans
from avem.errors import DataError, FingerprintError, MissingFileError, SettingError, StoreError
from avem.extract.again import belongs_to_model
from avem.extract.encoders.sources import find_sources
from avem.extract.engine.base import open_engine
from avem.extract.known_clips import folder_of, known_clips
from avem.extract.options import ExtractOptions
from avem.extract.pipeline import extract
from avem.files import write_atomic
from avem.reading import read_json
from avem.text.differences import fingerprint_differences

BEGUN = "redecode.json"
"""Ledger file that names the streams whose clips are being decoded again, and by which decoder."""


@dataclass(slots=True)
class RedecodeReport:
    """What decoding again did."""

    redecoded: dict[Kind, int] = field(default_factory=dict)
    """Clips with new features, by stream; empty where every stream was up to date."""
    left: dict[str, str] = field(default_factory=dict)
    """Clips that have no features now, and why: the decoder refuses them, or they were gone when a run resumed."""


def is_begun(store_path: Path) -> bool:
    """Whether an earlier run was stopped before it had made every clip new."""
    return (store_path / LEDGER / BEGUN).is_file()


def redecode(store_path: str | Path, options: ExtractOptions, root: str | Path | None = None) -> RedecodeReport:
    """Decode and encode again every clip that was read by another decoder than the options name.

    Args:
        store_path: The store's folder.
        options: The decoder, and the encoders, which have to be those that made the store.
        root: Where the source files are now; None: where they were at the extraction.

    Returns:
        How many clips are new, and those that have no features now.

    Raises:
        MissingFileError: A clip's source file is gone or changed; nothing was changed in the store.
        FingerprintError: The encoders are not those that made the store; nothing was changed.
        SettingError: The store holds windows, which the decoder can't make; nothing was changed.
        AvemError: The store can't be read or written.
    """
    path = Path(store_path).expanduser()
    store = FeatureStore.open(path)
    begun = path / LEDGER / BEGUN
    kinds: list[Kind]
    if begun.is_file():
        kinds, decoder = _begun(begun)
        options = replace(options, decoder=decoder)
    else:
        kinds = [
            kind
            for kind in store.kinds
            if decoder_of(store.fingerprint(kind)) not in (None, options.decoder)
            and not belongs_to_model(store.spec(kind))
        ]
    options = replace(options, streams=tuple(kinds) or options.streams, limit=None)
    report = RedecodeReport()
    if not kinds:
        return report
    if not begun.is_file():
        if options.decoder == OLD and any(clip_spans(store.clips)):
            raise SettingError(f"{path} holds windows of long clips, and decord decodes whole clips only.")
        _check_sources(store, kinds, root)
        _check_encoders(store, options)
        with unswept(path):
            write_atomic(begun, json.dumps({"streams": kinds, "decoder": options.decoder}))
    writer = StoreWriter.open(path)
    for kind in kinds:
        if decoder_of(store.fingerprint(kind)) != options.decoder:
            writer.change_decoder(kind, options.decoder)
    _extract_pending(FeatureStore.open(path), kinds, root, options, report)
    writer.finish()  # where a killed run had committed every shard, nothing above folded its records
    waiting = [clip for clip in FeatureStore.open(path).clips.to_pylist() if _has(clip, kinds, PENDING)]
    report.left |= {clip["clip_id"]: f"its source {clip['path']} is gone or changed; give --root" for clip in waiting}
    if not waiting:
        begun.unlink()
    return report


def _begun(path: Path) -> tuple[list[Kind], str]:
    """The streams and the decoder of an earlier command that did not end."""
    try:
        plan = read_json(path, dict)
        kinds = [kind for kind in KINDS if kind in plan["streams"]]
        if not kinds or not isinstance(plan["decoder"], str):
            raise DataError(f"{path} names no stream or no decoder.")
    except (KeyError, TypeError, DataError) as error:
        raise StoreError(
            f"{path} is damaged, which names the streams that an earlier command began to decode again; delete it and "
            "run the command again."
        ) from error
    return kinds, plan["decoder"]


def _check_sources(store: FeatureStore, kinds: list[Kind], root: str | Path | None) -> None:
    """Refuse to give up features that could not be made again."""
    clips = [clip for clip in store.clips.to_pylist() if _has(clip, kinds, OK)]
    gone = [clip["path"] for clip in clips if folder_of(store, clip, root) is None]
    if gone:
        raise MissingFileError(
            f"{len(gone)} clips can't be decoded again, because their source files are gone or changed (the first is "
            f"{gone[0]}); give --root, or extract into a new store. Nothing was changed."
        )


def _check_encoders(store: FeatureStore, options: ExtractOptions) -> None:
    """Refuse encoders that would make other features than the store's."""
    sources = find_sources(options)  # found for real: what a dry run finds can't be loaded
    with open_engine(replace(options, dry_run=True, engine="local"), 1, sources) as engine:
        for kind, spec in engine.specs.items():
            there = store.spec(kind)
            same = without_decoder(there.fingerprint) == without_decoder(spec.fingerprint)
            if not same or there.encoder != spec.encoder:
                raise FingerprintError(
                    f"The {kind} features in {store.location.url} were made in another way: "
                    f"{fingerprint_differences(there.fingerprint, spec.fingerprint)}; give --{kind}-encoder. Nothing "
                    "was changed."
                )


def _extract_pending(
    store: FeatureStore, kinds: list[Kind], root: str | Path | None, options: ExtractOptions, report: RedecodeReport
) -> None:
    """Extract what is pending in the streams, folder by folder; streams that are kept alike are decoded together."""
    pending = {clip["clip_id"] for clip in store.clips.to_pylist() if _has(clip, kinds, PENDING)}
    folders = known_clips(store, pending, root)
    by_dtype: dict[str, list[Kind]] = defaultdict(list)
    for kind in kinds:
        by_dtype[store.spec(kind).dtype].append(kind)
    for dtype, alike in by_dtype.items():
        for folder, clips in folders.items():
            again = replace(options, streams=tuple(alike), dtype=dtype)
            done = extract(folder, store.location.local or "", again, clips)
            for kind in alike:
                report.redecoded[kind] = report.redecoded.get(kind, 0) + done.encoded.get(kind, 0)
            report.left |= {failure.clip_id: failure.reason for failure in done.failures}


def _has(clip: dict[str, Any], kinds: list[Kind], status: str) -> bool:
    return any(clip[f"{kind}_status"] == status for kind in kinds)
