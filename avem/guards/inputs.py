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
        raise MissingFileError(f"There is no {what} {path}; {_name_one('file', option)}.")
    if problem := irregular(Path(path).stat().st_mode):
        raise MissingFileError(f"{path} {problem}; {_name_one('file', option)}.")


def need_folder(path: str | Path | None, option: str) -> None:
    """Refuse a path where no folder is; None passes.

    Raises:
        MissingFileError: There is nothing, or a file.
    """
    if path is not None and not _there(Path(path).is_dir, path):
        raise MissingFileError(f"There is no folder {path}; {_name_one('folder', option)}.")


def need_path(path: str | Path | None, option: str, what: str) -> None:
    """Refuse a path where neither a file nor a folder is; None passes.

    Raises:
        MissingFileError: There is nothing.
    """
    if path is not None and not _there(Path(path).exists, path):
        raise MissingFileError(f"There is no {what} at {path}; {_name_one(what, option)}.")


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
    if not _on_hub(str(name)) and not _there(lambda: Path(name).expanduser().exists(), name):
        raise MissingFileError(
            f"There is no model at {name}; train one with `avem train`, or give a model's folder with {option}."
        )


def need_encoder(name: str | Path, option: str) -> None:
    """Refuse an encoder that is neither on this machine nor one that a hub can have.

    Raises:
        MissingFileError: There is nothing.
    """
    if not _on_hub(str(name)) and not _there(lambda: Path(name).expanduser().exists(), name):
        raise MissingFileError(f"There is no model at {name}; give a model's folder with {option}.")


def _on_hub(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _name_one(what: str, option: str) -> str:
    """What to do about a path: an argument has no option that names it."""
    return f"name a {what} with {option}" if option.startswith("-") else f"give an existing one as {option}"


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
