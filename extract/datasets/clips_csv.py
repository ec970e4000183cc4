"""Any tree with a `clips.csv`: a column path.

Optional columns are emotion, clip_id, split, source, dataset, audio_path and subtitle.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from avem.errors import DataError
from avem.extract.datasets.base import DatasetReader, emotion_of, without_suffix
from avem.extract.datasets.tables import named_cells
from avem.records import Clip
from avem.text.csv_tables import Row, named, raw_rows, read_table_text
from avem.text.escaping import terminal_text

logger = logging.getLogger(__name__)

TABLE = "clips.csv"
COLUMNS = ("path", "emotion", "clip_id", "split", "source", "dataset", "audio_path")
OTHER_HEADINGS = {
    "path": "file filename file_name datei dateiname pfad videodatei fichier nom_du_fichier chemin vidéo "
    "archivo nombre_de_archivo ruta 文件 文件名 路径 video vídeo 视频 clip",
    "emotion": "label feeling stimmung gefühl gefuehl emotionen émotion sentiment étiquette emoción sentimiento "
    "etiqueta 情绪 情感 标签",
    "source": "speaker actor person sprecher sprecherin schauspieler locuteur acteur hablante actor_id 说话人 演员",
    "subtitle": "subtitles transcript untertitel sous-titre subtítulo 字幕",
}
"""Other headings that people give to these columns, in English, German, French, Spanish and Chinese.

Of several that mean one column, the first in this order counts."""
ALIASES = {heading.replace("-", "_"): column for column, names in OTHER_HEADINGS.items() for heading in names.split()}
SHOWN = 3
"""Lines that a message names."""


def recognises(root: Path) -> bool:
    """Whether the root has a `clips.csv`."""
    return (root / TABLE).is_file()


def read(root: Path) -> list[Clip]:
    """The clips that the table lists; files need not exist, extraction says which do not."""
    return read_clips_table(root / TABLE)


def read_clips_table(table: Path, *, say: bool = True) -> list[Clip]:
    """The clips of a table; their paths are relative to its folder.

    Args:
        table: CSV with any usual delimiter, encoding and case of the headings. Further columns are skipped. A clip that
            is listed twice in the same way counts once.
        say: Whether to log which columns are read under another name, and whether labels are missing.

    Raises:
        DataError: It has no column path, a row is broken, a path leads out of the folder, or two rows say different
            things of one clip.
    """
    written, rows = raw_rows(read_table_text(table), str(table), COLUMNS, ALIASES)
    header = named(written, COLUMNS, ALIASES)
    if say:
        _say_read_as(table, written, header)
    if "path" not in header:
        raise DataError(
            f"{table} has no column path; its columns are {', '.join(header) or 'none'}. Call the column of the files "
            "path, file or filename, and the column of the labels emotion or label."
        )
    by_name = [(line, dict(named_cells(header, _cells(table, header, cells, line)))) for line, cells in rows]
    return _once(table, [(line, _clip(table, row, line)) for line, row in by_name])


def _say_read_as(table: Path, given: Sequence[str], header: Sequence[str]) -> None:
    """Say which columns are read under another name than their own, and that none holds labels."""
    pairs = zip(map(str.strip, given), header, strict=True)  # a known name in other letters is no other name
    renamed = [f"{terminal_text(own)} as {name}" for own, name in pairs if own.lower() != name.lower()]
    if renamed:
        logger.info("%s: reads %s.", table, ", ".join(renamed))
    if header and "path" in header and "emotion" not in header:
        others = ", ".join(map(terminal_text, header))
        logger.warning("%s has no column emotion or label; its columns are %s. Its clips get no label.", table, others)


def _once(table: Path, listed: list[tuple[int, Clip]]) -> list[Clip]:
    """Each clip once, with a warning that counts the lines left out.

    Raises:
        DataError: Two lines differ in what they say of one clip.
    """
    found: dict[tuple[str, str], tuple[int, Clip]] = {}
    again = []
    for line, clip in listed:
        first, same = found.setdefault((clip.clip_id, clip.path), (line, clip))
        if same != clip:
            raise DataError(
                f"{table} lines {first} and {line} say different things of {terminal_text(clip.path)}; keep one."
            )
        if first != line:
            again.append((line, first))
    if again:
        shown = ", ".join(f"line {line} as line {first}" for line, first in again[:SHOWN])
        more = f" and {len(again) - SHOWN} more" if len(again) > SHOWN else ""
        logger.warning("%s lists clips twice, which count once: %s%s.", table, shown, more)
    return [clip for _, clip in found.values()]


def _cells(table: Path, header: list[str], cells: list[str], line: int) -> list[str]:
    if any(map(str.strip, cells[len(header) :])):
        raise DataError(
            f"{table} line {line} has {len(cells)} cells and its header has {len(header)}; quote a cell that contains "
            "the delimiter."
        )
    return [cell.strip() for cell in cells]


def _clip(table: Path, row: Row, line: int) -> Clip:
    path, audio_path = (row.get(name, "").replace("\\", "/") for name in ("path", "audio_path"))
    for value in (path, audio_path):
        if PurePosixPath(value).is_absolute() or ".." in PurePosixPath(value).parts:
            raise DataError(f"{table} line {line}: {value} is outside the folder; give paths relative to it.")
    if not path:
        raise DataError(f"{table} line {line} has no path.")
    dataset = row.get("dataset") or table.parent.resolve().name or "clips"
    label = row.get("emotion", "")
    return Clip(
        clip_id=row.get("clip_id") or f"{dataset}/{without_suffix(path)}",
        dataset=dataset,
        path=path,
        emotion=emotion_of(label),
        emotions_raw=label,
        split=row.get("split", ""),
        source=row.get("source", ""),
        audio_path=audio_path,
        subtitle=row.get("subtitle", ""),
    )


READER = DatasetReader("clips-csv", "clips.csv with a column path", recognises, read)
