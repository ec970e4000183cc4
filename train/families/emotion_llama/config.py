"""What an Emotion-LLaMA model in avem's layout says of itself besides its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from avem.errors import CheckpointError, SettingError
from avem.train.families.emotion_llama.prompts import FORMATS, GENERATE, TRAIN

FAMILY = "emotion_llama"


@dataclass(frozen=True, slots=True)
class EmotionConfig:
    """Adapters, prompts and expected features of an Emotion-LLaMA model."""

    lora_rank: int = 0
    """Rank of the released adapters, as their matrices have it; 0: they were folded into the language model."""
    lora_alpha: float = 0.0
    """The adapters' update is scaled by alpha / rank. No released file says it; the authors' settings say 16."""
    lora_targets: tuple[str, ...] = ()
    """Names of the adapted layers."""
    prompt_format: str = TRAIN
    """Layout of sequences with an answer."""
    generate_format: str = GENERATE
    """Layout of prompts to generate from."""
    task: str = "reason"
    """Tag in front of a question that comes without one."""
    clean_answers: bool = True
    """Whether answers are written as in the released training data; see `prompts.clean_answer`."""
    max_answer_tokens: int = 1024
    """Longer answers are cut, as in the released training settings; 0 cuts none."""
    encoders: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the weights of the encoders that came with the model, by stream."""
    features: Mapping[str, str] = field(default_factory=dict)
    """Digest of the fingerprint of the features that the model was trained on, by stream."""
    zeros: tuple[str, ...] = ()
    """Streams of those features that were filled with zeros instead of computed."""

    def __post_init__(self) -> None:
        if self.prompt_format not in FORMATS or self.generate_format not in FORMATS:
            raise SettingError(f"The prompt formats of Emotion-LLaMA are {' and '.join(FORMATS)}.")
        if self.lora_rank and self.lora_alpha <= 0:
            raise SettingError(f"lora_alpha is {self.lora_alpha}; it must be above 0, and is 16 for the released file.")

    @property
    def lora_scale(self) -> float:
        """Alpha / rank; 0 without adapters."""
        return self.lora_alpha / self.lora_rank if self.lora_rank else 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return {**asdict(self), **{name: list(getattr(self, name)) for name in ("lora_targets", "zeros")}}

    @classmethod
    def from_json(cls, values: Any, where: str) -> EmotionConfig:
        """Read what `to_json` wrote.

        Args:
            values: The JSON object.
            where: The file that it comes from, for messages.

        Raises:
            CheckpointError: A field is unknown, of another type or out of range.
        """
        if not isinstance(values, dict):
            raise CheckpointError(f"{where} does not describe an Emotion-LLaMA model: `{FAMILY}` should be an object.")
        defaults = {one.name: getattr(cls(), one.name) for one in fields(cls)}
        if unknown := sorted(values.keys() - defaults.keys()):
            raise CheckpointError(f"{where} has fields that this version of avem does not know: {', '.join(unknown)}.")
        for name, value in values.items():
            wanted = {tuple: (list,), float: (int, float)}.get(type(defaults[name]), (type(defaults[name]),))
            if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
                raise CheckpointError(f"{where}: {name} is {value!r}, which is of another type than is written there.")
        try:
            given: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in values.items()}
            return cls(**given)
        except SettingError as error:
            raise CheckpointError(f"{where} does not describe an Emotion-LLaMA model: {error}") from error
