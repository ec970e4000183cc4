"""The language model's weights sharded over processes with FSDP2 (Zhao et al., 2023), and gathered again.

Accelerate's configuration says whether and how; the sharding itself is torch's `fully_shard`, since Accelerate 1.15
applies it on GPUs alone. Small tensors that every process needs are replicated: adapters and projectors, whose
gradients the loop sums itself. So under LoRA only frozen weights are sharded, and only they are sent around.

Every pass through the model gathers weights, which all processes have to do equally often: one that has fewer
micro-batches than another runs `idle_pass` instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from avem.errors import SettingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from avem.train.families.base import FamilyModel
    from avem.train.packing.epoch import StepPlan
    from avem.train.settings.config import RunConfig


def fsdp_plugin(accelerator: Accelerator, config: RunConfig) -> FullyShardedDataParallelPlugin | None:
    """Accelerate's FSDP settings where several processes are to share the weights, else None.

    From then on transformers gives every process the weights it reads: Accelerate can have it fill those of the first
    one only, to be sent around; here files are mapped, and each process keeps its own shard.

    Raises:
        SettingError: Accelerate is set up for something that avem does not do.
    """
    kind = accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise SettingError(
            f"Accelerate is set up for {kind.value}, which avem does not train with; to shard the weights, set it up "
            "for FSDP with fsdp_version: 2."
        )
    wanted = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if not wanted or accelerator.num_processes == 1:
        return None
    plugin = getattr(accelerator.state, "fsdp_plugin", None) or FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise SettingError("Accelerate is set up for FSDP's first version; set fsdp_version: 2.")
    if isinstance(plugin.cpu_offload, CPUOffloadPolicy):
        raise SettingError("fsdp_offload_params keeps weights off the device, which avem does not do; set it to false.")
    if config.quantise != "none":
        raise SettingError(f"quantise={config.quantise} can't be combined with FSDP; set quantise=none.")
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    return plugin


def shard(model: FamilyModel, plugin: FullyShardedDataParallelPlugin, device: torch.device) -> None:
    """Leave each process a shard of every weight of the language model; a pass gathers them layer by layer.

    Args:
        model: Prepared for training. Embeddings, output layer and whatever lies outside the layers are gathered
            together, once a pass.
        plugin: `reshard_after_forward`, `activation_checkpointing` and the layers' class names are taken from it.
        device: Of this process.
    """
    language_model = model.language_model
    if plugin.activation_checkpointing:
        model.checkpoint_activations()
    language_model.enable_input_require_grads()  # so that gradients reach every layer in an idle pass too
    small = {
        parameter
        for name, parameter in model.named_parameters()
        if ".lora_" in name or not name.startswith("language_model.")
    }
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for part in [*_layers(language_model, plugin.transformer_cls_names_to_wrap), model]:
        fully_shard(part, mesh=mesh, reshard_after_forward=bool(plugin.reshard_after_forward), ignored_params=small)
    register_fsdp_forward_method(model, "response_logprobs")
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)  # losses are divided by the whole step already
            part.set_force_sum_reduction_for_comms(True)
    for parameter in small:
        parameter.data = parameter.data.to(device)


def _layers(language_model: PreTrainedModel, names: list[str] | None) -> list[Any]:
    """The repeated layers: those of the named classes, or all that transformers can checkpoint."""
    return [
        part
        for part in language_model.modules()
        if (type(part).__name__ in names if names else isinstance(part, GradientCheckpointingLayer))
    ]


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether processes share a model's weights."""
    return isinstance(model, FSDPModule)


def reshard(model: torch.nn.Module) -> None:
    """Free what a pass without gradients may have left gathered, so that parameters are each process's shard."""
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def idle_pass(model: FamilyModel) -> Tensor:
    """A loss of zero from the shortest pass that gathers the same weights as any other, a float32 scalar."""
    return 0.0 * model.response_logprobs([model.sequence("", "")]).sum()


def idle_passes(model: torch.nn.Module, steps: Iterable[StepPlan], rank: int) -> int:
    """How many idle passes make up for the micro-batches that a process has fewer of than another."""
    if not is_sharded(model):
        return 0
    counts = [sum(sizes) for sizes in zip(*([len(own) for own in step.ranks] for step in steps), strict=True)]
    return max(counts) - counts[rank] if counts else 0


def gather(tensor: Tensor) -> Tensor:
    """A tensor gathered from its shards; every process has to call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_shard(tensor: Tensor, other: Tensor) -> Tensor:
    """This process's shard of a full tensor, where `other`, of the same shape, is sharded; nothing is communicated."""
    if not isinstance(other, DTensor):
        return tensor
    here = tensor.to(other.device)
    return distribute_tensor(here, other.device_mesh, other.placements, src_data_rank=None)
