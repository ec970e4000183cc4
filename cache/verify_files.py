"""Finding damage beside rows: metadata, the manifest's file, the ledger, mined negatives and scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from avem.cache.disk import layout
from avem.cache.disk.ledger import HISTORY, OLD_HISTORY, iterate_records, record_names
from avem.cache.disk.location import Location
from avem.cache.manifest.file import FileState
from avem.cache.manifest.parts import (
    Part,
    copy_name,
    open_part,
    part_columns,
    part_name,
    part_numbers,
    part_problem,
    root_attributes,
    rows_per_part,
)
from avem.cache.negatives.file import FOLDER, negative_blocks, negatives_metadata
from avem.cache.records import KINDS, DamagedFile
from avem.cache.scores import FINGERPRINT, SCORES, damaged_scores
from avem.errors import DataError, StoreError
from avem.reading import parse_json
from avem.sealed.checksums import unseal

if TYPE_CHECKING:
    from avem.cache.store import FeatureStore

REPAIR = "`avem cache repair` writes it again"
TAKE_OUT = "`avem cache repair` takes them out; they are made again when they are needed"

LOGS = (HISTORY, OLD_HISTORY, "extract-runs.jsonl")
"""Files of the ledger with a sealed record a line, which nothing needs."""

CHANGED = "does not match its checksum"


def damaged_files(store: FeatureStore, *, quick: bool = False) -> list[DamagedFile]:
    """Read every file of a store that holds no features, and check it.

    Args:
        store: The store.
        quick: Only the root, metadata, ledger records, and the checksums of the manifest's files; not its copies,
            logs, negatives and scores.

    Returns:
        The damaged files, each with what to do about it.
    """
    location = store.location
    checks: tuple[Callable[[Location], Iterator[DamagedFile]], ...] = (_metadata_problems, _record_problems)
    if not quick:
        checks += (_log_problems, _negatives_problems, _scores_problems)
    return [*manifest_problems(location, quick=quick), *(problem for check in checks for problem in check(location))]


def manifest_problems(location: Location, *, quick: bool = False) -> Iterator[DamagedFile]:
    """What is wrong with the manifest's files, and with their copies; `avem.cache.verify` looks at its rows."""
    attributes = _attributes(location)
    for number in every_part(location, attributes):
        yield from _part_problems(location, number, rows_per_part(attributes), quick=quick)


def every_part(location: Location, attributes: Mapping[str, Any]) -> list[int]:
    """Numbers of the parts that are there or should be, because a later one or a copy is."""
    found = [*part_numbers(location), *part_numbers(location, layout.LEDGER)]
    if rows_per_part(attributes) is None:
        found = [number for number in found if number == 0]
    first = parse_first(location)
    if first is not None and len(first) > (rows_per_part(attributes) or len(first)):
        return [0]  # an older avem's, which a writer that was killed was dividing
    return list(range(max(found, default=-1) + 1))


def parse_first(location: Location) -> Part | None:
    """The first part, where it can be read."""
    try:
        return open_part(location, part_name(0))
    except StoreError:
        return None


def _attributes(location: Location) -> dict[str, Any]:
    try:
        return root_attributes(location)
    except StoreError:  # named by `_metadata_problems`
        return {}


def _part_problems(location: Location, number: int, size: int | None, *, quick: bool) -> Iterator[DamagedFile]:
    name = part_name(number)
    copy = location.exists(copy_name(number)) if quick else bool(sound_copy(location, number))
    remedy = (
        "`avem cache repair` restores it from the copy in the store's ledger"
        if copy
        else "restore it from a copy of your own, or extract into a new store with `avem extract`"
    )
    try:
        part = open_part(location, name)
        if part is None:
            if copy or number:
                yield DamagedFile(name, "is gone", remedy)
        else:
            if not quick:
                for _ in part.groups(part_columns(part)):
                    pass
            if part.state is FileState.CHANGED:
                yield DamagedFile(name, CHANGED, REPAIR)
            elif problem := misplaced(location, part, number, size):
                yield DamagedFile(name, problem, remedy)
    except StoreError as error:
        yield DamagedFile(name, f"can't be read ({str(error).partition('; ')[0]})", remedy)
    if not copy and location.exists(copy_name(number)):
        yield DamagedFile(copy_name(number), "is damaged", REPAIR)


def misplaced(location: Location, part: Part, number: int, size: int | None) -> str:
    """What is wrong with a part among its neighbours, as the end of a sentence; empty where nothing is."""
    last = not location.exists(part_name(number + 1))
    overlong = number == 0 and size is not None and len(part) > size
    return "" if overlong else part_problem(part, number, size, last=last)


def sound_copy(location: Location, number: int) -> Part | None:
    """A part's copy, where it is what was written."""
    try:
        part = open_part(location, copy_name(number))
    except StoreError:
        return None
    return part if part is not None and part.state is FileState.SOUND else None


def metadata_nodes(location: Location) -> Iterator[str]:
    """Groups and arrays of a store, paths in it; the root is the empty path."""
    yield ""
    for kind in (*_slots(location), FOLDER):
        if location.exists(kind):
            yield kind
        for group in _visible(location, kind):
            yield f"{kind}/{group}"
            yield from (f"{kind}/{group}/{name}" for name in _visible(location, f"{kind}/{group}"))


def _slots(location: Location) -> list[str]:
    """The slots of a store's streams; of a store whose root can't be read, `video` and `audio`."""
    try:
        root = layout.parse_metadata(location.read(layout.METADATA) or b"", location.url)
        names = layout.stream_entries(layout.store_attributes(root, location.url))
    except StoreError:
        return list(KINDS)
    return list(dict.fromkeys(name.partition("/")[0] for name in names))


def _visible(location: Location, folder: str) -> list[str]:
    names = location.names(folder)
    return [name for name in names if not name.startswith(".") and name != layout.METADATA]


def _metadata_problems(location: Location) -> Iterator[DamagedFile]:
    for node in metadata_nodes(location):
        if not node.startswith(f"{FOLDER}/") or node.count("/") < 2:
            problem = metadata_problem(location, node)
            if problem:
                yield DamagedFile(f"{node}/{layout.METADATA}".lstrip("/"), problem, REPAIR)
    copy = location.read(layout.ROOT_COPY)
    if copy is not None and (bytes_problem := _bytes_problem(copy)):
        yield DamagedFile(layout.ROOT_COPY, bytes_problem, REPAIR)


def metadata_problem(location: Location, node: str) -> str:
    """What is wrong with a group's or an array's `zarr.json`, or an empty string."""
    try:
        data = location.read(f"{node}/{layout.METADATA}".lstrip("/"))
    except StoreError as error:
        return f"can't be read ({error})"
    if data is None:
        return "is gone"
    return _bytes_problem(data)


def _bytes_problem(data: bytes) -> str:
    try:
        metadata = layout.parse_metadata(data, "")
    except StoreError:
        return CHANGED
    if metadata.get("node_type") not in ("group", "array") or not isinstance(metadata.get("attributes"), dict):
        return "is not Zarr metadata that avem wrote"
    if layout.is_as_written(metadata) or layout.is_rewritten(metadata, data):
        return ""
    return CHANGED


def _record_problems(location: Location) -> Iterator[DamagedFile]:
    records: dict[str, str] = {}
    for _ in iterate_records(location, record_names(location), records):
        pass
    for name in records:
        yield DamagedFile(name, "is damaged", "`avem cache repair` removes it and extracts its shard again")


def _log_problems(location: Location) -> Iterator[DamagedFile]:
    for name in LOGS:
        data = location.read(f"{layout.LEDGER}/{name}")
        lost = damaged_records_of(data or b"")
        if lost:
            yield DamagedFile(f"{layout.LEDGER}/{name}", f"has {lost} damaged lines", TAKE_OUT)
    begun = location.read(f"{layout.LEDGER}/repair.json")
    if begun is not None and not is_sound_line(begun):
        yield DamagedFile(
            f"{layout.LEDGER}/repair.json", "is damaged", "delete it; `avem extract` extracts what the repair began"
        )


def damaged_records_of(data: bytes) -> int:
    """How many lines of sealed records are not what was written; a last one without an end was torn by a kill."""
    *lines, last = data.split(b"\n")
    return sum(not is_sound_line(line) for line in lines) + is_sound_line(last[:-1])


def is_sound_line(line: bytes) -> bool:
    """Whether JSON text is a record as it was sealed, or one from before there were checksums."""
    try:
        unseal(parse_json(line, "", dict, surrogates=True), "")
    except DataError:
        return False
    return True


def _negatives_problems(location: Location) -> Iterator[DamagedFile]:
    for recipe in _visible(location, FOLDER):
        for modality in _visible(location, f"{FOLDER}/{recipe}"):
            again = f"mine them again with `avem cache negatives --recipe {recipe}`"
            try:
                for _ in negative_blocks(location, recipe, modality):
                    pass
                sound = layout.is_as_written(negatives_metadata(location, recipe, modality))
            except StoreError:
                sound = False
            if not sound:
                yield DamagedFile(f"{FOLDER}/{recipe}/{modality}", "is damaged", again)


def _scores_problems(location: Location) -> Iterator[DamagedFile]:
    for digest in location.names(SCORES):
        folder = f"{SCORES}/{digest}"
        files = {name: location.read(f"{folder}/{name}") for name in _visible(location, folder)}
        for name, problem in damaged_scores(digest, {name: data for name, data in files.items() if data is not None}):
            remedy = "the next run that uses these scores writes it again" if name == FINGERPRINT else TAKE_OUT
            yield DamagedFile(f"{folder}/{name}", problem, remedy)
