"""HuBERT (Hsu et al., 2021) from its released folder, through transformers: one vector for a clip's sound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from avem.errors import CheckpointError, MediaError
from avem.extract.encoders.checkpoints import load_strict, read_json, tensors_sha256
from avem.weights import read_tensors

if TYPE_CHECKING:
    from transformers import HubertModel

RENAMED = {
    "encoder.pos_conv_embed.conv.weight_g": "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    "encoder.pos_conv_embed.conv.weight_v": "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
}
"""Names of the weight norm before PyTorch 2.1, and after."""
MASK = "masked_spec_embed"
"""Used in pre-training alone; some files hold it."""
VARIANCE_EPS = 1e-7
"""Added to the variance of the sound before dividing, as transformers' feature extractor does."""


@dataclass(frozen=True, slots=True)
class LoadedHubert:
    """A model in float32 with what its folder says about its input and the digest of its weights."""

    module: HubertModel
    rate_hz: int
    """Samples a second of its input."""
    normalise: bool
    """Whether each sound is brought to mean 0 and variance 1 first."""
    weights_sha256: str

    @property
    def width(self) -> int:
        """C, the size of a clip's vector."""
        return int(self.module.config.hidden_size)

    @property
    def shortest(self) -> int:
        """Samples that one output step needs."""
        samples = 1
        for kernel, stride in zip(
            reversed(self.module.config.conv_kernel), reversed(self.module.config.conv_stride), strict=True
        ):
            samples = (samples - 1) * stride + kernel
        return samples

    def prepare(self, samples: Tensor) -> Tensor:
        """Sound of one clip, float [n], to the model's input, float32 [n].

        Raises:
            MediaError: It is shorter than one step of the model.
        """
        if samples.ndim != 1 or len(samples) < self.shortest:
            raise MediaError(
                f"The sound has {samples.numel()} samples, fewer than the {self.shortest} that HuBERT needs."
            )
        sound = samples.double()
        if self.normalise:
            sound = (sound - sound.mean()) / torch.sqrt(sound.var(correction=0) + VARIANCE_EPS)
        return sound.float()

    def states(self, sound: Tensor) -> Tensor:
        """Prepared sound [B, n] to the hidden states after the encoder's last norm, [B, T, C].

        transformers' `hidden_states[-1]` is the same before release 5, and is before that norm since.
        """
        states: Tensor = self.module(sound).last_hidden_state
        return states

    def utterance(self, sound: Tensor) -> Tensor:
        """Prepared sound [B, n] to one vector for each, [B, C]: the mean over time."""
        return self.states(sound).mean(1)


def load_hubert(folder: Path) -> LoadedHubert:
    """Read a folder such as chinese-hubert-large, in float32 and evaluation mode.

    Args:
        folder: Holds `config.json`, `preprocessor_config.json` and the weights of a `HubertModel`, or of a model
            around one.

    Raises:
        MissingFileError: A file is not there.
        CheckpointError: The files are not a HuBERT model, are damaged, or contradict each other.
    """
    values, preprocessing = read_json(folder / "config.json"), read_json(folder / "preprocessor_config.json")
    if values.get("model_type") != "hubert":
        raise CheckpointError(f"{folder} holds a {values.get('model_type', 'nameless')!r} model, not a HuBERT one.")
    rate = preprocessing.get("sampling_rate", 16_000)
    if isinstance(rate, bool) or not isinstance(rate, int) or rate <= 0:
        raise CheckpointError(f"{folder / 'preprocessor_config.json'}: sampling_rate is {rate!r}, not a whole number.")
    tensors = dict(_plain_tensors(folder))
    module = _new_model(values, folder)
    if MASK in module.state_dict():
        tensors[MASK] = module.state_dict()[MASK]
    load_strict(module, {name: value.float() for name, value in tensors.items()}, folder)
    tensors.pop(MASK, None)
    module.eval().requires_grad_(False)
    return LoadedHubert(module, rate, bool(preprocessing.get("do_normalize", True)), tensors_sha256(tensors))


def _plain_tensors(folder: Path) -> dict[str, Tensor]:
    """The model's tensors under the names that it has today, without those of pre-training and of heads."""
    found = dict(read_tensors(folder))
    prefix = "hubert." if any(name.startswith("hubert.") for name in found) else ""
    plain = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    return {RENAMED.get(name, name): value for name, value in plain.items() if name != MASK}


def _new_model(values: dict[str, Any], folder: Path) -> HubertModel:
    from transformers import HubertConfig, HubertModel

    try:
        return HubertModel(HubertConfig.from_dict(values))
    except Exception as error:  # a configuration of wrong types fails anywhere in transformers
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{folder / 'config.json'} does not describe a HuBERT model: {reason}") from error
