"""What adapters share: a chat prompt with media, greedy replies, and the options' log-likelihoods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from avem.chat_templates import frozen_date
from avem.errors import CheckpointError, MediaError
from avem.evaluate.predict.adapters.vision import ready_torchvision
from avem.evaluate.predict.media_model import FRAMES, ClipMedia, MediaRequest, Take
from avem.evaluate.predict.predictor import STREAMS, Answer
from avem.files import file_sha256, json_sha256
from avem.guards.remote_code import NO_CODE, refuse_code
from avem.transformers_ready import ready_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


ADAPTER_VERSION = 2
"""Raised when the same adapter shows a clip in another way."""


class Adapter(ABC):
    """Runs one family of multimodal models on media files.

    Args:
        model: A transformers model with `generate`.
        processor: Its processor, with a chat template.
        source: Folder or hub id.
        fingerprint: Digest of the model's files.
    """

    sees: tuple[str, ...] = STREAMS
    methods: tuple[str, ...] = ("likelihood", "generation", "text_only")
    system: str = ""
    """System message of the vendor's example; empty where the example has none, or the chat template adds it."""
    takes_system: ClassVar[bool] = True
    """Whether the model can be given a system message beside media."""
    extra: ClassVar[str] = "media"
    """The extra of avem that installs what the processor needs."""
    model_class: ClassVar[str]
    """Name of the model's class in transformers."""

    def __init__(self, model: PreTrainedModel, processor: Any, source: str, fingerprint: str) -> None:
        self.model, self.processor, self.source, self.fingerprint = model.eval(), processor, source, fingerprint

    @classmethod
    def load(cls, folder: Path, source: str, device: str, dtype: torch.dtype) -> Adapter:
        """Load model and processor from a folder in Hugging Face's layout.

        Raises:
            CheckpointError: Something in it is missing or wrong.
        """
        ready_transformers()
        import transformers

        refuse_code(folder)
        try:
            cls.ready()
            processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True, **NO_CODE)
            model_class = getattr(transformers, cls.model_class)
            model = model_class.from_pretrained(folder, dtype=dtype, local_files_only=True, **NO_CODE)
        except ImportError as error:
            said = " ".join(str(error).split())[:160]
            raise CheckpointError(
                f"{source} needs packages that are not installed; pip install 'avem[{cls.extra}]' ({said})."
            ) from error
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{source} can't be loaded as {cls.model_class} ({said}).") from error
        return cls(model.to(device), processor, source, _folder_digest(folder))

    @classmethod
    def ready(cls) -> None:
        """Import what the processor needs beside transformers.

        Raises:
            ImportError: It is not installed, or does not fit.
        """
        if "video" in cls.sees:
            ready_torchvision()

    def identity(self) -> dict[str, Any]:
        """Digest of the model's files, and how clips are shown."""
        dtype = str(self.model.dtype).removeprefix("torch.")
        known = {"adapter": type(self).__name__, "files": self.fingerprint, "frames": FRAMES, "dtype": dtype}
        return {**known, "version": ADAPTER_VERSION, "system": self.system}

    def predict(self, requests: Sequence[MediaRequest], take: Take) -> dict[str, str]:
        """Answer one request after another; a clip that can't be decoded fails."""
        failed = {}
        for request in requests:
            try:
                media = request.media(FRAMES)
            except MediaError as error:
                failed[request.key] = str(error)
                continue
            inputs = self.encode(request.text, media)
            if request.method == "generation":
                take(request.key, Answer(reply=self.reply(inputs, request.max_new_tokens)))
            else:
                take(request.key, Answer(logprobs=tuple(self.option_logprobs(inputs, request.options))))
        return failed

    def encode(self, text: str, media: ClipMedia) -> dict[str, Any]:
        """A user turn with a clip, and the open turn of the assistant, as the model's inputs."""
        prompt = self.prompt(text, media)
        encoded = self.processor(text=[prompt], return_tensors="pt", **self.media_arguments(media))
        return {**encoded.to(self.model.device, self.model.dtype), **self.model_arguments(media)}

    def prompt(self, text: str, media: ClipMedia) -> str:
        """The chat as text, from the processor's template, with placeholders for the media."""
        parts = [*self.media_parts(media), {"type": "text", "text": text}]
        said = [{"role": "system", "content": [{"type": "text", "text": self.system}]}] if self.system else []
        today = frozen_date(getattr(self.processor, "chat_template", None))
        prompt: str = self.processor.apply_chat_template(
            [*said, {"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False, **today
        )
        return prompt

    def model_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """What the model is told besides the processor's tensors."""
        return {}

    def media_parts(self, media: ClipMedia) -> list[dict[str, Any]]:
        """The media's parts of the chat template's content, video before audio."""
        kinds = (("video", media.frames), ("audio", media.samples))
        return [{"type": kind} for kind, shown in kinds if shown is not None]

    def video_metadata(self, media: ClipMedia) -> dict[str, Any]:
        """What a video processor is told of the frames, so that it places them in time as they are in the clip."""
        if media.frames is None:
            return {}
        count = len(media.frames)
        known = {"total_num_frames": count, "frames_indices": list(range(count)), "fps": media.frames_per_s or 1.0}
        return {"do_sample_frames": False, "video_metadata": [{**known, "duration": media.duration_s}]}

    @abstractmethod
    def media_arguments(self, media: ClipMedia) -> dict[str, Any]:
        """The media as the processor's arguments."""

    @torch.inference_mode()
    def reply(self, inputs: dict[str, Any], max_new_tokens: int) -> str:
        """What the model writes, greedily."""
        ids = self.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        new = ids[0, inputs["input_ids"].shape[1] :]
        text: str = self.processor.tokenizer.decode(new, skip_special_tokens=True)
        return text.strip()

    @torch.inference_mode()
    def option_logprobs(self, inputs: dict[str, Any], options: Sequence[str]) -> list[float]:
        """Log-probability of each option as the reply's beginning, in nats; options of one token share one pass."""
        tokens = [self.processor.tokenizer(option, add_special_tokens=False)["input_ids"] for option in options]
        if all(len(ids) == 1 for ids in tokens):
            logits = self.model(**inputs).logits[0, -1].float().log_softmax(-1)
            return [float(logits[ids[0]]) for ids in tokens]
        return [self._continuation(inputs, ids) for ids in tokens]

    def _continuation(self, inputs: dict[str, Any], ids: list[int]) -> float:
        length = inputs["input_ids"].shape[1]
        longer = {
            name: torch.cat([value, _grown(name, value, ids)], 1)
            if isinstance(value, torch.Tensor) and value.ndim == 2 and value.shape[1] == length and name in GROWING
            else value
            for name, value in inputs.items()
        }
        logits = self.model(**longer).logits[0, length - 1 : -1].float().log_softmax(-1)
        return float(logits[torch.arange(len(ids)), torch.tensor(ids)].sum())


GROWING = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
"""Inputs with one entry a token."""


def _grown(name: str, value: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """What extends an input by text tokens: the ids, ones in the mask, zeros elsewhere."""
    if name == "input_ids":
        return torch.tensor([ids], dtype=value.dtype, device=value.device)
    return torch.full((1, len(ids)), int(name == "attention_mask"), dtype=value.dtype, device=value.device)


def _folder_digest(folder: Path) -> str:
    """Digest of a model's folder: content of the small files, name and size of the weights."""
    small = {".json", ".jinja", ".txt", ".model"}
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return json_sha256({p.name: file_sha256(p) if p.suffix in small else p.stat().st_size for p in files})
