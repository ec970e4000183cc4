"""Where a model is: a folder or file, the Hugging Face cache, or the hub; and which of its files are needed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from avem.errors import CheckpointError, MissingFileError
from avem.weights import INDEX, name_patterns, shard_names

WEIGHTS = (
    *name_patterns(),
    r"[^/]+\.pt",
    r"[^/]+\.gguf",
    r"adapter_model\.safetensors",
    r"projectors\.safetensors",
)
"""The forms that weights come in, as patterns of file names; the first that a model has is the one that is read."""
BESIDE = r"[^/]+\.(json|model|txt|jinja|tiktoken)|(adapter_model|projectors)\.safetensors"
"""What is needed whatever the form of the weights: configurations, the tokenizer, what avem saves beside a model."""
HUB_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ModelLocation:
    """What is known of a model without loading it."""

    name: str
    source: str
    """`path`, `cache`, `hub`, or `nowhere`."""
    path: Path | None = None
    """Where it is on this machine."""
    files: tuple[str, ...] = ()
    """The files that are needed, as far as they are known."""
    size_bytes: int = 0
    """Of these files; 0 where that is not known."""
    problem: str = ""
    """Why it can't be used, or what is missing from the cache; empty where nothing is missing."""


def needed_files(names: Iterable[str]) -> list[str]:
    """Those of a model's files that avem reads: weights in one form, configurations, the tokenizer.

    Args:
        names: All files of a folder or of a hub repository, with forward slashes. Files in its sub-folders, and second
            copies of the weights for other libraries, are left out. Without weights of a known form, all are needed.
    """
    names = sorted(names)
    for form in WEIGHTS:
        weights = [name for name in names if re.fullmatch(form, name)]
        if weights:
            return [name for name in names if name in weights or _is_beside(name)]
    return names


def _is_beside(name: str) -> bool:
    """Whether it is needed beside the weights; the index of another form of them is not."""
    return bool(re.fullmatch(BESIDE, name)) and ".index." not in name


def look_up(name_or_path: str | Path, *, ask_hub: bool = True) -> ModelLocation:
    """Find out where a model is, what is needed of it, and how large that is.

    Args:
        name_or_path: A folder, a file, or a hub id such as `openai/whisper-large-v3`.
        ask_hub: Ask the hub for what is not on this machine.
    """
    name, path = str(name_or_path), Path(name_or_path).expanduser()
    if path.exists():
        return _on_disk(name, "path", path)
    if not _is_hub_id(name):
        return ModelLocation(name, "nowhere", problem="there is no such file or folder")
    cached = _cached(name)
    found = _on_disk(name, "cache", cached) if cached else None
    if found and not found.problem:
        return found
    if not ask_hub:
        return found or ModelLocation(name, "nowhere", problem="it is not in the Hugging Face cache")
    try:
        sizes = _hub_files(name)
    except MissingFileError as error:
        return found or ModelLocation(name, "nowhere", problem=str(error))
    files = needed_files(sizes)
    return ModelLocation(name, "hub", None, tuple(files), sum(sizes[file] for file in files))


def locate_model(name_or_path: str | Path, option: str) -> Path:
    """Find a model on this machine, fetching its needed files from the hub as a last resort.

    Args:
        name_or_path: A folder, a file, or a hub id such as `openai/whisper-large-v3`.
        option: The command-line option that would name another path, for the error message.

    Returns:
        The folder or file.

    Raises:
        MissingFileError: It is neither on disk nor complete in the Hugging Face cache and the hub does not give it; the
            message says what to download.
    """
    found = look_up(name_or_path, ask_hub=False)
    if found.source == "path" and found.path is not None:
        return found.path
    if not _is_hub_id(found.name):
        raise MissingFileError(f"There is no model at {found.name}; give a model's folder with {option}.")
    if found.path is not None and not found.problem:
        return found.path
    try:
        return Path(snapshot_download(found.name, allow_patterns=needed_files(_hub_files(found.name))))
    except (MissingFileError, OSError) as error:
        problem = found.problem if found.path else "it is not in the Hugging Face cache"
        raise MissingFileError(
            f"{found.name} can't be used: {problem}, and {error}; run `hf download {found.name}` on a connected "
            "machine (needed are its config.json and its weights, model*.safetensors or pytorch_model*.bin) and give "
            f"the folder with {option}."
        ) from error


def _hub_files(name: str) -> dict[str, int]:
    """The files of a hub repository and their sizes in bytes.

    Raises:
        MissingFileError: The hub does not answer; the message says why, in the middle of a sentence.
    """
    try:
        siblings = HfApi().model_info(name, files_metadata=True, timeout=HUB_TIMEOUT_S).siblings or []
    except Exception as error:
        raise MissingFileError(f"the hub does not give it ({type(error).__name__})") from error
    return {file.rfilename: file.size or 0 for file in siblings}


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _cached(name: str) -> Path | None:
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _on_disk(name: str, source: str, path: Path) -> ModelLocation:
    """A model's folder or file on this machine, and what is missing from it."""
    if path.is_file():
        return ModelLocation(name, source, path, (path.name,), path.stat().st_size)
    there = [item.relative_to(path).as_posix() for item in path.rglob("*") if item.is_file()]
    files = needed_files(there)
    missing = [file for index in files if index.endswith(INDEX) for file in _indexed(path / index) if file not in there]
    if not any(re.fullmatch("|".join(WEIGHTS), file) for file in files):
        missing.append("weights")
    problem = f"{path} has no {', '.join(missing[:3])}" if missing else ""
    return ModelLocation(name, source, path, tuple(files), sum((path / file).stat().st_size for file in files), problem)


def _indexed(index: Path) -> list[str]:
    """The shards that an index of weights names; none where it can't be read, which loading will say."""
    try:
        return shard_names(index)
    except (CheckpointError, MissingFileError):
        return []
