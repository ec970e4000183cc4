"""Which kernels compute on a device: attention of every kind, bfloat16, 4-bit weights, messages between GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from avem.tools.doctor.findings import Finding, Verdict
from avem.train.model.quantise import quantise_linears
from avem.train.prefix.flex import flex_works
from avem.train.run.flops import matmul_peak

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "plain": SDPBackend.MATH,
}
SLOW_BF16 = 0.9
"""Below this share of float32's speed, bfloat16 is no gain."""


def kernels(device: torch.device) -> Iterator[Finding]:
    """Try each kernel on a device with a small input."""
    yield _speed(device)
    works = [name for name, backend in BACKENDS.items() if _runs(partial(_attend, device, backend))]
    yield Finding(
        "kernels",
        "attention",
        ", ".join(works) or "none",
        Verdict.OK if works else Verdict.PROBLEM,
        "" if works else "No attention kernel runs here; install the torch build that fits this machine's GPU.",
        {"works": works},
    )
    if device.type != "cuda":
        return
    flex = flex_works(device)
    yield Finding(
        "kernels",
        "shared prompts",
        "fast (flex attention)" if flex else "slower (flex attention does not run here)",
        Verdict.OK if flex else Verdict.NOTE,
        "" if flex else "Training with shared prompts works, but slower: flex attention needs a C compiler and Triton.",
        {"flex": flex},
    )
    yield _four_bit(device)
    yield Finding(
        "kernels", "several GPUs", "yes (NCCL)" if torch.distributed.is_nccl_available() else "no (NCCL is missing)"
    )


def _speed(device: torch.device) -> Finding:
    """How fast matrix products are in both number formats."""
    single, half = (matmul_peak(device, dtype) / 1e9 for dtype in (torch.float32, torch.bfloat16))
    gain = half > SLOW_BF16 * single
    return Finding(
        "kernels",
        "matrix products",
        f"{_flops(single)} in float32, {_flops(half)} in bfloat16",
        Verdict.OK if gain else Verdict.NOTE,
        "" if gain else "Train with `--set precision=float32`, the default: bfloat16 is slower on this device.",
        {"float32_gflops": single, "bfloat16_gflops": half},
    )


def _flops(giga: float) -> str:
    return f"{giga / 1000:.0f} TFLOPS" if giga >= 1000 else f"{giga:.2g} GFLOPS"


def _attend(device: torch.device, backend: SDPBackend) -> None:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    parts = [torch.ones(1, 2, 16, 64, device=device, dtype=dtype) for _ in range(3)]
    with sdpa_kernel(backend):
        scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)


def _four_bit(device: torch.device) -> Finding:
    if find_spec("bitsandbytes") is None:
        return Finding("kernels", "4-bit weights", "bitsandbytes is not installed")

    def quantise() -> None:
        model = torch.nn.Sequential(torch.nn.Linear(128, 128)).to(torch.bfloat16)
        model.get_output_embeddings = lambda: None  # type: ignore[assignment]
        quantise_linears(model, device)  # type: ignore[arg-type]
        model(torch.ones(1, 128, device=device, dtype=torch.bfloat16))

    works = _runs(quantise)
    return Finding(
        "kernels",
        "4-bit weights",
        "bitsandbytes works" if works else "bitsandbytes is installed and fails",
        Verdict.OK if works else Verdict.NOTE,
        "" if works else "Install the bitsandbytes release that fits this CUDA version, or don't use quantise=4bit.",
        {"works": works},
    )


def _runs(attempt: Callable[[], object]) -> bool:
    """Whether something runs; what a missing kernel raises differs from library to library."""
    try:
        attempt()
    except Exception:  # noqa: BLE001 - the question is whether it runs
        return False
    return True
