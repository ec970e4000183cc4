"""Where a model is: a folder or file, the Hugging Face cache, or the hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from avem.errors import MissingFileError


def locate_model(name_or_path: str | Path, option: str) -> Path:
    """Find a model on this machine, fetching it from the hub as a last resort.

    Args:
        name_or_path: A folder, a file, or a hub id such as `openai/whisper-large-v3`.
        option: The command-line option that would name another place, for the error message.

    Returns:
        The folder or file.

    Raises:
        MissingFileError: It is neither on disk nor in the Hugging Face cache and the hub does not give it.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    name = str(name_or_path)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise MissingFileError(f"There is no model at {name}; give a folder that holds one with {option}.")
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    try:
        return Path(snapshot_download(name))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise MissingFileError(
            f"{name} is not in the Hugging Face cache and could not be fetched ({type(error).__name__}); "
            f"run `hf download {name}` on a connected machine, or give a local folder with {option}."
        ) from error
