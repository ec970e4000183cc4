"""What happens to gradients between the backward pass and the optimiser: summed over processes, and bounded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.tensor import DTensor

from avem.train.run.fsdp import gather


def join_gradients(parameters: Sequence[Tensor], accelerator: Accelerator) -> None:
    """Sum gradients over processes, in one message; a process that had no rows adds zero.

    Those of sharded parameters have been summed by the backward pass.
    """
    own = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    if accelerator.num_processes == 1 or not own:
        return
    for parameter in own:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in own if parameter.grad is not None]
    joined = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "sum")  # [all values]
    for gradient, part in zip(gradients, joined.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def clip_gradients(parameters: Sequence[Tensor], most: float) -> Tensor:
    """Scale gradients down to a norm over all of them, and return the norm that they had, a scalar.

    Args:
        parameters: Replicated and sharded ones; every process has to call if some are sharded.
        most: The largest norm; 0 leaves gradients as they are.
    """
    kinds = [
        [parameter for parameter in parameters if parameter.grad is not None and isinstance(parameter, DTensor) is kind]
        for kind in (False, True)
    ]
    norms = [
        gather(torch.nn.utils.get_total_norm([parameter.grad for parameter in kind if parameter.grad is not None]))
        for kind in kinds
        if kind
    ]
    if not norms:
        return torch.zeros(())
    # ||g||_2 over both kinds: the norm of their norms, a scalar
    norm = norms[0] if len(norms) == 1 else torch.stack(norms).norm()
    if most > 0:
        for kind in kinds:
            torch.nn.utils.clip_grads_with_norm_(kind, most, norm)
    return norm
