"""A strict reader of replies: one option, clearly named, or nothing."""

from __future__ import annotations

import re

from avem.evaluate.questions import letters, option_text, polarity
from avem.records import Question

DECORATION = re.compile(r"[*_`#\"“”]+|\\boxed|</?s>|<\|[a-z_]+\|>")
"""Markdown, quotes and end marks around an answer; they carry no meaning."""

BARE = re.compile(r"[\[(]?([a-z])[\])]?[.:,]?", re.IGNORECASE)
"""The whole reply is a letter: `B`, `(b)`, `[B]`, `b.`, `B)`."""

LEADING = re.compile(r"(?:[\[(]([a-z])[\])]|([a-z])[.:)])[.:,]?(?=\s|$)", re.IGNORECASE)
"""The reply starts with a marked letter: `(B) Yes`, `B: Yes`, `b) yes`."""

MARKED = re.compile(
    r"[\[({]([a-z])[\])}]"
    r"|\b(?:option|choice)\s+([a-z])\b(?!')"
    r"|\banswer\b(?:\s+is|\s*[:=])?\s*([a-z])(?=\s*(?:[.,:;!]|$|\b(?:because|since|as)\b))",
    re.IGNORECASE,
)
"""A letter in brackets, or after "option", "choice" or "answer", anywhere in the reply."""

NO_PHRASE = re.compile(r"\s*no\s+(?!it\b|he\b|she\b|they\b|there\b|this\b|that\b|the\b|i\b|because\b|not\b)\w", re.I)
"""A no that belongs to the next word ("no idea", "no sound") and answers nothing."""

NEGATED = re.compile(r"\b(?:not|isn't|neither|nor|rather than|instead of)\s+(?:the\s+)?(?:answer\s+|option\s+)?$", re.I)


def parse_reply(reply: str, question: Question) -> str | None:
    """The option that a reply names, or None where it names none, several, or contradicts itself.

    Read in this order: a letter as the whole reply; marked letters, which must agree with each other and with the
    option's text if that follows; an option's text as the reply's beginning; an option's text of two words or more
    anywhere in the reply. A letter that is merely a word ("a man smiles") names nothing.

    Args:
        reply: Raw text of the model.
        question: What it replies to.

    Returns:
        A letter of the question's options, or None.
    """
    text = " ".join(DECORATION.sub(" ", reply).split())
    if bare := BARE.fullmatch(text):
        return _valid(bare.group(1), question)
    marked = _marked_letters(text)
    if marked is not None:
        letter = _valid(marked, question) if len(marked) == 1 else None
        return None if letter and _contradicts(text, letter, question) else letter
    return parse_text(text, question) or _contained(text, question)


def parse_text(reply: str, question: Question) -> str | None:
    """The option whose text a reply begins with, or whose beginning the whole reply is; for prompts without options.

    Case, punctuation and spaces do not count. Where several fit, the longest text wins; a reply cut short must fit one
    option alone.
    """
    said = _words(reply)
    if not said:
        return None
    options = {letter: _words(option_text(choice)) for letter, choice in _options(question)}
    begun = {letter: len(words) for letter, words in options.items() if words and said[: len(words)] == words}
    if begun:
        best = [letter for letter, length in begun.items() if length == max(begun.values())]
        return best[0] if len(best) == 1 and not _runs_on(reply, best[0], options) else None
    cut = [letter for letter, words in options.items() if words[: len(said)] == said]
    if len(cut) == 1:
        return cut[0]
    return _yes_or_no(reply, question)


def _marked_letters(text: str) -> str | None:
    """The letters a reply marks as its answer, upper case, in order and once each; None where it marks none."""
    found = [match for match in (LEADING.match(text), *MARKED.finditer(text)) if match]
    if not found:
        return None
    named = [match.group(match.lastindex or 0) for match in found if not NEGATED.search(text[: match.start()])]
    return "".join(dict.fromkeys(letter.upper() for letter in named))


def _contradicts(text: str, letter: str, question: Question) -> bool:
    """Whether a marked letter is followed at once by another option's text or polarity."""
    if not (label := LEADING.match(text)):
        return False
    rest = text[label.end() :].strip()
    named = parse_text(rest, question) if rest else None
    return named is not None and named != letter


def _yes_or_no(text: str, question: Question) -> str | None:
    """The option that says yes or no where the reply's first word, ended by punctuation, does."""
    first = re.match(r"(yes|no)(?=$|\s*[.,:;!?-])", text.strip().lower())
    if not first:
        return None
    holders = [letter for letter, choice in _options(question) if polarity(choice) == first.group(1)]
    return holders[0] if len(holders) == 1 else None


def _contained(text: str, question: Question) -> str | None:
    """The one option whose text of two words or more stands in the reply."""
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
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower())
