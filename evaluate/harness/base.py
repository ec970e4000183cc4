"""What a harness is to avem: the files that it reads, and the log that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Harness:
    """A program that runs other people's benchmarks."""

    name: str
    """As `--to` has it, and the template with its code."""
    module: str
    """File name of the code in the export."""
    command: str
    """How the benchmark is run, with `{folder}` for the export; the variant is the audiovisual one."""
    log: str
    """What its log of answers is called, for messages."""
    recognises: Callable[[Path], bool]
    """Whether a file is such a log."""
    read: Callable[[Path], list[tuple[str, str]]]
    """Question ids and replies of such a log."""
    further: Callable[[Path, Mapping[str, list[str]]], dict[str, str]] = lambda _folder, _ids: {}
    """Further files of the export: name to content, from its folder and each variant's question ids."""

    def code(self) -> str:
        """The Python file of the export."""
        templates = files("avem.evaluate") / "templates" / "harness"
        parts = [(templates / name).read_text(encoding="utf-8") for name in ("common.txt", f"{self.name}.txt")]
        imports, rest = _split_imports(parts)
        head = f'"""EmoReAlM for {self.name}, written by `avem emorealm export`.\n\nIt reads your own files, which '
        return f'{head}`where.json` names."""\n\n{imports}\n\n{rest}'


def _split_imports(parts: list[str]) -> tuple[str, str]:
    """The import lines of several files, and what follows them."""
    imports: list[str] = []
    bodies = []
    for part in parts:
        lines = part.splitlines()
        end = next(n for n, line in enumerate(lines) if line and not line.startswith(("import ", "from ")))
        imports += [line for line in lines[:end] if line]
        bodies.append("\n".join(lines[end:]).strip() + "\n")
    return "\n".join(imports), "\n\n".join(bodies)
