"""Prompt formats: from a question (and an answer) to token ids with media placeholders.

The Vicuna and LLaVA formats follow AVERE's released prompts to the token: each stretch of text between placeholders is
tokenised by itself, and the beginning-of-sequence token is kept only at the start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from avem.chat_templates import frozen_date
from avem.errors import CheckpointError, PromptError
from avem.guards.special_tokens import find_special, special_tokens
from avem.text.subtitles import with_subtitle
from avem.train.model.media import Piece
from avem.train.model.sequences import AUDIO_ID, VIDEO_FRAME_ID

SYSTEM = {
    "vicuna_v1": (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    ),
    "llava_v1": (
        "A chat between a curious human and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the human's questions."
    ),
}
VIDEO_MARK, AUDIO_MARK, ANSWER_MARK = "\ue000", "\ue001", "\ue002"
"""Private-use characters that stand for media and answer while a prompt is still text."""


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as token ids, media as placeholders, and what the placeholders stand for."""

    ids: list[int]
    """-200 stands for a piece of the video side and -300 for one of the audio side, each side's in order."""
    response_start: int
    """Index of the first response token; `len(ids)` without an answer."""
    video: tuple[Piece, ...] = ()
    """What the first -200, the second, ... stand for."""
    audio: tuple[Piece, ...] = ()
    """What the first -300, the second, ... stand for."""
    uncounted: frozenset[int] = frozenset()
    """Indices of response tokens that are read and not scored."""


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """Turns questions and answers into token ids for one tokenizer.

    Args:
        tokenizer: A Hugging Face tokenizer with an end-of-sequence token.
        name: `vicuna_v1`, `llava_v1` or `chat`.
    """

    tokenizer: Any
    name: str
    _special: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_special", special_tokens(self.tokenizer))
        if self.tokenizer.eos_token_id is None:
            raise CheckpointError("The tokenizer has no end-of-sequence token; set eos_token in its configuration.")
        if self.name == "chat" and not self.tokenizer.chat_template:
            raise CheckpointError("The tokenizer has no chat template; use the prompt format vicuna_v1 or add one.")

    def encode(
        self, question: str, answer: str | None, *, frames: int, audio: bool, subtitle: str | None = None
    ) -> EncodedPrompt:
        """Encode one turn: video, newline, audio, newline, question, answer; absent media leave no newline.

        Args:
            question: The user's question alone, without placeholders.
            answer: The response, or None for a prompt to generate from.
            frames: Video frames T, each one -200; 0 for no video.
            audio: Whether there is audio, one -300.
            subtitle: What is said, on a line before the question; None for no such line.

        Raises:
            PromptError: A text holds a special token or a placeholder; those that belong are added here.
        """
        self.check_text("question", question)
        self.check_text("answer", answer or "")
        self.check_text("subtitle", subtitle or "")
        question = with_subtitle(question, subtitle)
        user = (f"{VIDEO_MARK}\n" if frames else "") + (f"{AUDIO_MARK}\n" if audio else "") + question
        if self.name == "chat":
            prompt, tail = self._chat(user, answer)
        else:
            prompt = f"{SYSTEM[self.name]} USER: {user} ASSISTANT:"
            tail = None if answer is None else f" {answer}{self.tokenizer.eos_token}"
        prompt_ids = self._ids(prompt, frames)
        if tail is None:
            return EncodedPrompt(prompt_ids, len(prompt_ids))
        ids = self._ids(prompt + tail, frames)
        start = len(prompt_ids)
        if ids[:start] != prompt_ids:  # a token spans the border: keep the prompt as generation sees it
            ids = prompt_ids + self._tokens(tail)
        return EncodedPrompt(ids, start)

    def check_text(self, name: str, text: str) -> None:
        """Refuse text that the tokenizer would turn into special tokens.

        Args:
            name: What the text is, for the message.
            text: As its author wrote it.

        Raises:
            PromptError: It holds a special token of the tokenizer, or a placeholder for media.
        """
        if found := find_special(text, self._special):
            raise PromptError(
                f"The {name} holds {found!r}, which the model does not read as text; give the {name} alone, special "
                "tokens and media are added to it."
            )

    def end_ids(self) -> set[int]:
        """Ids that end an answer: the end of sequence and, for a chat template, of the assistant's turn."""
        ends = {self.tokenizer.eos_token_id}
        if self.name == "chat":
            ends.update(self._tokens(self._closing())[:1])
        return ends

    def _chat(self, user: str, answer: str | None) -> tuple[str, str | None]:
        """The template's prompt, and the answer with whatever closes the assistant's turn."""
        prompt = self._render([{"role": "user", "content": user}], add_generation_prompt=True)
        return prompt, None if answer is None else answer + self._closing()

    def _closing(self) -> str:
        """What the template writes after an answer, or the end of sequence where it writes nothing."""
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER_MARK}]
        closing = self._render(turns).partition(ANSWER_MARK)[2].strip()
        return closing or str(self.tokenizer.eos_token)

    def _render(self, turns: list[dict[str, str]], *, add_generation_prompt: bool = False) -> str:
        """The template's text of some turns.

        Raises:
            CheckpointError: The template raises an error, or calls for something that it is not given.
        """
        try:
            text: str = self.tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **frozen_date(self.tokenizer.chat_template),
            )
        except Exception as error:  # a template is a program, which can fail in any way
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise CheckpointError(
                f"The model's chat template can't be rendered ({reason}); correct chat_template.jinja, or the "
                "chat_template in tokenizer_config.json, beside the tokenizer."
            ) from error
        return text

    def _ids(self, text: str, frames: int) -> list[int]:
        ids: list[int] = [] if self.name == "chat" else self._leading()
        for chunk in re.split(f"([{VIDEO_MARK}{AUDIO_MARK}])", text):
            if chunk == VIDEO_MARK:
                ids += [VIDEO_FRAME_ID] * frames
            elif chunk == AUDIO_MARK:
                ids.append(AUDIO_ID)
            elif chunk:
                ids += self._tokens(chunk)
        return ids

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _leading(self) -> list[int]:
        """The beginning-of-sequence id where this tokenizer puts one."""
        ids: list[int] = self.tokenizer("a").input_ids
        return ids[:1] if ids[:1] == [self.tokenizer.bos_token_id] else []
