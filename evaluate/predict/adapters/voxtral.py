"""Voxtral: sound in, text out."""

from __future__ import annotations

import io
from base64 import b64encode
from importlib import import_module
from typing import TYPE_CHECKING, Any

from scipy.io import wavfile

from avem.evaluate.predict.adapters.base import Adapter
from avem.records import RATE_HZ

if TYPE_CHECKING:
    import numpy as np

    from avem.evaluate.predict.media_model import ClipMedia


class Voxtral(Adapter):
    """Voxtral: sound in, text out, through the tokenizer of mistral-common."""

    model_class = "VoxtralForConditionalGeneration"
    sees = ("audio",)
    extra = "voxtral"
    takes_system = False

    @classmethod
    def ready(cls) -> None:
        """See to it that mistral-common can be imported and is new enough, and that it can read sound.

        Raises:
            ImportError: It is missing or too old, or soundfile is missing.
        """
        from transformers.utils.import_utils import is_mistral_common_available

        import_module("mistral_common")
        import_module("soundfile")
        if not is_mistral_common_available():
            raise ImportError("this mistral-common is older than transformers needs, or Pillow is missing")

    def encode(self, text: str, media: ClipMedia) -> dict[str, Any]:
        """Token ids and sound in one call: mistral-common writes no prompt as text between the two."""
        parts = [*self.media_parts(media), {"type": "text", "text": text}]
        encoded = self.processor.apply_chat_template([{"role": "user", "content": parts}])
        return {**encoded.to(self.model.device, self.model.dtype)}

    def media_parts(self, media: ClipMedia) -> list[dict[str, Any]]:
        """Sound at 16 kHz, as the content of a WAV file: the processor takes no arrays."""
        return [] if media.samples is None else [{"type": "audio", "base64": _wav(media.samples)}]

    def media_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """Nothing: the sound is part of the chat."""
        return {}


def _wav(samples: np.ndarray) -> str:
    """A WAV file of float32 samples, which changes none of them, in base64."""
    written = io.BytesIO()
    wavfile.write(written, RATE_HZ, samples.astype("float32"))
    return b64encode(written.getvalue()).decode()
