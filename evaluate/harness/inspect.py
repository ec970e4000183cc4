"""Inspect: a task file, and its logs (`.eval` or JSON) read back."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

from avem.errors import DataError
from avem.evaluate.harness.base import Harness
from avem.reading import open_regular, parse_json, read_bytes

LARGEST_SAMPLE = 1 << 26
"""Bytes that one sample of a log may unpack to."""
HEAD_BYTES = 4096
ZSTANDARD = 93
"""Number of the packing method in a ZIP file."""
LOCAL_HEADER = 30
"""Bytes before the name of a packed file."""


def recognises(path: Path) -> bool:
    """Whether a file is a log by its suffix, or a JSON file that begins as one."""
    if path.suffix not in (".eval", ".json") or not path.is_file():
        return False
    if path.suffix == ".eval":
        return True
    with open_regular(path) as file:
        head = file.read(HEAD_BYTES)
    return re.match(rb'\s*\{\s*"version":\s*\d+,\s*"status":', head) is not None


def read(path: Path) -> list[tuple[str, str]]:
    """Sample ids and completions of a log; samples that ended in an error are left out.

    Raises:
        DataError: The log is damaged, not finished, or packed in a way that Python can't read.
    """
    pairs = []
    for sample in _samples(path):
        try:
            completion = _completion(sample)
            if completion is not None:
                pairs.append((str(sample["id"]), completion))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} has a sample without id or output ({error}); it is not a log of Inspect."
            ) from error
    return pairs


def _samples(path: Path) -> Iterator[Mapping[str, Any]]:
    data = read_bytes(path)
    if path.suffix == ".json":
        samples = parse_json(data, str(path), dict).get("samples")
        if not isinstance(samples, list):
            raise DataError(f"{path} has no samples; log them, or give the .eval file.")
        yield from samples
        return
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            for item in archive.infolist():
                if not (item.filename.startswith("samples/") and item.filename.endswith(".json")):
                    continue
                if item.file_size > LARGEST_SAMPLE:
                    raise DataError(f"{path}: {item.filename} unpacks to {item.file_size:,} bytes; that is no sample.")
                content = _unpacked(data, item) if item.compress_type == ZSTANDARD else archive.read(item)
                yield parse_json(content, f"{path} {item.filename}", dict)
    except NotImplementedError as error:
        raise DataError(
            f"{path} is packed with a method that Python can't read; `inspect log convert --to json` unpacks it."
        ) from error
    except (BadZipFile, OSError, EOFError, RuntimeError, struct.error) as error:
        raise DataError(f"{path} is not a whole .eval file ({error}); run Inspect again.") from error


def _unpacked(data: bytes, item: ZipInfo) -> bytes:
    """A file of an archive that is packed with Zstandard, which zipfile reads from Python 3.14 on.

    Raises:
        BadZipFile: Its checksum is wrong.
        RuntimeError: It is damaged.
    """
    from numcodecs.zstd import decompress  # zarr's own dependency

    name, extra = struct.unpack_from("<HH", data, item.header_offset + 26)
    start = item.header_offset + LOCAL_HEADER + name + extra
    content = bytes(decompress(data[start : start + item.compress_size]))
    if zlib.crc32(content) != item.CRC:
        raise BadZipFile(f"{item.filename} has another checksum")
    return content


def _completion(sample: Mapping[str, Any]) -> str | None:
    """What the model wrote: the text of its first choice."""
    choices = sample["output"].get("choices") or []
    if sample.get("error") or not choices:
        return None
    content = choices[0]["message"]["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")


HARNESS = Harness(
    "inspect",
    "emorealm.py",
    "cd {folder} && inspect eval emorealm.py -T variant=audiovisual --model ...",
    "log (....eval)",
    recognises,
    read,
)
