"""The formats of preference data, one file each, and the two commands' work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avem.errors import DataError, SettingError
from avem.files import json_lines, write_atomic, write_new
from avem.records import PreferenceRow
from avem.tools.prefs.exchange import emoprefer, llama_factory, ms_swift, omni_preference, trl, verl_omni
from avem.tools.prefs.exchange.base import ClipFiles, Format
from avem.tools.prefs.formats import LLAMA_FACTORY, read_rows

if TYPE_CHECKING:
    from avem.cache import FeatureStore

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (trl, llama_factory, ms_swift, verl_omni, omni_preference, emoprefer)
}
"""Formats by name."""
WRITTEN = tuple(name for name, form in FORMATS.items() if form.write is not None)
"""Formats that rows can be written in."""


def export_rows(source: Path, out: Path, form: str, files: ClipFiles) -> list[Path]:
    """Write rows in another program's format.

    Args:
        source: Rows, ours or the reference's.
        out: The file.
        form: One of `WRITTEN`.
        files: Where the media of the clips are.

    Returns:
        The files written.

    Raises:
        SettingError: There is no such format, or the file is there with another content.
        DataError: The rows can't be read.
    """
    if form not in WRITTEN:
        raise SettingError(f"--to {form} is not known; known are {', '.join(WRITTEN)}.")
    write = FORMATS[form].write
    assert write is not None
    made = write(read_rows(source), out, files)
    for path, content in made.items():
        if path.name == LLAMA_FACTORY:
            write_atomic(path, content)
        else:
            write_new(path, content, reads=[source])
    return list(made)


def import_rows(source: Path, out: Path, form: str) -> int:
    """Read another program's format, and write our rows; returns how many.

    Raises:
        SettingError: There is no such format, or the file is there with another content.
        DataError: The file is something else.
    """
    if form not in FORMATS:
        raise SettingError(f"--from {form} is not known; known are {', '.join(FORMATS)}.")
    rows = FORMATS[form].read(source)
    write_new(out, json_lines(row.to_json() for row in rows), reads=[source])
    return len(rows)


def rejected_clips(rows: Sequence[PreferenceRow], store: FeatureStore, recipe: str) -> dict[str, str]:
    """The clip whose media are a row's rejected input: the first of the store's mined negatives.

    Args:
        rows: Preference rows.
        store: Holds their clips, and negatives of the recipe in the modalities of the rows.
        recipe: Such as `hard`; see `avem cache negatives`.

    Raises:
        DataError: None of the rows has a negative.
        StoreError: The negatives are not mined.
    """
    ids = store.clips["clip_id"].to_pylist()
    index = {name: number for number, name in enumerate(ids)}
    mined = {modality: store.negatives(recipe, str(modality)) for modality in {row.modality for row in rows}}
    found = {}
    for row in rows:
        number = index.get(row.clip_id)
        other = -1 if number is None else int(mined[row.modality][number, 0])
        if other >= 0:
            found[row.row_id] = ids[other]
    if not found:
        raise DataError(f"None of the rows has a clip with {recipe} negatives in {store.location.url}.")
    return found
