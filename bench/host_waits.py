"""Where a program waits for its device: operators whose result the host needs, and the lines of ours that asked for it.

On a CPU nothing ever waits, but the operators are the same, so what a GPU would wait for is found on any machine. Copies from and to a
GPU show only on one: `cuda_waits` asks CUDA itself.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

OPERATORS = frozenset(
    {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2", "unique_dim", "bincount"}
)
METHODS = ("tolist", "numpy", "cpu")
"""Methods of tensors that no dispatcher sees on a CPU."""
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("dnnlib", "torch_utils", "next3d", "training")


class HostWaits(TorchDispatchMode):
    """Counts, while it is entered, what waits, as (operator, "training/trainer.py:step")."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[str, str]] = Counter()
        self._patches = ExitStack()

    def __enter__(self) -> HostWaits:
        for name in METHODS:
            self._patches.enter_context(patch.object(Tensor, name, self._counted(name, getattr(Tensor, name))))
        super().__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        self._patches.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put_", "index_put") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in OPERATORS or by_mask:
            self.note(f"{name} by mask" if by_mask else name)
        return func(*args, **(kwargs or {}))

    def note(self, name: str) -> None:
        """Count one."""
        self.found[name, _place(sys._getframe(1))] += 1

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.note(name)
            return method(tensor, *args, **kwargs)

        return counted


def _place(frame: FrameType | None) -> str:
    """The innermost function of our packages; "elsewhere" if there is none."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES:
            return f"{path.relative_to(ROOT).as_posix()}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


@contextmanager
def cuda_waits() -> Iterator[Counter[tuple[str, str]]]:
    """The same from CUDA's own watch on synchronisation; the counter is filled when the block ends."""
    found: Counter[tuple[str, str]] = Counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        if "synchroniz" in str(warning.message):
            found["synchronisation", f"{warning.filename}:{warning.lineno}"] += 1
