"""Kinds of folders and files that avem writes, and how each is told from what somebody else made.

A folder has a marker, `.avem.json`, which names its kind and, where such folders are replaced whole, its files. Folders
from before markers are known by their own records.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.errors import DataError
from avem.reading import open_regular, read_json

MARKER = ".avem.json"
"""File in a folder that says what avem made it as."""
LOCK = ".lock"
"""File that the owner of a folder holds; see `avem.guards.ownership`."""
HEAD_BYTES = 1 << 16
"""How much of a file is read to tell what it is."""
TOKENIZER = (
    r"(tokenizer|tokenizer_config|special_tokens_map|added_tokens|generation_config|config|vocab|preprocessor_config)"
    r"\.json|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|merges\.txt|vocab\.txt"
    r"|tokenizer\.model|spiece\.model|sentencepiece\.bpe\.model|chat_template\.jinja|additional_chat_templates/\w+\.jinja"
)
"""Files that transformers writes of a language model and its tokenizer."""


@dataclass(frozen=True, slots=True)
class FolderKind:
    """A kind of folder that avem writes."""

    name: str
    """As the marker has it."""
    noun: str
    """For messages, with its article."""
    is_made: Callable[[Path], bool] = lambda _: False
    """Whether a folder without marker is of this kind, by its own records."""
    files: str = ""
    """Pattern of the files in such a folder that is replaced whole, relative and with forward slashes."""
    replaced: bool = False
    """Whether a new one replaces the old one, which is deleted."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file that avem writes, and overwrites only where it wrote it."""

    noun: str
    is_made: Callable[[Path], bool]


def _json(path: Path) -> dict[str, Any]:
    """A JSON object of a file; empty where there is none."""
    try:
        found: dict[str, Any] = read_json(path, dict, surrogates=True)
    except (OSError, DataError):
        return {}
    return found


def _has_config(*model_types: str) -> Callable[[Path], bool]:
    def is_made(folder: Path) -> bool:
        settings = _json(folder / "config.json")
        return settings.get("model_type") in model_types and "avem_version" in settings

    return is_made


def _is_run(folder: Path) -> bool:
    return {"identity", "data"} <= _json(folder / "config.json").keys()


def _is_node(node_type: str) -> Callable[[Path], bool]:
    """A Zarr group or array that has avem's attributes."""

    def is_made(folder: Path) -> bool:
        metadata = _json(folder / "zarr.json")
        attributes = metadata.get("attributes")
        return metadata.get("node_type") == node_type and isinstance(attributes, dict) and "avem" in attributes

    return is_made


def _is_bench(folder: Path) -> bool:
    """By the logs and results that a bench leaves in its folder or in those of its models."""
    if is_page(folder / "report.html"):
        return True
    logs = ("answers.jsonl", "result.json", "grades.jsonl", "emer.json", "measures.json")
    depths = ("", "*/", "*/*/")
    return any(_starts_as_ours(path) for depth in depths for name in logs for path in folder.glob(depth + name))


def _starts_as_ours(path: Path) -> bool:
    head = _head(path)
    return b'"key": "' in head or b'"format": "avem-' in head or b'"judge": ' in head or b'"asked": ' in head


def _is_probe(folder: Path) -> bool:
    pages = (folder / "swap.html", folder / "attention.html")
    return any(map(is_page, pages)) or any(_starts_as_ours(path) for path in folder.glob("*/swap.jsonl"))


def _is_sweep(folder: Path) -> bool:
    runs = any(_is_run(run) for run in folder.glob("runs/*"))
    return runs or any({"grid", "results"} <= _json(path).keys() for path in folder.glob("*.json"))


def _is_prefs(folder: Path) -> bool:
    return {"root", "model", "tasks"} <= _json(folder / "settings.json").keys() or any(
        b'"type": "request"' in _head(path) for path in folder.glob("log.jsonl")
    )


def _is_survey(folder: Path) -> bool:
    return {"survey", "items", "booklets"} <= _json(folder / "key.json").keys()


def _is_export(folder: Path) -> bool:
    """By its files alone: nothing but HDF5 files of avem's names."""
    names = {item.name for item in folder.iterdir()}
    return bool(names) and names <= {"video.h5", "audio.h5"} and all(_head(folder / n)[1:4] == b"HDF" for n in names)


MODEL = FolderKind(
    "model",
    "a model",
    _has_config("avem"),
    rf"config\.json|projectors\.safetensors|README\.md|language_model/({TOKENIZER})",
    replaced=True,
)
ADAPTER = FolderKind(
    "adapter",
    "the result of a run",
    _has_config("avem-adapter"),
    r"config\.json|projectors\.safetensors|README\.md|adapter_(model\.safetensors|config\.json)",
    replaced=True,
)
AVERE = FolderKind("avere", "an AVERE checkpoint", replaced=True)
OMNI = FolderKind("omni", "a Qwen-Omni checkpoint", replaced=True)
ENCODER = FolderKind("encoder", "an encoder with random weights", replaced=True)
SURVEY = FolderKind(
    "survey", "a survey", _is_survey, r"key\.json|index\.html|tasks\.json|labels\.xml|media/.*", replaced=True
)
NEGATIVES = FolderKind("negatives", "a set of negatives", _is_node("array"), ".*", replaced=True)
CHECKPOINT = FolderKind(
    "checkpoint",
    "a checkpoint",
    lambda folder: "step" in _json(folder / "state.json"),
    r"trained\.safetensors|optimizer\.pt|state\.json|judged\.json",
    replaced=True,
)
RUN = FolderKind("run", "a training run", _is_run)
STORE = FolderKind("store", "a feature store", _is_node("group"))
BENCH = FolderKind("bench", "a bench", _is_bench)
PROBE = FolderKind("probe", "a probe", _is_probe)
SWEEP = FolderKind("sweep", "a sweep", _is_sweep)
PREFS = FolderKind("prefs", "preference, benchmark or instruction data", _is_prefs)
EXPORT = FolderKind("export", "an exported store", _is_export)
DEMO = FolderKind("demo", "a demo", lambda folder: (folder / "demo.json").is_file())
CORPUS = FolderKind("corpus", "a corpus", lambda folder: (folder / "corpus.json").is_file())
READ_CACHE = FolderKind("read_cache", "a read cache")
RECIPE = FolderKind("recipe", "a recipe's folder", lambda folder: (folder / "recipe.json").is_file())
UTTERANCES = FolderKind("utterances", "clips of utterances")
ASK = FolderKind("ask", "kept answers of `avem ask`")
HARNESS = FolderKind("harness", "a benchmark for another harness")
PROOF = FolderKind("proof", "a proof", lambda folder: (folder / "ground.json").is_file())
GROUND = FolderKind("ground", "the ground of a proof", replaced=True)

FOLDERS = (
    MODEL,
    ADAPTER,
    AVERE,
    OMNI,
    ENCODER,
    SURVEY,
    CHECKPOINT,
    RUN,
    NEGATIVES,
    STORE,
    BENCH,
    PROBE,
    SWEEP,
    PREFS,
    EXPORT,
    DEMO,
    CORPUS,
    READ_CACHE,
    RECIPE,
    UTTERANCES,
    ASK,
    HARNESS,
    PROOF,
    GROUND,
)


def kind_of(folder: Path, expected: FolderKind | None = None) -> FolderKind | None:
    """The kind that avem made a folder as; None where somebody else made it.

    Args:
        folder: The folder.
        expected: Looked at first where there is no marker: what one kind holds may hold another.
    """
    if name := _json(folder / MARKER).get("kind"):
        return next((kind for kind in FOLDERS if kind.name == name), None)
    kinds = FOLDERS if expected is None else (expected, *FOLDERS)
    return next((kind for kind in kinds if kind.is_made(folder)), None)


def mark(folder: Path, kind: FolderKind) -> None:
    """Write a folder's marker, which names its files where the folder is one that is replaced whole."""
    if not kind.replaced and _json(folder / MARKER).get("kind") == kind.name:
        return
    content: dict[str, Any] = {"made_by": "avem", "kind": kind.name}
    if kind.replaced:
        content["files"] = sorted(_files(folder))
    fresh = folder / f"{MARKER}.{os.getpid()}.tmp"
    try:
        fresh.write_text(json.dumps(content, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")
        fresh.replace(folder / MARKER)
    finally:
        fresh.unlink(missing_ok=True)


def unmark_empty(folder: Path) -> None:
    """Remove the marker of a folder into which nothing was written; hidden files, such as `.DS_Store`, do not count."""
    if all(item.name.startswith(".") for item in folder.iterdir()):
        (folder / MARKER).unlink(missing_ok=True)


def leftovers(folder: Path, kind: FolderKind) -> list[str]:
    """Files in a folder that avem did not write into it."""
    known = _json(folder / MARKER).get("files")
    written = set(known) if isinstance(known, list) else None
    ours = {MARKER, LOCK, "checksums.json"}
    return [
        name
        for name in sorted(_files(folder))
        if name not in ours and not (re.fullmatch(kind.files, name) if written is None else name in written)
    ]


def _files(folder: Path) -> list[str]:
    """Everything below a folder that is not itself a folder, symbolic links not followed, and empty folders."""
    found = []
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found += [(Path(parent) / name).relative_to(folder).as_posix() for name in (*names, *links)]
    return found


def _head(path: Path) -> bytes:
    """The first bytes of a file; empty where there is none."""
    try:
        with open_regular(path) as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def is_page(path: Path) -> bool:
    """Whether a file is an HTML page that avem made: it says so, or it is one of two pages that once did not."""
    head = _head(path)[:4096]
    return b'<meta name="generator" content="avem' in head or b"<title>Negatives: " in head


def _is_figure(path: Path) -> bool:
    """Whether a file is an SVG whose metadata names avem as its creator."""
    head = _head(path)[:4096]
    return b"<svg" in head and b"<dc:title>avem" in head


PAGE = FileKind("a page", is_page)
FIGURE = FileKind("a figure", _is_figure)
