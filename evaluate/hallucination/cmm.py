"""CMM, "The Curse of Multi-Modalities" (Leng et al., 2024): one question on what is there, one on what is not.

Its file is JSON, one object a line or in a list: `category, sub_category, modality, video_path, audio_path, question,
answer`. Perception accuracy is the accuracy on Yes, hallucination resistance that on No.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from avem.errors import DataError
from avem.evaluate.hallucination.base import YesNoSet, checked, entries_of, field, yes_no
from avem.records import Question

MEDIA_FOLDER = "raw_files"
"""End of the name of the folder that paths start with; a store may be made from the folder itself."""


def read(path: Path) -> list[Question]:
    """The questions, in the file's order; a question's task is its subcategory.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is no file of CMM; the message names the entry.
    """
    questions = []
    for number, (where, entry) in enumerate(entries_of(path, "CMM's file")):
        media = entry.get("video_path") or entry.get("audio_path")
        if not isinstance(media, str):
            raise DataError(f"{where} has neither video_path nor audio_path.")
        task, text, answer = (field(entry, name, where) for name in ("sub_category", "question", "answer"))
        kept = {name: entry[name] for name in ("category", "modality", "granularity") if name in entry}
        questions.append(yes_no(f"cmm-{number}", _inside(media), task, text, answer, where, **kept))
    return checked(questions, path)


def _inside(media: str) -> str:
    parts = PurePosixPath(media.replace("\\", "/").lstrip("/")).parts
    return "/".join(parts[1:] if parts and parts[0].endswith(MEDIA_FOLDER) else parts)


SET = YesNoSet("cmm", "CMM", "its JSON file (sub_category, video_path, audio_path, question, answer)", read)
