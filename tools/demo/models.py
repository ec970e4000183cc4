"""The demo's small models: encoders of random weights, a word tokenizer, and a Llama to be trained from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from avem.cache import FeatureStore
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper
from avem.files import json_sha256
from avem.records import InstructionRow, PreferenceRow
from avem.train import AudiovisualConfig, AudiovisualLM

FRAMES, IMAGE_SIZE, PATCH_SIZE = 2, 96, 24
"""Two frames of 4 x 4 patches and a class token: 34 video tokens a clip."""
CONTEXT_STEPS = 200
"""Encoder positions of the small Whisper, 50 a second: 4 s of sound, 11 audio tokens."""
ENCODER_WIDTH, PROJECTION_DIM = 128, 64
ENCODER_SEED = 0


@dataclass(frozen=True, slots=True)
class LlamaSize:
    """Size of a small Llama; its heads are 32 wide."""

    width: int
    layers: int


DEMO_SIZE = LlamaSize(128, 3)
"""1M weights with the projectors."""
UNKNOWN, END = "<unk>", "</s>"
WORDS = Regex(r"<[a-z]+>|</s>|\w[\w'-]*|[^\w\s]")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'user' %}<question>{{ message.content }}<answer>"
    "{% else %}{{ message.content }}</s>{% endif %}"
    "{% endfor %}"
)


def make_encoders(directory: Path) -> tuple[Path, Path]:
    """Write a LanguageBind-Video tower and a Whisper encoder of seeded random weights; returns their folders.

    Like released encoders they are the same for every corpus. Random projections keep most of what is in a drawn face
    and a synthesised voice; the model learns to read them.
    """
    video, audio = directory / "languagebind-video", directory / "whisper"
    if not video.is_dir():
        make_random_languagebind(
            video,
            image_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
            hidden=ENCODER_WIDTH,
            layers=3,
            heads=4,
            frames=FRAMES,
            projection_dim=PROJECTION_DIM,
            seed=ENCODER_SEED,
        )
    if not audio.is_dir():
        make_random_whisper(audio, width=ENCODER_WIDTH, layers=2, heads=4, positions=CONTEXT_STEPS, seed=ENCODER_SEED)
    return video, audio


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token a word or mark of the texts, in order of first appearance.

    Args:
        texts: Everything the model will be asked or will answer.
    """
    splitter = pre_tokenizers.Split(WORDS, "removed", invert=True)
    vocabulary = {UNKNOWN: 0, END: 1, "<question>": 2, "<answer>": 3}
    for text in texts:
        for word, _ in splitter.pre_tokenize_str(text):
            vocabulary.setdefault(word, len(vocabulary))
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    words.normalizer = normalizers.Sequence([])
    words.pre_tokenizer = splitter
    words.decoder = decoders.Sequence([decoders.WordPiece(prefix="##", cleanup=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token=UNKNOWN,
        eos_token=END,
        pad_token=UNKNOWN,
        chat_template=CHAT_TEMPLATE,
        additional_special_tokens=["<question>", "<answer>"],
    )


def make_untrained(
    instructions: Iterable[InstructionRow],
    preferences: Iterable[PreferenceRow],
    store: FeatureStore,
    seed: int,
    size: LlamaSize = DEMO_SIZE,
) -> AudiovisualLM:
    """A Llama with projectors for the store's features, before any training.

    Args:
        instructions: Supervised rows; with the preference rows they decide the vocabulary.
        preferences: Preference rows.
        store: Its fingerprints are written into the model's configuration.
        seed: Of the weights.
        size: Of the Llama.
    """
    texts = [text for row in instructions for text in (row.question, row.answer)]
    for row in preferences:
        texts += [row.question, row.chosen, row.rejected_video_relevant, row.rejected_emotion_relevant]
        texts += [row.rejected_irrelevant] if row.rejected_irrelevant else []
    tokenizer = make_tokenizer(texts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        llama = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=size.width,
                intermediate_size=3 * size.width,
                num_hidden_layers=size.layers,
                num_attention_heads=size.width // 32,
                num_key_value_heads=size.width // 32,
                max_position_embeddings=512,
                tie_word_embeddings=False,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    config = AudiovisualConfig(
        video_hidden_size=ENCODER_WIDTH,
        audio_hidden_size=ENCODER_WIDTH,
        video_projector="mlp2x_gelu",
        audio_projector="stack-mlp",
        audio_stack=17,
        prompt_format="chat",
        video_frames=FRAMES,
        video_fingerprint=json_sha256(store.fingerprint("video")),
        audio_fingerprint=json_sha256(store.fingerprint("audio")),
    )
    return AudiovisualLM.create(llama, tokenizer, config, seed=seed)
