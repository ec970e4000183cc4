"""A thinker's language model out of a released folder; the towers, the talker and the vocoder stay on disk."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from accelerate import init_empty_weights
from torch import nn

from avem.errors import CheckpointError
from avem.hub.omni import OmniFolder
from avem.train.checkpoints.tensors import report_faults
from avem.train.families.qwen_omni.language_model import ThinkerLanguageModel, empty_model
from avem.train.families.qwen_omni.names import ExpertWeight, own_name
from avem.train.model.language_models import quiet_transformers


def empty_language_model(folder: OmniFolder) -> ThinkerLanguageModel:
    """The language model that a folder describes; its parameters have shapes and no storage.

    Raises:
        CheckpointError: The configuration does not describe a language model.
    """
    try:
        with init_empty_weights(include_buffers=False), quiet_transformers():
            return empty_model(folder.config.text_config, tie=bool(folder.config.tie_word_embeddings))
    except CheckpointError:
        raise
    except Exception as error:  # a configuration of wrong types fails anywhere in transformers
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{folder.path / 'config.json'} does not describe a thinker ({reason}); fetch the checkpoint again."
        ) from error


def load_language_model(
    folder: OmniFolder, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> ThinkerLanguageModel:
    """Read a folder's language model; tensors are mapped from disk and converted one at a time.

    Args:
        folder: A full checkpoint, or a thinker alone.
        device: Where the weights go.
        dtype: Their number format.

    Raises:
        MissingFileError: There are no weights, or a shard is missing.
        CheckpointError: Tensors are missing, unknown or misshapen, or the weights are not safetensors.
    """
    model = empty_language_model(folder)
    names = {name: own for name in folder.weights.tensors if (own := own_name(name, folder.prefix))}
    _check(folder, model, names)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    state: dict[str, torch.Tensor] = {}
    for name, tensor in folder.weights.read(names):
        own = names[name]
        if expert := ExpertWeight.find(own):
            if expert.parameter not in state:
                state[expert.parameter] = torch.empty(shapes[expert.parameter], dtype=dtype, device=device)
            expert.within(state[expert.parameter]).copy_(tensor)
        else:
            state[own] = tensor.to(device=device, dtype=dtype)
    if model.config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    if dtype == torch.float64 and hasattr(model.config, "num_experts"):
        model.set_experts_implementation("eager")  # grouped products know no float64
    nn.Module.to(model, device)
    nn.Module.eval(model)
    return model


def _check(folder: OmniFolder, model: ThinkerLanguageModel, names: Mapping[str, str]) -> None:
    """Refuse weights that are not the language model's."""
    expected: dict[str, tuple[int, ...]] = {}
    experts = int(getattr(model.config, "num_experts", 0) or 0)
    for name, tensor in model.state_dict().items():
        shape = tuple(tensor.shape)
        for released in _released_names(name, experts):
            found = ExpertWeight.find(released)
            expected[released] = found.shape(shape) if found else shape
    held = {own: folder.weights.tensors[name].shape for name, own in names.items()}
    for stacked in [name for name in held if name.endswith((".experts.gate_up_proj", ".experts.down_proj"))]:
        # transformers saves experts one by one; a folder that keeps them stacked is read as it is
        for released in _released_names(stacked, experts):
            expected.pop(released, None)
        expected[stacked] = tuple(model.state_dict()[stacked].shape) if stacked in model.state_dict() else ()
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    report_faults(
        folder.path,
        missing=sorted(expected.keys() - held.keys() - tied),
        unknown=sorted(held.keys() - expected.keys()),
        misshapen=[
            f"{name} is {list(held[name])}, not {list(shape)}"
            for name, shape in expected.items()
            if name in held and held[name] != shape
        ],
    )


def _released_names(name: str, experts: int) -> list[str]:
    """The released names of one of the model's parameters."""
    for stacked, parts in (("gate_up_proj", ("gate_proj", "up_proj")), ("down_proj", ("down_proj",))):
        if name.endswith(f".mlp.experts.{stacked}"):
            layer = name.removesuffix(f".{stacked}")
            return [f"{layer}.{expert}.{part}.weight" for expert in range(experts) for part in parts]
    return [name]
