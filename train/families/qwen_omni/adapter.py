"""Low-rank adapters of a thinker under the released checkpoint's own names, for peft, vLLM and ms-swift.

In memory peft adapts the stacked experts (`target_parameters`), with one pair of matrices for all experts of a layer.
On disk every expert has its own pair, as its weight has. peft stacks the pairs again when it loads them into
transformers' thinker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file

from avem.errors import CheckpointError, DataError, MissingFileError
from avem.reading import advise, read_json
from avem.train.model.lora import quiet_peft
from avem.weights import read_safetensors

if TYPE_CHECKING:
    from avem.train.families.qwen_omni.language_model import ThinkerLanguageModel

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
DENSE = ["gate_proj", "up_proj", "down_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
OTHER_PARTS = r".*\b(visual|audio_tower|talker|token2wav|code2wav)\b.*"
"""Parts of the released models with layers of the same names, which the adapter leaves alone."""
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_KEY = re.compile(
    r"(?:base_model\.model\.)?(?:thinker\.)?model\.(?:language_model\.)?(?P<module>layers\.\d+\..+)\.lora_(?P<half>[AB])"
    r"(?:\.\w+)?\.weight"
)


@dataclass(frozen=True, slots=True)
class LowRank:
    """An update of one weight: scale times `up @ down`."""

    down: torch.Tensor
    """A, `[r, in]`."""
    up: torch.Tensor
    """B, `[out, r]`."""
    scale: float

    def added_to(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight with the update, in the weight's number format."""
        return weight.addmm(self.up.to(weight), self.down.to(weight), alpha=self.scale)


def lora_targets(experts: bool) -> dict[str, Any]:
    """What peft adapts in a `ThinkerLanguageModel`: all linear layers but the output, experts included.

    Args:
        experts: Whether the feed-forward layers are experts. Single dense layers among them are not adapted: peft takes
            their names for the experts' names.
    """
    return (
        {"target_modules": ATTENTION, "target_parameters": EXPERTS}
        if experts
        else {"target_modules": ATTENTION + DENSE}
    )


def released_adapter(peft_model: Any, experts: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Pairs A `[r, in]` and B `[out, r]` by the released name of the module, without `thinker.` and `.weight`.

    Args:
        peft_model: Peft's wrapper around a `ThinkerLanguageModel`.
        experts: Experts in a layer; 0 where there are none.
    """
    halves = _halves(get_peft_model_state_dict(peft_model, save_embedding_layers=False))
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for module, (down, up) in halves.items():
        pairs |= _views(module, down, up, experts)
    return pairs


def write_adapter(folder: Path, peft_model: Any, *, experts: int, prefix: str, base: str) -> None:
    """Write peft's two files.

    Args:
        folder: Exists.
        peft_model: Peft's wrapper around a `ThinkerLanguageModel`.
        experts: Experts in a layer; 0 where there are none.
        prefix: What the thinker's tensors begin with in the base's files: `thinker.` or nothing.
        base: Path or hub id of the base.
    """
    state = {}
    for module, (down, up) in released_adapter(peft_model, experts).items():
        for half, tensor in (("A", down), ("B", up)):
            state[f"base_model.model.{prefix}{module}.lora_{half}.weight"] = tensor.detach().cpu().contiguous().clone()
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    settings = peft_model.peft_config["default"].to_dict()
    settings |= {
        "base_model_name_or_path": base,
        "target_modules": ATTENTION + DENSE,
        "target_parameters": None,
        "exclude_modules": OTHER_PARTS,
        "inference_mode": True,
        "auto_mapping": None,
        "task_type": None,
    }
    text = json.dumps(settings, indent=2, sort_keys=True, default=_plain)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def read_adapter(folder: Path, experts: int) -> dict[str, LowRank]:
    """Read an adapter that avem, peft or another trainer wrote for a thinker.

    Args:
        folder: With `adapter_config.json` and `adapter_model.safetensors`.
        experts: Experts in a layer of the base; 0 where there are none.

    Returns:
        Updates by the released name of the weight, without `thinker.`: `model.layers.0.self_attn.q_proj.weight`.

    Raises:
        MissingFileError: A file is missing.
        CheckpointError: It is no such adapter, or one that does more than add low-rank updates.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise MissingFileError(f"{folder} has no {name}; copy the whole adapter.")
    try:
        settings: dict[str, Any] = read_json(folder / CONFIG, dict)
    except DataError as error:
        raise CheckpointError(advise(error, "copy the whole adapter again")) from error
    if settings.get("use_dora") or settings.get("bias", "none") != "none" or settings.get("modules_to_save"):
        raise CheckpointError(f"The adapter in {folder} is more than low-rank updates (DoRA, biases or whole modules).")
    state = dict(read_safetensors(folder / WEIGHTS))
    unknown = [name for name in state if not _KEY.fullmatch(name)]
    if unknown or not state:
        raise CheckpointError(
            f"The adapter in {folder} does not belong to a thinker ({(unknown or ['no tensors'])[0]}); give one that "
            "was trained on its language model."
        )
    updates: dict[str, LowRank] = {}
    for module, (down, up) in _halves(state).items():
        stacked = _stacked_parameter(module)
        scale = _scale(settings, stacked or module, down.shape[0] // (experts if stacked and experts else 1))
        pairs = _views(module, down, up, experts)
        updates |= {f"{name}.weight": LowRank(one, other, scale) for name, (one, other) in pairs.items()}
    return updates


def attach(
    language_model: ThinkerLanguageModel, updates: Mapping[str, LowRank], where: Path, *, trainable: bool = False
) -> Any:
    """Put an adapter into a language model.

    Args:
        language_model: A `ThinkerLanguageModel` without adapter.
        updates: From `read_adapter`.
        where: Its folder, for messages.
        trainable: Whether it is trained further.

    Returns:
        Peft's wrapper.

    Raises:
        CheckpointError: The adapter does not fit the language model, or its ranks differ between layers.
    """
    ranks = {(update.down.shape[0], update.scale) for update in updates.values()}
    if len(ranks) != 1:
        raise CheckpointError(
            f"The adapter in {where} has several ranks or scales; fold it into its base with `avem models merge`."
        )
    rank, scale = next(iter(ranks))
    modules = sorted({name.removesuffix(".weight").rsplit(".", 1)[1] for name in updates if ".experts." not in name})
    targets: dict[str, Any] = {"target_modules": modules}
    if any(".experts." in name for name in updates):
        targets["target_parameters"] = EXPERTS
    alpha: Any = rank * scale  # peft's annotation says int, its arithmetic takes any number
    config = LoraConfig(r=rank, lora_alpha=alpha, task_type="CAUSAL_LM", inference_mode=not trainable, **targets)
    try:
        with quiet_peft():
            wrapper = get_peft_model(language_model, config)
        _fill(wrapper, updates, int(getattr(language_model.config, "num_experts", 0) or 0))
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"The adapter in {where} does not fit its base ({str(error).splitlines()[0]}); give the base it was "
            f"trained on."
        ) from error
    return wrapper


def _fill(wrapper: Any, updates: Mapping[str, LowRank], experts: int) -> None:
    """Copy an adapter's matrices into peft's."""
    left = dict(updates)
    matrices = {name: tensor for name, tensor in wrapper.named_parameters() if ".lora_" in name}
    for module, (down, up) in _halves(matrices).items():
        for name, (own_down, own_up) in _views(module, down.data, up.data, experts).items():
            update = left.pop(f"{name}.weight")
            own_down.copy_(update.down)
            own_up.copy_(update.up)
        for name, (own_down, _) in _views(module, down.data, up.data, experts).items():
            if not torch.equal(own_down, updates[f"{name}.weight"].down.to(own_down)):
                raise ValueError("its experts have different inner matrices for gate_proj and up_proj")
    if left:
        raise KeyError(f"the base has no {next(iter(left))}")


def _halves(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A and B by module: `model.layers.0.self_attn.q_proj`."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in state.items():
        if match := _KEY.fullmatch(key):
            found.setdefault(f"model.{match['module']}", {})[match["half"]] = tensor
    incomplete = next((module for module, halves in found.items() if len(halves) != 2), None)
    if incomplete is not None:
        raise CheckpointError(f"The adapter has only one of two matrices for {incomplete}; copy it again.")
    return {module: (halves["A"], halves["B"]) for module, halves in found.items()}


def _views(
    module: str, down: torch.Tensor, up: torch.Tensor, experts: int
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Views of a pair by released module name.

    Of stacked experts peft keeps A as `[E r, in]`, expert by expert, and B as `[out, r E]`, where neighbouring columns
    are of neighbouring experts. `gate_up_proj` is adapted inside `down_proj`, hence its name `base_layer`.
    """
    if _stacked_parameter(module) is None:
        return {module: (down, up)}
    layer = module.removesuffix(".base_layer")
    downs = down.view(experts, -1, down.shape[1])  # [E, r, in]
    ups = up.view(up.shape[0], -1, experts)  # [out, r, E]
    half = up.shape[0] // 2
    pairs = {}
    for expert in range(experts):
        one, other = downs[expert], ups[:, :, expert]
        if module == layer:
            pairs[f"{layer}.{expert}.down_proj"] = (one, other)
        else:
            pairs[f"{layer}.{expert}.gate_proj"] = (one, other[:half])
            pairs[f"{layer}.{expert}.up_proj"] = (one, other[half:])
    return pairs


def _stacked_parameter(module: str) -> str | None:
    """The parameter that an adapter of stacked experts belongs to; None for an adapter of one matrix."""
    if module.endswith(".mlp.experts.base_layer"):
        return module.removesuffix("base_layer") + "gate_up_proj"
    return f"{module}.down_proj" if module.endswith(".mlp.experts") else None


def _scale(settings: Mapping[str, Any], module: str, rank: int) -> float:
    """Factor on `up @ down`, as peft computes it from its configuration."""
    patterns = settings.get("alpha_pattern") or {}
    alpha = next(
        (value for pattern, value in patterns.items() if re.fullmatch(rf"(.*\.)?({pattern})", module)),
        settings.get("lora_alpha", rank),
    )
    return float(alpha) / (rank**0.5 if settings.get("use_rslora") else rank)


def _plain(value: Any) -> Any:
    """What peft keeps in its configuration, for JSON."""
    return sorted(value) if isinstance(value, set | frozenset) else str(getattr(value, "value", value))
