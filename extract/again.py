"""Making a stream's features again as the store has them: which options did so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from avem.cache import StreamSpec
from avem.cache.decoders import OLD, decoder_of
from avem.cache.records import KINDS
from avem.errors import SettingError
from avem.extract.options import ExtractOptions

AVERES = ("languagebind-video", "whisper")
"""Names of the encoders that are chosen by themselves, by `--video-encoder` and `--audio-encoder`."""


def belongs_to_model(spec: StreamSpec) -> bool:
    """Whether avem extracted a stream with the encoder of a model that `--for` names."""
    return decoder_of(spec.fingerprint) is not None and spec.encoder not in AVERES


def options_for(spec: StreamSpec, options: ExtractOptions) -> ExtractOptions:
    """The options that extract a stream's missing rows as its others were.

    Args:
        spec: The stream.
        options: Encoders and how they run; sampling, pixel budget, dtype and decoder are taken from the stream.

    Raises:
        SettingError: The encoder is not named, or avem has none for such a stream, which was imported.
    """
    again = replace(options, streams=(spec.kind,), dtype=spec.dtype, limit=None)
    if belongs_to_model(spec):
        if options.model is None:
            raise SettingError(f"The {spec.name} features are of a model's own encoder; give the model with --for.")
        return replace(again, decoder=decoder_of(spec.fingerprint) or options.decoder, **_sampling(spec))
    decoder = decoder_of(spec.fingerprint)
    if decoder is None or spec.kind not in KINDS:
        raise SettingError(f"The {spec.name} features were imported; import them again with `avem cache import`.")
    return replace(again, model=None, decoder=decoder or OLD)


def _sampling(spec: StreamSpec) -> dict[str, Any]:
    """How the stream samples and resizes frames; nothing where that is not a setting."""
    made = spec.fingerprint["preprocessing"]
    if "cap_pixels_per_frame" not in made:
        return {}
    return {
        "fps": made.get("fps"),
        "frames": made.get("frames"),
        "min_pixels": made["min_pixels"],
        "max_pixels": made["max_pixels"],
        "cap_pixels": made["cap_pixels_per_frame"],
    }
