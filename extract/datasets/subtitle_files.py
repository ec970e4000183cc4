"""Subtitle files beside clips: SubRip (`.srt`) and WebVTT (`.vtt`), in whatever encoding they were saved."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from avem.cache.manifest.subtitles import SRT, VTT, one_line
from avem.errors import DataError
from avem.reading import read_bytes

SUFFIXES = {".srt": SRT, ".vtt": VTT}
"""Suffixes of subtitle files, the first that exists is read, and what their source is called."""
LARGEST = 8 << 20
"""Bytes of a subtitle file at most; that of a film of three hours has some 150 kB."""

_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
_CUE = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?$")
_BROKEN = re.compile(r"\d\s*-->\s*\d")
"""A line that is meant to give times."""
_MARKUP = re.compile(r"</?(?:i|b|u|s|c|v|font|lang|ruby|rt)\b[^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}", re.IGNORECASE)
"""Italics, colours, speakers, and places on the screen, which are no text."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A text and when it is shown."""

    start_s: float
    end_s: float
    text: str
    """One line, without markup."""

    def belongs(self, span: tuple[float, float]) -> bool:
        """Whether a window of a clip shows it: at least half of it, or for at least half of the window."""
        start, end = span
        shared = min(self.end_s, end) - max(self.start_s, start)
        length = min(self.end_s - self.start_s, end - start)
        return shared >= length / 2 if length > 0 else start <= self.start_s < end


def read_cues(path: Path) -> list[Cue]:
    """The cues of a subtitle file, in the order of time.

    Raises:
        DataError: It can't be read, is larger than a subtitle file can be, or has a time that is not one.
    """
    data = read_bytes(path)
    if len(data) > LARGEST:
        raise DataError(f"{path} has {len(data):,} bytes, which no subtitle file has; put the right file there.")
    return parse_cues(decode(data), str(path))


def decode(data: bytes) -> str:
    """Text in UTF-8 or UTF-16, with a byte order mark or without one, and in Windows' cp1252 otherwise.

    Example:
        >>> decode("Où?".encode("cp1252")), decode("Où?".encode("utf-16"))
        ('Où?', 'Où?')
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    if b"\x00" in data[:64]:  # digits, line ends and arrows have a byte of zero in UTF-16
        return data.decode("utf-16-be" if data[:1] == b"\x00" else "utf-16-le", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def parse_cues(text: str, where: str) -> list[Cue]:
    r"""The cues of SubRip or WebVTT text, in the order of time; comments, styles and numbers of cues are no text.

    Args:
        text: Of the file.
        where: The file, for messages.

    Raises:
        DataError: A line of times can't be read, or nothing in the text is a cue.

    Example:
        >>> parse_cues("1\n00:00:01,000 --> 00:00:02,500\n<i>Come</i> in.\n", "a.srt")
        [Cue(start_s=1.0, end_s=2.5, text='Come in.')]
    """
    found: list[tuple[float, float, list[str]]] = []
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if times := _CUE.match(line):
            if inside and found[-1][2] and found[-1][2][-1].strip().isdecimal():
                found[-1][2].pop()  # the next cue's number, with no empty line before it
            parts = times.groups()
            found.append((_seconds(parts[:4]), _seconds(parts[4:]), []))
            inside = True
        elif _BROKEN.search(line):
            raise DataError(f"{where} line {number} has no times of the form 00:01:02,500 --> 00:01:04,000.")
        elif not line.strip():
            inside = False
        elif inside:
            found[-1][2].append(line)
    if not found and text.strip() and not text.lstrip().startswith("WEBVTT"):
        raise DataError(f"{where} holds no subtitles with times of the form 00:01:02,500 --> 00:01:04,000.")
    cues = [Cue(start, end, _said(lines)) for start, end, lines in found]
    return sorted((cue for cue in cues if cue.text), key=lambda cue: (cue.start_s, cue.end_s))


def _said(lines: Iterable[str]) -> str:
    return one_line(" ".join(html.unescape(_MARKUP.sub("", line)) for line in lines))


def joined(cues: Iterable[Cue]) -> str:
    """What some cues say; a line that scrolls, and so is in several cues that follow each other, is said once."""
    said: list[str] = []
    for cue in cues:
        if not said or said[-1] != cue.text:
            said.append(cue.text)
    return " ".join(said)


def spoken(cues: Sequence[Cue], span: tuple[float, float] | None) -> str:
    """What is said in a clip, or in a window of it."""
    return joined(cue for cue in cues if span is None or cue.belongs(span))


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds) + int(fraction.ljust(3, "0")) / 1000
