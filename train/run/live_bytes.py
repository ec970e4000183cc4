"""Bytes of the tensors that live while something runs, with or without storage behind them."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts each storage from the operation that makes it until nothing holds it, in the backward pass too.

    What a kernel allocates and frees inside one operation is not seen. Tensors of `FakeTensorMode` count alike.

    Args:
        known: Tensors that are not counted, such as a model's parameters.

    Example:
        >>> with LiveBytes() as live:
        ...     kept = torch.zeros(4, 4) + 1
        >>> live.now, live.most
        (64, 128)
    """

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch annotates neither the method nor its result
        self.now = 0
        """Bytes of the storages made so far that still live."""
        self.most = 0
        """The largest that `now` has been."""
        self._known = [tensor.untyped_storage() for tensor in known]  # held, so that no other gets its identity
        self._seen: dict[int, weakref.ref[torch.UntypedStorage] | None] = {id(storage): None for storage in self._known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it made."""
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        name, size = id(storage), storage.nbytes()
        if name in self._seen:
            return

        def gone(_: weakref.ref[torch.UntypedStorage]) -> None:
            del self._seen[name]
            self.now -= size

        self._seen[name] = weakref.ref(storage, gone)
        self.now += size
        self.most = max(self.most, self.now)
