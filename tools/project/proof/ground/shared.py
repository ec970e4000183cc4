"""The ground's weights as one folder, so that several machines stand on the same ground.

Training amplifies rounding: two machines that teach the encoders and the first base from the same seeds end with models
that answer one question in ten differently. The corpus and its features come out alike everywhere, so they are made
again from the weights.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from avem.errors import DataError, MissingFileError, SettingError
from avem.files import file_sha256, replace_directory, write_atomic
from avem.guards.output_kinds import GROUND
from avem.reading import read_json
from avem.sealed.checksums import CHECKSUMS, check_folder, write_checksums

VIDEO, AUDIO, FIRST = "languagebind-video", "whisper", "base-0"
"""Folders of the two encoders and of the first base."""
PATHS = ("cache", "data", "model", "out")
"""Settings of the base's training that are paths."""
PLAN = "ground.json"
"""Written first: what everything is made of, so that a second proof with other settings is refused."""


@dataclass(frozen=True, slots=True)
class SharedGround:
    """Weights that were made once."""

    folder: Path

    @property
    def encoders(self) -> tuple[Path, Path]:
        """Folders of the video and the audio encoder."""
        return self.folder / VIDEO, self.folder / AUDIO

    @property
    def base(self) -> Path:
        """Folder of the first base."""
        return self.folder / FIRST

    @property
    def digest(self) -> str:
        """SHA-256 of the checksums of all files, in hexadecimal."""
        return file_sha256(self.folder / CHECKSUMS)


def share_ground(proof: Path, target: Path) -> Path:
    """Copy a proof's trained encoders and first base into one folder; about 13 MB.

    Args:
        proof: Folder of `avem proof run`.
        target: The folder to write; an older one of this kind is replaced.

    Raises:
        MissingFileError: The proof has not made them yet.
        SettingError: The proof stands on another ground, or the target holds something else.
    """
    sources = {name: proof / "encoders" / name for name in (VIDEO, AUDIO)} | {FIRST: proof / "bases" / "0" / "final"}
    for name, source in sources.items():
        if not source.is_dir():
            if (proof / PLAN).is_file() and "weights" in read_json(proof / PLAN, dict):
                raise SettingError(f"{proof} was made with --ground; copy the folder that was given there.")
            raise MissingFileError(f"{proof} has no {name} yet; make it with `avem proof run --out {proof}`.")

    def fill(folder: Path) -> None:
        for name, source in sources.items():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("README.md", CHECKSUMS))
        _forget_paths(folder / FIRST / "config.json")
        write_checksums(folder / FIRST)
        write_checksums(folder)

    replace_directory(target, fill, GROUND, reads=[proof])
    return target


def _forget_paths(config: Path) -> None:
    """Keep the names of what a model was trained on and not where that lay on one machine."""
    content = read_json(config, dict)
    training = content.get("provenance", {}).get("training", {})
    training.update({name: Path(training[name]).name for name in PATHS if name in training})
    write_atomic(config, json.dumps(content, indent=1) + "\n")


def read_shared(folder: Path) -> SharedGround:
    """The weights of a folder, compared with their checksums.

    Raises:
        MissingFileError: There is no such folder.
        DataError: A file is missing or is not what was written.
    """
    shared = SharedGround(folder)
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder {folder}; `avem proof ground` writes one.")
    if not all(path.is_dir() for path in (*shared.encoders, shared.base)) or not (folder / CHECKSUMS).is_file():
        raise DataError(f"{folder} is not the ground of a proof; `avem proof ground` writes one.")
    check_folder(folder)
    return shared
