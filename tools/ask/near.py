"""Names that are near to one that is not there; without torch, so that a wrong name is said at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from avem.errors import UnknownClipError
from avem.urls import is_url

MOST = 3
"""Names that are suggested."""
COMPARED = 20_000
"""Names that are compared letter by letter; more are only searched for the name as a part of theirs."""
ALIKE = 0.6
"""From 0 to 1, how alike two names have to be, as `difflib` counts."""


def need_clips(names: Iterable[str], store: Path) -> None:
    """Refuse an id that a store on this machine does not hold; a store that can't be read is opened later, and says so.

    Args:
        names: Clips' ids; a clip that is held in windows may be named by its own.
        store: A folder, or a URL, which is not looked at.

    Raises:
        UnknownClipError: It does not hold one of them; the message suggests others.
    """
    wanted = list(names)
    if not wanted or is_url(str(store)):
        return
    ids = store_ids(store.expanduser())
    if ids is None:
        return
    known = set(ids)
    for name in wanted:
        if name not in known and not any(each.startswith(f"{name}@") for each in ids):
            count = f"the {len(ids)} clips" if len(ids) != 1 else "the one clip"
            raise UnknownClipError(f"The clip {name!r} is not among {count} of {store}{meant(name, ids)}")


def meant(name: str, known: Sequence[str]) -> str:
    """The end of a sentence: what may have been meant, or how names look like here.

    Example:
        >>> meant("anna/tke1", ["anna/take1", "ben/3"])
        '; did you mean anna/take1?'
        >>> meant("x", ["anna/take1", "ben/3"])
        '; they are named like anna/take1.'
    """
    if found := near_names(name, known):
        listed = " or ".join(filter(None, [", ".join(found[:-1]), found[-1]]))
        return f"; did you mean {listed}?"
    return f"; they are named like {known[0]}." if known else "; it is empty."


def near_names(name: str, known: Sequence[str]) -> list[str]:
    """Names that hold this one or its last part, then those that are spelt alike; three at most.

    Example:
        >>> near_names("00003.mp4", ["demo/00002", "demo/00003"])
        ['demo/00003', 'demo/00002']
    """
    last = _stem(name)
    found = [each for each in known if last and last in each][:MOST]
    if len(known) <= COMPARED:
        stems: dict[str, list[str]] = {}
        for each in known:
            stems.setdefault(_stem(each), []).append(each)
        found += get_close_matches(name, known, MOST, ALIKE)
        found += [each for stem in get_close_matches(last, stems, MOST, ALIKE) for each in stems[stem]]
    return list(dict.fromkeys(found))[:MOST]


def near_files(path: str) -> list[str]:
    """Files and folders beside one that is not there and that have a similar name."""
    place = Path(path).expanduser().parent
    try:
        beside = sorted(each.name for each in place.iterdir() if not each.name.startswith("."))
    except (OSError, ValueError):  # no such folder, or a NUL in its name
        return []
    name = Path(path).name
    return [str(Path(path).parent / each) for each in get_close_matches(name, beside[:COMPARED], MOST, ALIKE)]


def store_ids(store: Path) -> list[str] | None:
    """The clips' ids of a store on this machine; None where its manifest can't be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parts = [pq.read_table(part, columns=["clip_id"]) for part in sorted(store.glob("clips*.parquet"))]
    except (OSError, ValueError, pa.ArrowException):
        return None
    return [name for part in parts for name in part["clip_id"].to_pylist()] if parts else None


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem
