"""Prompt formats: placeholders, chunks, and where the response starts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_kit import byte_tokenizer, tiny_config, tiny_language_model

from avem.errors import CheckpointError, PromptError
from avem.train import AudiovisualLM
from avem.train.model.prompts import SYSTEM, PromptFormat
from avem.train.model.sequences import AUDIO_ID, VIDEO_FRAME_ID

TOKENIZER = byte_tokenizer()


def spell(ids: list[int]) -> str:
    """Ids as text, with V and A for the media."""
    marks = {VIDEO_FRAME_ID: "[V]", AUDIO_ID: "[A]"}
    return "".join(marks[token] if token in marks else TOKENIZER.decode([token]) for token in ids)


@pytest.mark.parametrize("name", ["vicuna_v1", "llava_v1"])
def test_whole_prompt(name):
    encoded = PromptFormat(TOKENIZER, name).encode("Why?", "Rain.", frames=2, audio=True)
    assert spell(encoded.ids) == f"<s>{SYSTEM[name]} USER: [V][V]\n[A]\nWhy? ASSISTANT: Rain.</s>"
    assert spell(encoded.ids[: encoded.response_start]).endswith("ASSISTANT:")


@pytest.mark.parametrize(
    ("frames", "audio", "turn"), [(3, False, "[V][V][V]\nQ"), (0, True, "[A]\nQ"), (0, False, "Q")]
)
def test_absent_media_leave_no_newline(frames, audio, turn):
    encoded = PromptFormat(TOKENIZER, "vicuna_v1").encode("Q", None, frames=frames, audio=audio)
    assert spell(encoded.ids) == f"<s>{SYSTEM['vicuna_v1']} USER: {turn} ASSISTANT:"
    assert encoded.response_start == len(encoded.ids)


def test_chat_template_closes_the_turn():
    encoded = PromptFormat(TOKENIZER, "chat").encode("Why?", "Rain.", frames=1, audio=True)
    prompt = "<|im_start|>user\n[V]\n[A]\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    assert spell(encoded.ids) == f"{prompt}Rain.<|im_end|>"
    assert spell(encoded.ids[: encoded.response_start]) == prompt


@pytest.mark.parametrize("answer", ["end", "|im", " spaced ", ""])
def test_answers_that_look_like_the_closing(answer):
    encoded = PromptFormat(TOKENIZER, "chat").encode("Why?", answer, frames=0, audio=False)
    assert spell(encoded.ids[encoded.response_start :]) == f"{answer}<|im_end|>"


def test_template_that_closes_nothing():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    encoded = PromptFormat(tokenizer, "chat").encode("Why?", "Rain.", frames=0, audio=False)
    assert spell(encoded.ids) == "[user]Why?Rain.</s>"


def test_ends_of_answers():
    assert PromptFormat(TOKENIZER, "vicuna_v1").end_ids() == {TOKENIZER.eos_token_id}
    closing = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
    assert PromptFormat(TOKENIZER, "chat").end_ids() == {TOKENIZER.eos_token_id, closing}


def test_tokenizer_without_a_beginning():
    encoded = PromptFormat(byte_tokenizer(bos=False), "vicuna_v1").encode("Q", None, frames=0, audio=False)
    assert spell(encoded.ids[:6]) == "A chat"


PLAIN = st.text(max_size=20).filter(lambda text: not set("<\ue000\ue001\ue002") & set(text))
"""What a model reads as text: nothing that stands for media, and no special token."""


@given(PLAIN, PLAIN)
def test_sequence_begins_with_its_prompt(question, answer):
    for name in ("vicuna_v1", "chat"):
        style = PromptFormat(TOKENIZER, name)
        prompt = style.encode(question, None, frames=2, audio=True)
        whole = style.encode(question, answer, frames=2, audio=True)
        assert whole.ids[: whole.response_start] == prompt.ids
        assert len(whole.ids) > whole.response_start


@pytest.mark.parametrize("question", ["<video>\nWhy?", "<audio>\nWhy?", "\ue001"])
def test_placeholders_in_the_question_are_refused(question):
    with pytest.raises(PromptError, match="question alone"):
        PromptFormat(TOKENIZER, "vicuna_v1").encode(question, None, frames=1, audio=False)


def test_tokenizers_that_lack_what_is_needed():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(CheckpointError, match="no chat template"):
        PromptFormat(tokenizer, "chat")
    tokenizer.eos_token = None
    with pytest.raises(CheckpointError, match="no end-of-sequence token"):
        PromptFormat(tokenizer, "vicuna_v1")


def test_a_tokenizer_of_another_model_is_refused():
    language_model = tiny_language_model(vocab_size=100)
    model = AudiovisualLM.create(language_model, byte_tokenizer(), tiny_config())
    with pytest.raises(CheckpointError, match=r"gives the id \d+ and the language model knows 100"):
        model.sequence("Why?", "Rain.")
