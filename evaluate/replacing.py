"""A bench may take the place of an earlier one of the same kind, and of no other.

The answers of a bench stay in `answers.jsonl`, but its result and its page are written anew. So a bench that asks
another way, or that asks about less, is refused where an earlier result would be lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from avem.errors import AvemError, SettingError
from avem.sealed.files import read_sealed
from avem.text.lists import counted


def refuse_replacing(
    file: Path,
    terms: Mapping[str, object],
    ids: Collection[str],
    what: str = "question",
    *,
    methods: Collection[str] | None = None,
    permute: bool = True,
) -> None:
    """Refuse to write a bench's result over one that says something else, or more.

    Args:
        file: The result that would be written; fine if there is none, or none that can be read.
        terms: What the result would be, as its own fields (`style`, `benchmark`, ...). A field that the earlier result
            lacks is not compared. `model` is what the command named; only a folder on this machine is compared, and
            "" where answers are given.
        ids: The questions or clips that it would be about.
        what: What each of them is.
        methods: The methods of choosing an option that it would have; None where that does not vary.
        permute: Whether it would ask in every order of the options.

    Raises:
        SettingError: The earlier result has other terms, or it has questions, clips, methods or orders that this one
            would not have.

    Example:
        >>> refuse_replacing(Path("bench/final/result.json"), {"style": "cloze"}, {"q1"})  # there is no such file
    """
    try:
        before = read_sealed(file)
    except AvemError:
        return  # absent or damaged: there is nothing to lose
    for name, now in terms.items():
        known = _model(before) if name == "model" else before.get(name, now)
        if not (_same_model(known, str(now)) if name == "model" else known == now):
            _refuse(file, f"the results of another bench ({name} was {_shown(known)}, now {_shown(now)})")
    if lost := set(_ids(before.get("items", ()))) - set(ids):
        _refuse(file, f"results on {counted(len(lost), what)} that this bench leaves out ({min(lost)}, ...)")
    if methods is not None and "generation" in before.get("scores", ()) and "generation" not in methods:
        _refuse(file, "written replies, which this bench leaves out (--generate was on)")
    if methods is not None and "text_only" in before.get("scores", ()) and "text_only" not in methods:
        _refuse(file, "answers without media, which this bench leaves out (--text-only was on)")
    if not permute and any(item.get("orders") for item in before.get("items", ())):
        _refuse(file, "answers in every order of the options (--permute was on)")


def _refuse(file: Path, holds: str) -> NoReturn:
    raise SettingError(f"{file.parent} holds {holds}; choose another folder with --out, or remove this one.")


def _model(before: Mapping[str, object]) -> str:
    """The model of an earlier result; "" where it scored given answers."""
    about = before.get("model")
    return str(about.get("source", "")) if isinstance(about, Mapping) else ""


def _same_model(known: str, now: str) -> bool:
    """Whether both may be one model: a folder is the same however it is written, a hub id may be kept as a folder."""
    if known and now and not Path(now).exists():
        return True
    return bool(known) == bool(now) and (not now or Path(known).resolve() == Path(now).resolve())


def _shown(value: object) -> str:
    return str(value).replace("\n", " ") if value not in ("", None) else "none"


def _ids(items: Iterable[Mapping[str, object]]) -> list[str]:
    """Of questions or clips, as each kind of result names them."""
    found = []
    for item in items:
        question = item.get("question")
        held = question if isinstance(question, Mapping) else item
        found.append(str(held.get("id", held.get("clip_id", ""))))
    return found
