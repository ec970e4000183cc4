"""Answers as plain text that fits 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator

from avem.text.escaping import one_line
from avem.text.lists import listed
from avem.tools.ask.results import LABELS, AskedModel, ClipAnswer, Condition, Emotions, QuestionAnswer, Span
from avem.tools.ask.worth.sentences import worth

WIDTH = 80
BAR = 16
EIGHTHS = " \N{LEFT ONE EIGHTH BLOCK}\N{LEFT ONE QUARTER BLOCK}\N{LEFT THREE EIGHTHS BLOCK}\N{LEFT HALF BLOCK}"
EIGHTHS += "\N{LEFT FIVE EIGHTHS BLOCK}\N{LEFT THREE QUARTERS BLOCK}\N{LEFT SEVEN EIGHTHS BLOCK}\N{FULL BLOCK}"
HEADS = {
    Condition.FULL: ("as", "it is"),
    Condition.NO_SOUND: ("no", "sound"),
    Condition.NO_PICTURE: ("no", "picture"),
    Condition.TEXT: ("text", "alone"),
    Condition.OTHER_SOUND: ("other", "sound"),
    Condition.OTHER_PICTURE: ("other", "picture"),
}
SHOWN = 160
"""Characters of what a model says under another condition."""
SAME = 1.25
"""Answers whose probabilities differ by less than this factor are said to be about as likely."""
MOST = 1000.0
WORTH = "What this is worth:"
"""Over the sentences of `avem.tools.ask.worth.sentences`."""


def model_lines(model: AskedModel) -> list[str]:
    """Which model answers, and what it can't say."""
    lines = _wrapped(f"Model: {one_line(model.source)} ({model.kind})")
    return [*lines, *(line for sentence in (*model.missing, *model.notes) for line in _wrapped(sentence))]


def clip_lines(clip: ClipAnswer, *, plain: bool = False) -> list[str]:
    """One clip's answers.

    Args:
        clip: The clip.
        plain: Draw bars with `#`, for terminals without block characters.
    """
    if clip.failed:
        return ["", *_wrapped(f"{one_line(clip.name)}: {one_line(clip.failed)}")]
    lines = ["", *_wrapped(f"{one_line(clip.name)}  ({clip_facts(clip)})")]
    for note in clip.notes:
        lines += _wrapped(f"Note: {one_line(note)}", "  ")
    for answer in clip.answers:
        lines += ["", *answer_lines(answer, plain=plain)]
    if clip.emotions is not None:
        lines += ["", *emotion_lines(clip.emotions, plain=plain)]
    if clip.other:
        lines += ["", *_wrapped(f"Other sound and picture: {one_line(clip.other)}")]
    if sentences := worth(clip):
        lines += ["", WORTH, *(line for each in sentences for line in _wrapped(one_line(each), "  * "))]
    return lines


def clip_facts(clip: ClipAnswer) -> str:
    """Length, windows and where the features come from."""
    facts = [] if clip.duration_s is None else [f"{clip.duration_s:.1f} s"]
    windows = sum(span is not None for span in clip.spans)
    facts += [f"{windows} windows"] if windows else []
    return ", ".join([*facts, *([one_line(clip.source)] if clip.source else [])])


def answer_lines(answer: QuestionAnswer, *, plain: bool = False) -> list[str]:
    """A question, its answer, and what the answer depends on."""
    lines = _wrapped(one_line(answer.question), "Q: ")
    for part in answer.parts:
        when = f"{span_words(part.span)} " if part.span is not None else ""
        more = " [...]" if part.cut else ""
        lines += _wrapped(f"{when}{said(part.answer)}{more}", "A: ")
    others = [each for each in answer.conditions if each != Condition.FULL]
    if not others:
        return lines
    lines += ["", *_wrapped(verdict(answer))] if verdict(answer) else []
    lines.append("")
    changes = {each: answer.change(each) for each in others}
    widest = max((abs(value) for value in changes.values() if value is not None), default=0.0)
    for each in others:
        lines += _condition(answer, each, changes[each], widest, plain=plain)
    return lines


def _condition(
    answer: QuestionAnswer, each: Condition, change: float | None, widest: float, *, plain: bool
) -> Iterator[str]:
    """One condition: the change in nats with its bar, and what the model says then."""
    replies = [shortened(said(part.readings[each].answer)) for part in answer.parts]
    text = " / ".join(replies)
    if change is None:
        yield from _wrapped(text, f"  {each.words + ':':<17}")
        return
    bar = draw(abs(change) / widest if widest else 0.0, BAR, plain=plain)
    yield f"  {each.words:<16}{signed_nats(change):>9} nats  {bar}".rstrip()
    yield from _wrapped(text, "    says: ", " " * 10)


def emotion_lines(emotions: Emotions, *, plain: bool = False) -> list[str]:
    """The seven bars with their shares under each condition, or the emotion that is named."""
    lines = _wrapped(one_line(emotions.question), "Bars: ")
    conditions = emotions.conditions
    if not emotions.logprobs:
        for each in conditions:
            named = " / ".join(name or "names none of the seven" for name in emotions.named[each])
            lines += _wrapped(named, f"  {each.words + ':':<17}")
        return lines
    shares = {each: emotions.shares(each) or () for each in conditions}
    for row in (0, 1):
        heads = "".join(f"{HEADS[each][row]:>8}" for each in conditions)
        lines.append(f"  {'percent' if row else '':<10}{'':<{BAR}} {heads}".rstrip())
    for number in sorted(range(len(LABELS)), key=lambda n: -shares[Condition.FULL][n]):
        numbers = "".join(f"{100 * shares[each][number]:>8.1f}" for each in conditions)
        bar = draw(shares[Condition.FULL][number], BAR, plain=plain)
        lines.append(f"  {LABELS[number]:<10}{bar:<{BAR}} {numbers}")
    return lines


def verdict(answer: QuestionAnswer) -> str:
    """What the answer depends on, in a sentence; empty where log-probabilities are not known."""
    words = {
        Condition.NO_SOUND: "without the sound",
        Condition.NO_PICTURE: "without the picture",
        Condition.TEXT: "from the text alone",
        Condition.OTHER_SOUND: "with the other sound",
        Condition.OTHER_PICTURE: "with the other picture",
    }
    found = [
        f"{times(change)} {phrase}" for each, phrase in words.items() if (change := answer.change(each)) is not None
    ]
    return f"Compared with the clip as it is, the same answer is {listed(found)}." if found else ""


def times(change: float) -> str:
    """A difference of log-probabilities, in nats, as a factor.

    Example:
        >>> times(-2.3025851), times(0.1), times(-20.0)
        ('10 times less likely', 'about as likely', 'over 1,000 times less likely')
    """
    factor = math.exp(min(abs(change), 50.0))
    if factor < SAME:
        return "about as likely"
    number = f"over {MOST:,.0f}" if factor > MOST else f"{factor:.0f}" if factor >= 9.95 else f"{factor:.1f}"
    return f"{number} times {'less' if change < 0 else 'more'} likely"


def signed_nats(change: float) -> str:
    """A change with its sign; one that rounds to nothing has none.

    Example:
        >>> signed_nats(-1.5), signed_nats(-0.001)
        ('-1.50', '0.00')
    """
    return "0.00" if abs(change) < 0.005 else f"{change:+.2f}"


def draw(share: float, width: int, *, plain: bool = False) -> str:
    """A bar of `share` times `width` characters, in eighths of a character.

    Example:
        >>> draw(0.5, 4, plain=True), draw(1.0, 2, plain=True)
        ('##', '##')
    """
    if plain:
        return "#" * round(share * width)
    eighths = round(8 * width * share)
    return (EIGHTHS[8] * (eighths // 8) + EIGHTHS[eighths % 8]).rstrip()


def span_words(span: Span) -> str:
    """A window as minutes and seconds.

    Example:
        >>> span_words((30.0, 75.5))
        '0:30-1:16'
    """
    return "-".join(f"{round(second) // 60}:{round(second) % 60:02}" for second in span)


def shortened(text: str, most: int = SHOWN) -> str:
    """The beginning of a long text, at most so many characters; `--json` has all of it.

    Example:
        >>> shortened("The level brows show anger.", 16)
        'The level [...]'
    """
    return text if len(text) <= most else f"{text[: most - 6].rstrip()} [...]"


def said(text: str) -> str:
    """An answer on one line."""
    return one_line(" ".join(text.split())) or "(nothing)"


def print_clip(clip: ClipAnswer, show: Callable[[str], None], *, plain: bool) -> None:
    """Show a clip's lines."""
    for line in clip_lines(clip, plain=plain):
        show(line)


def _wrapped(text: str, first: str = "", later: str | None = None) -> list[str]:
    indent = " " * len(first) if later is None else later
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False) or [
        first.rstrip()
    ]
