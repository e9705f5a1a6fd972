"""Watching that nothing waits for the device."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class NoHost(TorchDispatchMode):
    """Refuses operators whose result the host would have to wait for."""

    FORBIDDEN = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2", "unique_dim", "bincount")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.FORBIDDEN, f"{name} waits for the device"
        if name in ("index", "index_put_", "index_put"):
            assert not any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]), (
                "a mask waits for the device"
            )
        return func(*args, **(kwargs or {}))
