"""A small random Voxtral, with the files that mistralai's folders in the hub have."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import transformers as hf

SPECIAL = {
    0: "<unk>", 1: "<s>", 2: "</s>", 3: "[INST]", 4: "[/INST]", 5: "[AVAILABLE_TOOLS]", 6: "[/AVAILABLE_TOOLS]",
    7: "[TOOL_RESULTS]", 8: "[/TOOL_RESULTS]", 9: "[TOOL_CALLS]", 10: "[IMG]", 11: "<pad>", 12: "[IMG_BREAK]",
    13: "[IMG_END]", 14: "[PREFIX]", 15: "[MIDDLE]", 16: "[SUFFIX]", 17: "[SYSTEM_PROMPT]", 18: "[/SYSTEM_PROMPT]",
    19: "[TOOL_CONTENT]", 24: "[AUDIO]", 25: "[BEGIN_AUDIO]", 34: "[TRANSCRIBE]",
}  # fmt: skip
"""Names of special tokens by their numbers; 24 is written into transformers' processor."""
NUMBERS = {name: number for number, name in SPECIAL.items()}
FIRST_BYTE = 40
"""Number of the token of byte 0."""
MELS = 80


def tekken() -> dict[str, Any]:
    """A tokenizer with one token a byte, in the format of `tekken.json`."""
    special = [
        {"rank": rank, "token_str": SPECIAL.get(rank, f"<SPECIAL_{rank}>"), "is_control": True}
        for rank in range(FIRST_BYTE)
    ]
    vocabulary = [
        {"rank": byte, "token_bytes": b64encode(bytes([byte])).decode(), "token_str": chr(byte)} for byte in range(256)
    ]
    return {
        "config": {
            "pattern": r"[\s\S]",
            "num_vocab_tokens": 256,
            "default_vocab_size": FIRST_BYTE + 256,
            "default_num_special_tokens": FIRST_BYTE,
            "version": "v7",
        },
        "vocab": vocabulary,
        "special_tokens": special,
        "audio": {
            "sampling_rate": 16000,
            "frame_rate": 12.5,
            "audio_encoding_config": {"num_mel_bins": MELS, "hop_length": 160, "window_size": 400},
            "chunk_length_s": 30.0,
        },
    }


class VoxtralFiles:
    """The processor's files: settings of the sound's features, and the tokenizer."""

    def save_pretrained(self, folder: Path) -> None:
        """Write them."""
        hf.WhisperFeatureExtractor(feature_size=MELS).save_pretrained(folder)
        (folder / "tekken.json").write_text(json.dumps(tekken()))


def voxtral() -> tuple[Any, VoxtralFiles]:
    """The model, and what writes its processor's files."""
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 8192, "vocab_size": FIRST_BYTE + 256,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 11}  # fmt: skip
    audio = {"num_mel_bins": MELS, "hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 2}  # fmt: skip
    config = hf.VoxtralConfig(text_config=text, audio_config=audio, audio_token_id=NUMBERS["[AUDIO]"])
    return hf.VoxtralForConditionalGeneration(config), VoxtralFiles()
