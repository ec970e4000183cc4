"""A pretended GPU: tensors on a device of their own, with PyTorch's rules about devices, computed on the CPU.

For every operation `FakeTensorMode` decides which devices may meet and where the result lies; the CPU computes the
values. A tensor left on the wrong device therefore fails as it does on a GPU, while code that reads values (`item`,
`tolist`) runs, gradients flow, and every result can be compared with the CPU's.

The device is called `gpu`, PyTorch's place for backends of one's own: a build without CUDA can't slice or
differentiate `cuda` tensors, fake or not. Registering it changes the whole process, so `test_pretended_gpu.py` runs
these tests in one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorDeviceMismatchError,
    FakeTensorMode,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from tests.gpu.autocast import teach_autocast


class _Backend(_DummyBackendModule):
    """What `torch.gpu` answers."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


NAME = "gpu"
_setup_privateuseone_for_python_backend(NAME, _Backend())
AUTOCAST = teach_autocast(NAME)
GPU = torch.device(NAME, 0)
CPU = torch.device("cpu")
SET_DATA = torch.Tensor.data.__set__  # type: ignore[attr-defined]
"""What `tensor.data = other` calls."""


class GpuTensor(torch.Tensor):
    """Says that it is on the pretended GPU; `held` has the values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> GpuTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=GPU,
            requires_grad=held.requires_grad,
        )
        made.held = held
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"GpuTensor({self.held!r})"

    def tolist(self) -> Any:
        return self.held.tolist()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("A tensor on a GPU can't become a NumPy array; call .cpu() first.")

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = GpuTensor(self.held.clone())
        return torch.nn.Parameter(copied, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copied

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} ran outside `pretended_gpu()`.")


class _Generator(torch.Generator):
    """A generator of the pretended GPU draws what the CPU's draws."""

    @staticmethod
    def __new__(cls, device: Any = CPU) -> _Generator:
        return super().__new__(cls, CPU if torch.device(device).type == NAME else device)


class _Operations(TorchDispatchMode):
    """Computes on the CPU what `FakeTensorMode` allows, and puts each result where that says."""

    def __init__(self) -> None:
        super().__init__()
        self.rules = FakeTensorMode(allow_non_fake_inputs=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_flatten((args, kwargs))[0]
        if not any(_is_on_gpu(leaf) for leaf in leaves):
            return func(*args, **kwargs)  # nothing but the CPU takes part
        devices = self._devices(func, args, kwargs)
        if func is torch.ops.aten.histc.default and not args[0].is_floating_point():  # on a CPU for floats alone
            return GpuTensor(func(_on_cpu(args[0]).float(), *args[1:], **kwargs).to(args[0].dtype))
        found = func(*tree_map(_on_cpu, args), **tree_map(_on_cpu, kwargs))
        return _placed(found, devices, leaves)

    def _devices(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.device] | None:
        """Where each tensor of the result lies; None where that depends on values."""
        leaves, spec = tree_flatten((args, kwargs))
        if func.namespace != "aten":
            _refuse_mixed(func, leaves)
        with self.rules:
            fakes = [self._fake(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
            fake_args, fake_kwargs = tree_unflatten(fakes, spec)
            try:
                found = func(*fake_args, **fake_kwargs)
            except (DataDependentOutputException, DynamicOutputShapeException):
                return None
        return [leaf.device for leaf in tree_flatten(found)[0] if isinstance(leaf, torch.Tensor)]

    def _fake(self, tensor: torch.Tensor) -> FakeTensor:
        with _disable_current_modes():
            meta = torch.empty_strided(tensor.shape, _on_cpu(tensor).stride(), dtype=tensor.dtype, device="meta")
        return FakeTensor(self.rules, meta, tensor.device)


class _FirstDevice(TorchFunctionMode):
    """`gpu` is `gpu:0`, as `cuda` is `cuda:0`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.stft and isinstance(args[0], GpuTensor):  # changes shapes in place, which these tensors can't
            assert kwargs["window"].device == GPU
            return GpuTensor(func(*tree_map(_on_cpu, args), **tree_map(_on_cpu, kwargs)))
        if func == SET_DATA and isinstance(args[0], GpuTensor) and isinstance(args[1], GpuTensor):
            args[0].held = args[1].held
        if func is torch.device and args[1:]:  # as a copied device is made again: its name is no device
            return func(*args)
        return func(*tree_map(_first, args), **tree_map(_first, kwargs or {}))


def _first(value: Any) -> Any:
    return GPU if _is_device(value) or (isinstance(value, str) and value == NAME) else value


def _is_on_gpu(value: Any) -> bool:
    return isinstance(value, GpuTensor) or _is_device(value)


def _refuse_mixed(func: Any, leaves: Sequence[Any]) -> None:
    """Other libraries' operations: `FakeTensorMode` asks them for shapes alone, and their kernels read one device."""
    found = {leaf.device for leaf in leaves if isinstance(leaf, torch.Tensor)}
    if len(found) > 1:
        raise FakeTensorDeviceMismatchError(func, *sorted(found, key=str)[:2])


def _is_device(value: Any) -> bool:
    return isinstance(value, torch.device) and value.type == NAME


def _on_cpu(value: Any) -> Any:
    if isinstance(value, GpuTensor):
        return value.held
    return CPU if _is_device(value) else value


def _placed(found: Any, devices: list[torch.device] | None, inputs: Sequence[Any]) -> Any:
    """Results as tensors of their device; what an operation changed in place stays the tensor that it was."""
    tensors = [leaf for leaf in inputs if isinstance(leaf, torch.Tensor)]
    known = {id(_on_cpu(tensor)): tensor for tensor in tensors}
    leaves, spec = tree_flatten(found)
    if devices is None:
        on_gpu = any(isinstance(tensor, GpuTensor) for tensor in tensors)
        devices = [GPU if on_gpu else CPU] * len(leaves)
    each = iter(devices)
    placed = []
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            device = next(each)
            same = known.get(id(leaf))
            if same is not None and same.device == device:
                leaf = same
            else:
                moved = leaf if same is None else leaf.clone()  # what the CPU need not copy, a GPU does
                leaf = GpuTensor(moved) if device.type == NAME else moved
        placed.append(leaf)
    return tree_unflatten(placed, spec)


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """Run a block with the pretended GPU; gives its device."""
    lifted = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor(list, device=...)` passes through the operations
    try:
        with patch.object(torch, "Generator", _Generator), _FirstDevice(), _Operations():
            yield GPU
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)
