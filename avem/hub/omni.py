"""A Qwen2.5-Omni or Qwen3-Omni folder: what its configuration says, and where its thinker's tensors are.

Both forms are read: the full checkpoint, whose thinker's tensors begin with `thinker.`, and a thinker saved alone.
Talker and vocoder are never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from avem.errors import CheckpointError, DataError, MissingFileError
from avem.guards.remote_code import refuse_code
from avem.hub.tensor_files import StoredTensor, TensorFiles
from avem.hub.tokens import named_tokens, special_tokens
from avem.reading import advise, read_json
from avem.transformers_ready import ready_transformers

if TYPE_CHECKING:
    import torch

Tower = Literal["visual", "audio"]

FAMILIES = {
    "qwen2_5_omni": "qwen2_5_omni",
    "qwen2_5_omni_thinker": "qwen2_5_omni",
    "qwen3_omni_moe": "qwen3_omni",
    "qwen3_omni_moe_thinker": "qwen3_omni",
}
"""Family names by the `model_type` of `config.json`."""
TOWERS: dict[Tower, str] = {"visual": "visual", "audio": "audio_tower"}
"""Names of the towers' modules, in which their tensors' names begin."""
THINKER = "thinker."
POSITION_IDS_PER_SECOND = {"qwen2_5_omni": 25, "qwen3_omni": 13}
"""Of the family's processor, where a configuration states none; the default of Qwen3's configuration class differs."""
PLACEHOLDERS = ("audio", "image", "video")


def is_omni(path: Path) -> bool:
    """Whether a folder's `config.json` names a Qwen-Omni model; False where it can't be read."""
    try:
        content = read_json(path / "config.json", dict)
    except (DataError, MissingFileError, OSError):
        return False
    return content.get("model_type") in FAMILIES


@dataclass(frozen=True)
class OmniFolder:
    """What a Qwen-Omni folder says of itself. Open one with `OmniFolder.open`."""

    path: Path
    model_type: str
    """As in `config.json`: `qwen2_5_omni`, `qwen3_omni_moe`, or either with `_thinker` behind it."""
    family: str
    """`qwen2_5_omni` or `qwen3_omni`."""
    thinker: dict[str, Any]
    """The thinker's configuration as `config.json` has it; sizes that it leaves out are the class's defaults."""

    @classmethod
    def open(cls, path: str | Path) -> OmniFolder:
        """Read a folder's configuration. The weights are looked at when they are first needed.

        Args:
            path: A folder on this machine; see `avem.locate.locate_model` for hub ids.

        Raises:
            MissingFileError: The folder or its `config.json` is not there.
            CheckpointError: It is not a Qwen-Omni model, or has no thinker, or needs code of its own.
        """
        path = Path(path)
        config = path / "config.json"
        if not config.is_file():
            raise MissingFileError(f"{path} holds no config.json; give the folder of a whole Qwen-Omni checkpoint.")
        try:
            content: dict[str, Any] = read_json(config, dict)
        except DataError as error:
            raise CheckpointError(advise(error, "fetch the checkpoint again")) from error
        model_type = content.get("model_type")
        if isinstance(model_type, str) and re.fullmatch(
            r"qwen(2_5_omni|3_omni_moe)_(talker|token2wav|code2wav).*", model_type
        ):
            raise CheckpointError(
                f"{path} holds a {model_type}, which speaks and has no thinker; give the full checkpoint."
            )
        if not isinstance(model_type, str) or model_type not in FAMILIES:
            raise CheckpointError(
                f"{path} holds a {model_type!r} model, not Qwen2.5-Omni or Qwen3-Omni; give a folder of one of these."
            )
        refuse_code(path)
        thinker = content if model_type.endswith("_thinker") else content.get("thinker_config")
        if not isinstance(thinker, dict):
            raise CheckpointError(f"{config} has no thinker_config; fetch the checkpoint again.")
        return cls(path, model_type, FAMILIES[model_type], thinker)

    @cached_property
    def config(self) -> Any:
        """The thinker's configuration as transformers' object, with the class's defaults filled in.

        Raises:
            CheckpointError: It states something that transformers refuses.
        """
        ready_transformers()
        from transformers import AutoConfig

        kind = self.model_type if self.model_type.endswith("_thinker") else f"{self.model_type}_thinker"
        stated = {name: value for name, value in self.thinker.items() if name != "model_type"}
        try:
            return AutoConfig.for_model(kind, **stated)
        except Exception as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise CheckpointError(f"{self.path / 'config.json'} can't be used ({first}); fetch it again.") from error

    @cached_property
    def weights(self) -> TensorFiles:
        """All tensors of the folder; only headers are read.

        Raises:
            MissingFileError: There are no weights, or a shard is missing.
            CheckpointError: A file is damaged, or the weights are not safetensors.
        """
        return TensorFiles(self.path)

    @cached_property
    def prefix(self) -> str:
        """What the thinker's tensors begin with: `thinker.` in a full checkpoint, nothing in a thinker alone.

        Raises:
            CheckpointError: There are no tensors of a thinker, only those of a talker for example.
        """
        names = self.weights.tensors
        if any(name.startswith(THINKER) for name in names):
            return THINKER
        if any(_tower_pattern("", tower).match(name) for name in names for tower in TOWERS.values()):
            return ""
        others = sorted({name.split(".", 1)[0] for name in names})
        raise CheckpointError(
            f"{self.path} holds no weights of a thinker, only of {', '.join(others[:3]) or 'nothing'}; give the full "
            "checkpoint or the thinker."
        )

    @property
    def placeholders(self) -> dict[str, int]:
        """Token ids that stand for sound, pictures and video in a prompt: `audio`, `image`, `video`."""
        return {name: int(getattr(self.config, f"{name}_token_id")) for name in PLACEHOLDERS}

    def check_tokenizer(self) -> None:
        """Compare the tokenizer's placeholder ids with the configuration's, as far as the tokenizer names them.

        Raises:
            CheckpointError: They differ, so that media would be put at other tokens than the model expects.
        """
        ids, named = special_tokens(self.path), named_tokens(self.path)
        for name, expected in self.placeholders.items():
            token = named.get(f"{name}_token", "")
            if ids.get(token, expected) != expected:
                raise CheckpointError(
                    f"{self.path}: the tokenizer's {name} placeholder {token} is {ids[token]} and config.json says "
                    f"{expected}; fetch both from the same checkpoint."
                )

    @property
    def position_id_per_seconds(self) -> float:
        """Temporal position ids a second of media: the checkpoint's, or that of the family's processor."""
        return float(self.thinker.get("position_id_per_seconds") or POSITION_IDS_PER_SECOND[self.family])

    @property
    def hidden_size(self) -> int:
        """H, the width of the language model and of both towers' outputs."""
        return int(self.config.text_config.hidden_size)

    @cached_property
    def video_processor(self) -> dict[str, Any]:
        """The video processor's settings, from the file that transformers takes them from; empty where there is none.

        Raises:
            CheckpointError: The file is not a JSON object.
        """
        return self._processor("video_processor", ("video_preprocessor_config.json", "preprocessor_config.json"))

    @cached_property
    def feature_extractor(self) -> dict[str, Any]:
        """The sound's feature extractor's settings, likewise."""
        return self._processor("feature_extractor", ("preprocessor_config.json",))

    def tower_names(self, tower: Tower) -> dict[str, str]:
        """A tower's tensors: their names inside its module, and in the files.

        Raises:
            CheckpointError: The folder has none of them.
        """
        pattern = _tower_pattern(self.prefix, TOWERS[tower])
        found = {name[match.end() :]: name for name in self.weights.tensors if (match := pattern.match(name))}
        if not found:
            raise CheckpointError(
                f"{self.path} holds no tensors of the thinker's {TOWERS[tower]}; give a checkpoint with its towers."
            )
        return found

    def tower_shapes(self, tower: Tower) -> dict[str, StoredTensor]:
        """A tower's tensors by their names inside its module, without reading them."""
        return {inside: self.weights.tensors[name] for inside, name in self.tower_names(tower).items()}

    def tower_tensors(self, tower: Tower) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield a tower's tensors by their names inside its module, mapped from disk.

        Raises:
            CheckpointError: A file is damaged.
        """
        inside = {name: own for own, name in self.tower_names(tower).items()}
        for name, tensor in self.weights.read(inside):
            yield inside[name], tensor

    def tower_digest(self, tower: Tower) -> str:
        """SHA-256 over a tower's tensors: the names inside its module, dtypes, shapes and bytes, sorted by name.

        A full checkpoint and its thinker saved alone have the same digests. A stream's fingerprint holds it as
        `weights_sha256`, by which training finds the streams of a model.

        Args:
            tower: `visual` or `audio`.
        """
        return self.weights.digest(self.tower_names(tower).items())

    def _processor(self, part: str, files: tuple[str, ...]) -> dict[str, Any]:
        """One processor's settings: nested in `processor_config.json`, or the first of some files."""
        try:
            if (path := self.path / "processor_config.json").is_file():
                nested = read_json(path, dict).get(part)
                if isinstance(nested, dict):
                    return nested
            for name in files:
                if (path := self.path / name).is_file():
                    content: dict[str, Any] = read_json(path, dict)
                    return content
        except DataError as error:
            raise CheckpointError(advise(error, "fetch the checkpoint again")) from error
        return {}


def _tower_pattern(prefix: str, tower: str) -> re.Pattern[str]:
    """What a tower's tensor names begin with; transformers' own classes put `model.` before it."""
    return re.compile(rf"{re.escape(prefix)}(?:model\.)?{tower}\.")
