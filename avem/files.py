"""Files that are whole or not there: atomic writes, hashes, and JSON Lines with line-numbered errors."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from avem.errors import DataError, SettingError
from avem.guards.disk import writing
from avem.guards.output_kinds import PAGE, FileKind, FolderKind, mark
from avem.guards.outputs import Reads, file_target, folder_path, folder_target
from avem.guards.secrets import mask_distinct, mask_json
from avem.reading import advise, as_utf8, open_regular, parse_json, read_bytes, read_json

Record = TypeVar("Record")

LONGEST_STEM = 50
"""Letters of a long name that a temporary file beside it keeps: a name has at most 255 bytes."""


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that readers, and a crash, see the old content or the new, never a part.

    Args:
        path: Where to write; its folder is made if missing.
        data: The whole content; text is written as UTF-8, without the secrets of this run, and what UTF-8
            can't hold as its code.

    Raises:
        WriteError: The disk is full or read-only, permission is denied, and so on; the old content is untouched.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name[:LONGEST_STEM]}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(mask_distinct(data).encode(errors="backslashreplace") if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)


def claim_directory(directory: Path, name: str, settings: Mapping[str, Any], what: str) -> None:
    """Make a folder the home of something made by these settings, or refuse one that is not.

    Args:
        directory: The folder; made if missing.
        name: The file in it that keeps the settings, as JSON.
        settings: What decides the folder's content.
        what: What the folder is, as a noun: `corpus`.

    Raises:
        DataError: The settings that it keeps can't be read.
        SettingError: The folder holds something else, or the same made by other settings, or it is a file.
        WriteError: It can't be written.
    """
    where = folder_path(directory)
    path, settings = directory / name, mask_json(settings)
    if path.is_file():
        try:
            known = read_json(path, surrogates=True)
        except DataError as error:
            raise DataError(advise(error, "give a new folder with --out")) from error
        if known != settings:
            raise SettingError(f"{directory} holds a {what} of other settings; give another folder with --out.")
    elif directory.exists() and not directory.is_dir():
        raise SettingError(f"{directory} is a file; give a folder with --out.")
    elif directory.exists() and any(not item.name.startswith(".") for item in where.iterdir()):
        raise SettingError(f"{directory} holds something that is not a {what}; give a new folder with --out.")
    else:
        write_atomic(path, json.dumps(settings))


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable, as `fsync` does for a file's content; Windows can't open directories."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_directory(
    directory: Path, fill: Callable[[Path], None], kind: FolderKind | None = None, *, reads: Reads = ()
) -> None:
    """Build a directory beside its final path and rename it there when complete, replacing an older one that avem made.

    Files get the permissions that the process' umask gives, even where a library wrote them.

    Args:
        directory: The final path; where it is a symbolic link, what that leads to is replaced.
        fill: Writes the content into the empty directory it is given.
        kind: What the directory is. It is then marked as such, and an older one is of this kind too. None: it is not
            marked, and an older one is anything that avem made.
        reads: What the content is made from, see `avem.guards.outputs.folder_target`.

    Raises:
        SettingError: The path holds something that avem did not make, or that is read.
        WriteError: It can't be written; an older one is untouched.
    """
    final = folder_target(directory, kind, reads=reads)
    with writing(directory):
        final.parent.mkdir(parents=True, exist_ok=True)
        name = f".{final.name[:LONGEST_STEM]}.{uuid.uuid4().hex[:8]}"
        fresh, old = final.with_name(f"{name}.tmp"), final.with_name(f"{name}.old")
        fresh.mkdir()
        try:
            fill(fresh)
            if kind is not None:
                mark(fresh, kind)
            _apply_umask(fresh)
            folder_target(directory, kind, reads=reads)  # filling may take an hour, in which others work
            if final.exists():
                final.rename(old)
            fresh.rename(final)
        except BaseException:
            if old.exists() and not final.exists():
                old.rename(final)
            raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
        sync_directory(final.parent)


def _apply_umask(fresh: Path) -> None:
    """Give every file below a new directory the mode that the umask gives, which the directory itself shows."""
    mode = stat.S_IMODE(fresh.stat().st_mode)
    for parent, folders, names in os.walk(fresh):
        for name in folders:
            (Path(parent) / name).chmod(mode)
        for name in names:
            path = Path(parent) / name
            if not path.is_symlink():
                path.chmod(mode & 0o666)


def file_sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal.

    Raises:
        OSError: It can't be read, or it is a pipe, a device or a folder.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form: sorted keys, no spaces."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_json_lines(path: Path, objects: Iterable[dict[str, Any]]) -> None:
    """Write objects one a line, atomically."""
    write_atomic(path, json_lines(objects))


def json_lines(objects: Iterable[dict[str, Any]]) -> str:
    """Text of objects one a line."""
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in objects)


def file_stamps(path: Path) -> list[tuple[str, int, int]]:
    """What tells that files are the same as before, without reading them.

    Args:
        path: A file, or a folder of which every file counts; anything else, such as a name on a hub, has none.

    Returns:
        Each file's name (relative to the folder), size in bytes and time of change in ns, in the order of the paths.
    """
    if path.is_file():
        files, root = [path], path.parent
    else:
        files, root = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [], path
    stats = [(file.relative_to(root).as_posix(), file.stat()) for file in files]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def write_new(path: Path, data: bytes | str, *, reads: Reads = (), option: str = "OUT") -> None:
    """Write a file of a form that holds no mark of avem's: only where none is, or where one has this very content.

    Args:
        path: The file.
        data: The whole content.
        reads: What it is made from, see `avem.guards.outputs.file_target`.
        option: What the command line calls the file.

    Raises:
        SettingError: There is a file with another content, or the file is read.
        WriteError: It can't be written.
    """
    content = data.encode() if isinstance(data, str) else data
    kind = FileKind("a file with this content", lambda found: found.read_bytes() == content)
    write_atomic(file_target(path, kind, reads=reads, option=option), content)


def read_json_lines(path: Path, parse: Callable[[dict[str, Any]], Record]) -> list[Record]:
    """Read objects one a line, or a JSON list of objects, and parse each; blank lines are skipped.

    Args:
        path: The file.
        parse: Makes a record of one object; a `KeyError`, `TypeError` or `ValueError` it raises becomes a `DataError`.

    Raises:
        MissingFileError: There is no such file.
        DataError: A line or an entry is not an object or `parse` refuses it; the message names it.
    """
    return [_parsed(where, item, parse) for _, where, item in json_objects(path)]


def json_objects(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """The objects of a JSON Lines file or of a JSON list: number of the line or entry, what to call it, the object.

    Raises:
        MissingFileError: There is no such file.
        DataError: A line or an entry is not an object.
    """
    data = as_utf8(read_bytes(path), str(path))
    if is_json_list(data):
        for number, item in enumerate(parse_json(data, str(path), list), start=1):
            where = f"{path} entry {number}"
            if not isinstance(item, dict):
                raise DataError(f"{where} should hold an object.")
            yield number, where, item
        return
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            where = f"{path} line {number}"
            yield number, where, parse_json(line, where, dict)


def is_json_list(data: bytes) -> bool:
    """Whether a file's content is a JSON list; JSON Lines of objects begin with a brace."""
    return data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def _parsed(where: str, item: dict[str, Any], parse: Callable[[dict[str, Any]], Record]) -> Record:
    try:
        return parse(item)
    except KeyError as error:
        raise DataError(f"{where} has no field {error}.") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where}: {error}.") from error


def save_page(path: Path, text: str) -> None:
    """Write an HTML page atomically; it replaces an older page of avem's and nothing else.

    Args:
        path: The file.
        text: The page, whose head names avem as its generator.

    Raises:
        SettingError: The file is there and is no page that avem made.
        WriteError: It can't be written.
    """
    write_atomic(file_target(path, PAGE), text)
