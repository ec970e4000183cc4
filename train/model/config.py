"""What an audiovisual model is made of besides its language model: projectors, prompt format, expected features."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from avem.errors import CheckpointError, SettingError

VIDEO_PROJECTORS = ("mlp2x_gelu", "linear", "qformer", "none")
AUDIO_PROJECTORS = ("qformer", "stack-mlp", "none")
PROMPT_FORMATS = ("vicuna_v1", "llava_v1", "chat")


@dataclass(frozen=True, slots=True)
class AudiovisualConfig:
    """Projectors, prompt format and features of an `AudiovisualLM`; the `qformer` names are those of AVERE's config."""

    video_hidden_size: int
    """Channels C of the video features; 0 with the projector `none`."""
    audio_hidden_size: int
    """Channels C of the audio features; 0 with the projector `none`."""
    video_projector: str = "mlp2x_gelu"
    """One of `mlp2x_gelu`, `linear`, `qformer`, `none`."""
    audio_projector: str = "qformer"
    """One of `qformer`, `stack-mlp`, `none`."""
    prompt_format: str = "vicuna_v1"
    """One of `vicuna_v1`, `llava_v1`, `chat` (the tokenizer's own template)."""
    video_frames: int = 8
    """Frames T that the features are made from."""
    context_length: int = 0
    """Longest sequence in language-model positions, media included; 0 means the language model's own limit."""
    audio_stack: int = 10
    """Encoder steps that `stack-mlp` joins into one token."""
    qformer_num_speech_query_tokens: int = 1
    qformer_window_level: bool = True
    """False: one window over all encoder steps."""
    qformer_second_per_window: float = 0.33333
    """Seconds in an audio window."""
    qformer_second_stride: float = 0.33333
    """Seconds between the starts of two audio windows."""
    qformer_num_video_query_tokens: int = 16
    video_qformer_window_level: bool = True
    video_qformer_tokens_per_window: int = 257
    video_qformer_token_stride: int = 257
    qformer_hidden_size: int = 768
    qformer_num_attention_heads: int = 12
    qformer_intermediate_size: int = 3072
    qformer_num_hidden_layers: int = 2
    video_fingerprint: str = ""
    """Digest of the fingerprint of the store's video features that the model was trained on; empty: unknown."""
    audio_fingerprint: str = ""
    """The same for audio."""

    def __post_init__(self) -> None:
        _one_of("video_projector", self.video_projector, VIDEO_PROJECTORS)
        _one_of("audio_projector", self.audio_projector, AUDIO_PROJECTORS)
        _one_of("prompt_format", self.prompt_format, PROMPT_FORMATS)
        for kind in ("video", "audio"):
            width = getattr(self, f"{kind}_hidden_size")
            if (getattr(self, f"{kind}_projector") == "none") != (width == 0):
                raise SettingError(f"{kind}_hidden_size is {width}: it has to be 0 exactly when there is no projector.")

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any], where: str = "config.json") -> AudiovisualConfig:
        """Read what `to_json` wrote.

        Args:
            values: The JSON object.
            where: The file it comes from, for the error message.

        Raises:
            CheckpointError: A field is unknown, missing or out of range.
        """
        if not isinstance(values, dict):
            raise CheckpointError(f"{where} does not describe an audiovisual model: it should hold an object.")
        unknown = sorted(values.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise CheckpointError(f"{where} has fields that this version of avem does not know: {', '.join(unknown)}.")
        try:
            return cls(**values)
        except (TypeError, SettingError) as error:
            raise CheckpointError(f"{where} does not describe an audiovisual model: {error}") from error


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingError(f"{name} is {value!r}; choose one of {', '.join(allowed)}.")
