"""What a command reads, looked for before anything heavy is loaded: a wrong path is said within a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from avem.errors import MissingFileError, SettingError
from avem.guards.disk import disk_fault
from avem.reading import irregular


def need_file(path: str | Path | None, option: str, what: str = "file") -> None:
    """Refuse a path where no file is; None passes.

    Raises:
        MissingFileError: There is nothing, or a folder, a FIFO or a device.
    """
    if path is None:
        return
    if not _there(Path(path).exists, path):
        raise MissingFileError(f"There is no {what} {path}; name a file with {option}.")
    if problem := irregular(Path(path).stat().st_mode):
        raise MissingFileError(f"{path} {problem}; name a file with {option}.")


def need_path(path: str | Path | None, option: str, what: str) -> None:
    """Refuse a path where neither a file nor a folder is; None passes.

    Raises:
        MissingFileError: There is nothing.
    """
    if path is not None and not _there(Path(path).exists, path):
        raise MissingFileError(f"There is no {what} at {path}; name it with {option}.")


def need_store(path: str | Path) -> None:
    """Refuse a path where no feature store can be; URLs are looked up when the store is opened.

    Raises:
        MissingFileError: There is nothing.
    """
    if ":/" not in str(path) and not _there(lambda: Path(path).expanduser().is_dir(), path):
        raise MissingFileError(f"There is no feature store at {path}; make one with `avem extract`.")


def need_model(name: str | Path, option: str = "--model") -> None:
    """Refuse the name of a model that is neither on this machine nor one that a hub can have.

    Raises:
        MissingFileError: There is nothing.
    """
    text = str(name)
    on_hub = text.count("/") == 1 and not text.startswith((".", "/", "~"))
    if not on_hub and not _there(lambda: Path(text).expanduser().exists(), name):
        raise MissingFileError(
            f"There is no model at {name}; train one with `avem train`, or give a model's folder with {option}."
        )


def is_result(model: str) -> bool:
    """Whether what stands for a model is the result of an earlier bench."""
    path = Path(model)
    return path.name == "result.json" or (path / "result.json").is_file()


def _there(look: Callable[[], bool], path: str | Path) -> bool:
    try:
        return look()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name; "~nobody", whose home is unknown
        reason = disk_fault(error) if isinstance(error, OSError) else None
        raise SettingError(f"{path} can't be used: {reason or getattr(error, 'strerror', None) or error}.") from error
