"""What the computer has."""

from __future__ import annotations

import os


def physical_cores() -> int:
    """CPU cores that this process may use, hyper-threads counted once; at least 1."""
    import psutil

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(psutil.cpu_count(logical=False) or 1, usable or 1))
