"""What computes on a device and how fast: attention of every kind, bfloat16, 4-bit weights, messages between GPUs."""

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
ROW_OPERATIONS = 3e13
"""One row of AVEm-DPO with a 7B: 1100 packed tokens (three questions a clip), 4 operations on each of 6.6e9 weights."""
USED = 0.5
"""Share of a large product's speed that a step is planned with; `docs/performance.md` has what was measured."""
FAST_ROW_S, SLOW_ROW_S = 10.0, 60.0
"""A run of 10,000 rows takes about a day, and a week."""


def kernels(device: torch.device) -> Iterator[Finding]:
    """Try each kernel on a device with a small input."""
    yield from _speed(device)
    works = [name for name, backend in BACKENDS.items() if _runs(partial(_attend, device, backend))]
    yield Finding(
        "kernels",
        "attention",
        f"works, in {_ways(len(works))} ({', '.join(works)}); it is what relates words to pictures"
        if works
        else "none works",
        Verdict.OK if works else Verdict.PROBLEM,
        "" if works else "Attention, a part of every model, does not run here; install the torch for this GPU.",
        {"works": works},
    )
    if device.type != "cuda":
        return
    flex = flex_works(device)
    yield Finding(
        "kernels",
        "shared prompts",
        "fast (flex attention)" if flex else "works, slower than it could (no flex attention)",
        Verdict.OK if flex else Verdict.NOTE,
        "" if flex else "Training is slower than it could be; install a C compiler and the package triton.",
        {"flex": flex},
        label="sharing of work",
    )
    yield _four_bit(device)
    several = "can train together (NCCL)" if torch.distributed.is_nccl_available() else "can't (NCCL is missing)"
    yield Finding("kernels", "several GPUs", several)


def _speed(device: torch.device) -> Iterator[Finding]:
    """How fast matrix products are in both number formats, and what that is good for."""
    single, half = (matmul_peak(device, dtype) / 1e9 for dtype in (torch.float32, torch.bfloat16))
    gain = half > SLOW_BF16 * single
    yield Finding(
        "kernels",
        "matrix products",
        f"{_flops(max(single, half))} at best: {_flops(single)} in float32, {_flops(half)} in bfloat16 (numbers of "
        "half the length); 1 GFLOPS is a billion operations a second",
        Verdict.OK if gain else Verdict.NOTE,
        ""
        if gain
        else "Numbers of half the length are slower here, so keep to float32; avem does unless told otherwise.",
        {"float32_gflops": single, "bfloat16_gflops": half},
        label="speed",
    )
    seconds = ROW_OPERATIONS / (USED * 1e9 * max(single, half))
    yield Finding(
        "kernels",
        "7B row",
        f"at best about {_duration(seconds)} to learn from one example (three questions on one video) with a model "
        f"of 7 billion weights, if it fits into memory; {_judged(seconds)}",
        numbers={"seconds": seconds},
        label="what that means",
    )


def _ways(count: int) -> str:
    return "one way" if count == 1 else f"{count} ways"


def _flops(giga: float) -> str:
    return f"{giga:,.0f} GFLOPS" if giga >= 10 else f"{giga:.1f} GFLOPS"


def _duration(seconds: float) -> str:
    """Seconds in the unit that people would say."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 2 else f"{seconds:.1f} seconds"


def _judged(seconds: float) -> str:
    """Whether a run of thousands of rows is a matter of a day, of a week, or out of the question."""
    if seconds <= FAST_ROW_S:
        return "fast enough to train it"
    return "slow, but it can be trained" if seconds <= SLOW_ROW_S else "too slow, so train small models here"


def _attend(device: torch.device, backend: SDPBackend) -> None:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    parts = [torch.ones(1, 2, 16, 64, device=device, dtype=dtype) for _ in range(3)]
    with sdpa_kernel(backend):
        scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)


def _four_bit(device: torch.device) -> Finding:
    if find_spec("bitsandbytes") is None:
        return Finding("kernels", "4-bit weights", "not tried: bitsandbytes is not there")

    def quantise() -> None:
        model = torch.nn.Sequential(torch.nn.Linear(128, 128)).to(torch.bfloat16)
        model.get_output_embeddings = lambda: None  # type: ignore[assignment]
        quantise_linears(model, device)  # type: ignore[arg-type]
        model(torch.ones(1, 128, device=device, dtype=torch.bfloat16))

    works = _runs(quantise)
    return Finding(
        "kernels",
        "4-bit weights",
        "work; they let larger models fit" if works else "fail (bitsandbytes is there and does not run)",
        Verdict.OK if works else Verdict.NOTE,
        "" if works else "Install another version of bitsandbytes, or train without `--set quantise=4bit`.",
        {"works": works},
    )


def _runs(attempt: Callable[[], object]) -> bool:
    """Whether something runs; what a missing kernel raises differs from library to library."""
    try:
        attempt()
    except Exception:  # noqa: BLE001 - the question is whether it runs
        return False
    return True
