"""`avem emorealm export`: a folder with which another harness runs EmoReAlM on the user's own files."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from avem.errors import DataError, MediaError, SettingError
from avem.evaluate.emorealm.questions import read_questions
from avem.evaluate.harness.clips import VARIANTS, clip_media
from avem.evaluate.harness.registry import find_harness
from avem.evaluate.predict.media_files import find_files
from avem.files import file_sha256, write_atomic
from avem.guards.output_kinds import HARNESS
from avem.guards.ownership import opened
from avem.progress import stage

FORMAT = "avem-harness-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Settings of `avem emorealm export`."""

    harness: str
    """One of `avem.evaluate.harness.registry.HARNESSES`."""
    out: Path
    questions: Path = Path("./emorealm_v1.json")
    media_root: Path | None = None
    """Folder of the clips; None: those that the store at `cache` names."""
    cache: Path = Path("./cache")
    variants: tuple[str, ...] = VARIANTS


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export holds."""

    questions: dict[str, int]
    """Variant to the number of questions that it has."""
    command: str
    """How the audiovisual variant is run."""
    absent: dict[str, str] = field(default_factory=dict)
    """Question id to the reason why its clip is missing."""
    soundless: tuple[str, ...] = ()
    """Clips without sound, which the audio variant leaves out."""


def export_benchmark(options: ExportOptions) -> Exported:
    """Write a folder with a harness's task files.

    The folder holds no question and no whole clip: `where.json` names the user's files. For the variants with one
    modality it holds the clips' sound and their picture without sound, which are made once.

    Raises:
        AvemError: Something is missing or wrong; the message says what and which option supplies it.
    """
    harness = find_harness(options.harness)
    unknown = [name for name in options.variants if name not in VARIANTS]
    if unknown or not options.variants:
        raise SettingError(f"--variants takes {', '.join(VARIANTS)}, not {', '.join(unknown) or 'none'}.")
    questions = read_questions(options.questions)
    files = find_files(options.media_root, options.cache)
    positions = files.resolve(questions)
    if not positions.positions:
        raise DataError(f"No clip of {options.questions} is in {files.source}; name the clips' folder with --media.")
    found = {q.video: Path(str(positions.positions[q.id])) for q in questions if q.id in positions.positions}
    with opened(options.out, HARNESS, reads=[options.questions], roots=[options.media_root], option="DIR"):
        folder = options.out.resolve()
        clips, failed = _clips(found, folder, options.variants)
        where = {
            "format": FORMAT,
            "questions": str(options.questions.resolve()),
            "sha256": file_sha256(options.questions),
            "clips": clips,
        }
        ids = {v: [q.id for q in questions if v in clips.get(q.video, {})] for v in options.variants}
        contents = {
            "where.json": json.dumps(where, indent=1) + "\n",
            harness.module: harness.code(),
            **harness.further(folder, ids),
        }
        for name, content in contents.items():
            write_atomic(folder / name, content)
    absent = positions.absent | {q.id: failed[q.video] for q in questions if q.video in failed}
    soundless = tuple(video for video, media in clips.items() if "audio" in options.variants and "audio" not in media)
    counts = {variant: len(names) for variant, names in ids.items()}
    return Exported(counts, harness.command.replace("{folder}", shlex.quote(str(folder))), absent, soundless)


def _clips(
    found: dict[str, Path], folder: Path, variants: tuple[str, ...]
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """The media of each clip by variant, and the clips that can't be read with the reason."""
    clips: dict[str, dict[str, str]] = {}
    failed: dict[str, str] = {}
    with stage("export", len(found), "clips") as bar:
        for video, path in found.items():
            try:
                clips[video] = clip_media(path, _inside(video), folder, variants)
            except MediaError as error:
                failed[video] = str(error)
            bar.advance(1)
    return clips, failed


def _inside(video: str) -> str:
    """A clip's name below the export's folder.

    Raises:
        DataError: The benchmark names a path outside of any folder.
    """
    parts = [part for part in Path(video.replace("\\", "/")).parts if part not in ("/", ".")]
    if ".." in parts or not parts:
        raise DataError(f"The benchmark names the clip {video!r}; a clip's path is relative and has no '..'.")
    return "/".join(parts)
