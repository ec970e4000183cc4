"""Emotion-LLaMA's prompts, to the token: the layout of its training, and the other one of its generation.

The released code shows a model two different inputs for the same sample. While training, the image's tokens stand
between the video tags, and face, motion, sound and CLS between the feature tags. While generating, all of them stand
between the video tags, `<FeatureHere>` stays as text, and the text begins with a second beginning-of-sequence token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from avem.errors import PromptError
from avem.guards.special_tokens import find_special, special_tokens
from avem.train.model.media import Piece
from avem.train.model.prompts import EncodedPrompt
from avem.train.model.sequences import AUDIO_ID, VIDEO_FRAME_ID

TRAIN, GENERATE = "emotion_llama_train", "emotion_llama_generate"
FORMATS = (TRAIN, GENERATE)
VIDEO_HERE, FEATURE_HERE = "<VideoHere>", "<FeatureHere>"
PAD = "$$"
"""The released code pads with this ordinary piece of the vocabulary, so where an answer holds it, it is not counted."""
MAX_WORDS = 200
"""Words of an answer that are kept."""
REPLACED = re.compile(r'[.!"()*#:;~]')
"""Characters of an answer that become spaces."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What is asked about a clip, and what of the clip is shown."""

    question: str
    """The question alone."""
    answer: str | None
    """The response as the model reads it, see `clean_answer`; None for a prompt to generate from."""
    task: str = "reason"
    """The tag in front of the question, such as `emotion` or `reason`."""
    subtitle: str | None = None
    """What the person says; None, or nothing, leaves the sentence out."""
    image_tokens: int | None = None
    """Tokens N of the image, which face, motion and CLS go with; None without the video side."""
    sound: bool = True
    """Whether the sound's token is shown."""


@dataclass(frozen=True, slots=True)
class EmotionPrompt:
    """Turns questions and answers into ids.

    The released code knows no prompt without one of the sides. Here the tokens of a side that is not shown are left
    out and the tags stay; without both sides the tags go too.

    Args:
        tokenizer: Llama's, with beginning- and end-of-sequence tokens.
        max_answer_tokens: The answer is cut after so many tokens, its end-of-sequence token included; 0 cuts nothing.
    """

    tokenizer: Any
    max_answer_tokens: int = 0
    _special: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_special", special_tokens(self.tokenizer))

    def encode(self, turn: Turn, layout: str = TRAIN) -> EncodedPrompt:
        """Encode one turn.

        Args:
            turn: What is asked and shown.
            layout: `emotion_llama_train` or `emotion_llama_generate`.

        Raises:
            PromptError: A text holds a special token or a placeholder, or there is no such layout.
        """
        if layout not in FORMATS:
            raise PromptError(f"Emotion-LLaMA has no prompt format {layout!r}; choose one of {', '.join(FORMATS)}.")
        for name in ("question", "answer", "task", "subtitle"):
            self._check(name, getattr(turn, name) or "")
        prompt = self._prompt(turn, layout)
        ids = [] if turn.answer is None else self.answer_ids(turn.answer)
        start, pad = len(prompt), self.tokenizer.convert_tokens_to_ids(PAD)
        uncounted = {start + index for index, token in enumerate(ids) if token == pad and layout == TRAIN}
        return EncodedPrompt(prompt + ids, start, *_pieces(turn), uncounted=frozenset(uncounted))

    def answer_ids(self, answer: str) -> list[int]:
        """An answer's ids with the end of sequence; the end of a long answer is cut off, that token included."""
        ids = self._tokens(f"{answer}{self.tokenizer.eos_token}")
        return ids[: self.max_answer_tokens or None]

    def _prompt(self, turn: Turn, layout: str) -> list[int]:
        """Ids of a turn without its answer; each piece of text between media is tokenised by itself."""
        first = int(self.tokenizer.bos_token_id)
        if turn.image_tokens is None and not turn.sound:
            return [first, *self._tokens(f"[INST] {says(turn.subtitle)}[{turn.task}] {turn.question}  [/INST]")]
        seen = turn.image_tokens is not None
        image, faces, cls = [VIDEO_FRAME_ID] * seen, [VIDEO_FRAME_ID] * 2 * seen, [VIDEO_FRAME_ID] * seen
        vectors = [*faces, *([AUDIO_ID] * turn.sound), *cls]
        head, rest = prompt_text(turn.question, task=turn.task, subtitle=turn.subtitle).split(VIDEO_HERE)
        if layout == GENERATE:
            doubled = self._tokens(f"{self.tokenizer.bos_token}{head}")
            return [first, *doubled, *image, *vectors, *self._tokens(rest)]
        middle, tail = rest.split(FEATURE_HERE)
        return [first, *self._tokens(head), *image, *self._tokens(middle), *vectors, *self._tokens(tail)]

    def _tokens(self, text: str) -> list[int]:
        """Ids of one piece, which begins with SentencePiece's space as a text of its own does."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _check(self, name: str, text: str) -> None:
        placeholders = (mark for mark in (VIDEO_HERE, FEATURE_HERE) if mark in text)
        if found := find_special(text, self._special) or next(placeholders, ""):
            raise PromptError(
                f"The {name} holds {found!r}, which the model does not read as text; give the {name} alone, special "
                "tokens and media are added to it."
            )


def _pieces(turn: Turn) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """What the placeholders stand for: image, face, motion and CLS of the video side, and the sound."""
    N = turn.image_tokens
    video = () if N is None else (Piece(0, N), Piece(N, 1), Piece(N + 1, 1), Piece(N + 2, 1))
    return video, (Piece(0, 1),) if turn.sound else ()


def says(subtitle: str | None) -> str:
    """The sentence of a subtitle, as the released prompts have it; nothing without one."""
    return f"The person in video says: {subtitle}.  " if subtitle else ""


def prompt_text(question: str, *, task: str, subtitle: str | None) -> str:
    """A turn's text with both placeholders; without a subtitle its sentence is left out.

    Example:
        >>> prompt_text("What does he feel?", task="reason", subtitle=None)
        '[INST] <video><VideoHere></video> <feature><FeatureHere></feature> [reason] What does he feel?  [/INST]'
    """
    media = f"<video>{VIDEO_HERE}</video> <feature>{FEATURE_HERE}</feature>"
    return f"[INST] {media} {says(subtitle)}[{task}] {question}  [/INST]"


def clean_answer(answer: str) -> str:
    """An answer as the released training data have it: lower case, little punctuation, at most 200 words.

    Example:
        >>> clean_answer('He smiles (slightly): "Happy!"')
        'he smiles slightly happy'
    """
    plain = re.sub(r"\s{2,}", " ", REPLACED.sub(" ", answer.lower())).rstrip("\n").strip(" ")
    return " ".join(plain.split(" ")[:MAX_WORDS])
