"""verl-omni: Parquet for its offline DPO of multimodal models (`OfflineMLLMDPODataset`)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avem.errors import DataError, MissingFileError
from avem.records import Modality, PreferenceRow
from avem.tools.prefs.exchange.base import (
    ClipFiles,
    Entry,
    Format,
    clip_of,
    modality_of,
    pair_row,
    pairs,
    remembered,
    rows_of,
    without_marks,
)

MODALITIES = {Modality.AUDIO: "audio", Modality.VISUAL: "video", Modality.AUDIOVISUAL: "video"}
"""Its `extra_info.modality`, by which it groups batches; it knows no audiovisual one."""


def write(rows: Sequence[PreferenceRow], path: Path, files: ClipFiles) -> dict[Path, bytes]:
    """One entry for each rejected answer; a question gets the media that it is about."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    entries = []
    for number, (row, kind, rejected) in enumerate(pairs(rows)):
        video, audio = files.files(row.clip_id)
        streams = row.modality.streams
        marks = "".join(f"<{stream}>" for stream in streams)
        modality = MODALITIES[row.modality]
        entries.append(
            {
                "data_source": f"avem/{modality}",
                "prompt": [{"role": "user", "content": f"{marks}{row.question}"}],
                "chosen": {"role": "assistant", "content": row.chosen},
                "rejected": {"role": "assistant", "content": rejected},
                "videos": [video] if "video" in streams else [],
                "audios": [audio] if "audio" in streams else [],
                "ability": f"{modality}_qa",
                "reward_model": {"style": "preference"},
                "extra_info": {"split": "train", "index": number, "modality": modality, "row_id": row.row_id},
                **remembered(row, kind),
            }
        )
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(entries, schema=_schema(pa)), sink)
    return {path: sink.getvalue()}


def _schema(pa: Any) -> Any:
    text, message = pa.string(), pa.struct({"role": pa.string(), "content": pa.string()})
    info = pa.struct({"split": text, "index": pa.int64(), "modality": text, "row_id": text})
    return pa.schema(
        {
            "data_source": text,
            "prompt": pa.list_(message),
            "chosen": message,
            "rejected": message,
            "videos": pa.list_(text),
            "audios": pa.list_(text),
            "ability": text,
            "reward_model": pa.struct({"style": text}),
            "extra_info": info,
            "rejected_kind": text,
            "avem": text,
        }
    )


def read(path: Path) -> list[PreferenceRow]:
    """Rows of a file that `write` made, or of any such Parquet file with video or sound.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is no Parquet file, or an entry is something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise MissingFileError(f"There is no file {path}.")
    try:
        entries = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a Parquet file ({error}).") from error
    return rows_of(entries, _plain, path)


def _plain(entry: Entry, number: int) -> PreferenceRow:
    videos, audios = entry.get("videos") or [], entry.get("audios") or []
    question = without_marks(entry["prompt"][-1]["content"])
    chosen, rejected = entry["chosen"]["content"], entry["rejected"]["content"]
    modality = modality_of(videos, audios)
    clip = clip_of([*videos, *audios][0])
    return pair_row(f"verl-omni-{number}", clip, modality, question, chosen, rejected, source="verl-omni")


FORMAT = Format(
    "verl-omni", read, write, "data.train_files=FILE with data.custom_cls.name=OfflineMLLMDPODataset reads it."
)
