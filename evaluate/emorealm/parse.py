"""A strict reader of replies: one option, clearly named, or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

from avem.evaluate.emorealm.questions import letters, option_text
from avem.evaluate.emorealm.replies import answer_of, plain
from avem.evaluate.emorealm.reply_patterns import (
    ALSO,
    BARE,
    DECISIVE,
    DECORATION,
    FIELDS,
    LEAD_IN,
    LEADING,
    MARKED,
    NEGATED,
    NO_PHRASE,
    POLAR,
    REJECTED,
    YES,
)
from avem.records import Question


def parse_reply(reply: str, question: Question) -> str | None:
    """The option that a reply names, or None where it names none, several, or contradicts itself.

    The thoughts of a reasoning model are removed first, and an answer in tags or JSON is unpacked. Then read in
    this order: a letter as the whole reply; marked letters, which must agree with each other and with the option's text
    if that follows; an option's text as the reply's beginning; an option's text of two words or more anywhere in the
    reply. A letter that is merely a word ("a man smiles") names nothing. Where a reply that marks several letters says
    which is its final answer, that one counts.

    Args:
        reply: Raw text of the model.
        question: What it replies to.

    Returns:
        A letter of the question's options, or None.
    """
    answer = answer_of(reply, FIELDS)
    text = _undecorated(answer)
    if bare := BARE.fullmatch(text):
        return _valid(bare.group(1), question)
    marked = _marked_letters(text, answer)
    if marked is not None and len(marked) > 1:
        marked = _final_letter(answer) or marked
    if marked is not None:
        letter = _valid(marked, question) if len(marked) == 1 else None
        return None if letter and _contradicts(text, letter, question) else letter
    return _parse_text(text, question) or _contained(text, question)


def parse_text(reply: str, question: Question) -> str | None:
    """The option whose text a reply begins with, or whose beginning the whole reply is; for prompts without options.

    Case, punctuation and spaces do not count, nor do the thoughts of a reasoning model. Where several fit, the
    longest text wins; a reply cut short must fit one option alone.
    """
    return _parse_text(_undecorated(answer_of(reply, FIELDS)), question)


def _parse_text(text: str, question: Question) -> str | None:
    text = LEAD_IN.sub("", text)
    said = _words(text)
    if not said:
        return None
    options = {letter: _words(option_text(choice)) for letter, choice in _options(question)}
    begun = {letter: len(words) for letter, words in options.items() if words and said[: len(words)] == words}
    if begun:
        best = [letter for letter, length in begun.items() if length == max(begun.values())]
        return best[0] if len(best) == 1 and not _runs_on(text, best[0], options) else None
    cut = [letter for letter, words in options.items() if words[: len(said)] == said]
    if len(cut) == 1:
        return cut[0]
    return _yes_or_no(text, question)


def _undecorated(text: str) -> str:
    return " ".join(DECORATION.sub(" ", text).split())


def _marked_letters(text: str, answer: str) -> str | None:
    """The letters a reply marks as its answer, upper case, in order and once each; None where it marks none."""
    found = [match for match in (LEADING.match(text), *MARKED.finditer(text)) if match]
    named = [letter for match in found for letter in _named(match, text)]
    alone = _alone(answer)
    if not found and not alone:
        return None
    return "".join(dict.fromkeys(letter.upper() for letter in (*named, *alone)))


def _named(match: re.Match[str], text: str) -> Iterator[str]:
    """The letter of one mark, unless it is taken back, and those that follow it as equals."""
    end = match.end(match.lastindex or 0)
    if not (NEGATED.search(text[: match.start()]) or REJECTED.match(text, end)):
        yield match.group(match.lastindex or 0)
        while also := ALSO.match(text, end):
            yield also.group(1)
            end = also.end()


def _alone(answer: str) -> list[str]:
    """Letters that are the first or the last of several lines by themselves."""
    lines = [line for line in map(_undecorated, answer.splitlines()) if line]
    ends = (lines[0], lines[-1]) if len(lines) > 1 else ()
    return [match.group(1) for line in ends if (match := BARE.fullmatch(line))]


def _final_letter(answer: str) -> str | None:
    """The one letter that a reply calls its final answer, or None."""
    found = {next(filter(None, match.groups())).upper() for match in DECISIVE.finditer(answer)}
    return found.pop() if len(found) == 1 else None


def _contradicts(text: str, letter: str, question: Question) -> bool:
    """Whether a letter at the reply's beginning is followed at once by another option's text or polarity."""
    if not (label := LEADING.match(text) or re.match(rf"{letter}\s", text, re.IGNORECASE)):
        return False
    rest = text[label.end() :].strip()
    named = _parse_text(rest, question) if rest else None
    return named is not None and named != letter


def _yes_or_no(text: str, question: Question) -> str | None:
    """The option that says yes or no where the reply's first word, ended by punctuation, does."""
    said = _polarity(text)
    holders = [letter for letter, choice in _options(question) if said and _polarity(option_text(choice)) == said]
    return holders[0] if len(holders) == 1 else None


def _polarity(text: str) -> str | None:
    """Yes or no where that is a text's first word."""
    first = POLAR.match(plain(text).strip().lower()) or re.match(r"(yes|no)\b", text.strip().lower())
    return None if not first else "yes" if first.group(1) in YES else "no"


def _contained(text: str, question: Question) -> str | None:
    """The one option whose text of two words or more occurs in the reply."""
    said = f" {' '.join(_words(text))} "
    held = []
    for letter, choice in _options(question):
        words = _words(option_text(choice))
        if len(words) > 1 and f" {' '.join(words)} " in said:
            held.append(letter)
    return held[0] if len(held) == 1 else None


def _runs_on(reply: str, letter: str, options: dict[str, list[str]]) -> bool:
    """Whether a one-word option only begins another phrase ("no idea"), or another option follows ("yes and no")."""
    if len(options[letter]) > 1 or re.match(r"\W*\w+\s*[.,:;!-]", reply):
        return False
    rest = f" {' '.join(_words(reply)[1:])} "
    rivals = (words for name, words in options.items() if name != letter and words)
    return NO_PHRASE.match(reply) is not None or any(f" {' '.join(words)} " in rest for words in rivals)


def _options(question: Question) -> list[tuple[str, str]]:
    return list(zip(letters(question), question.choices, strict=True))


def _valid(letter: str, question: Question) -> str | None:
    return letter.upper() if letter.upper() in letters(question) else None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", plain(text).lower())
