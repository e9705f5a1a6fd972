"""Our operators against reference numbers of the published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.reference.compare import compare
from tests.reference.operators import compute


def test_all_cases_agree(shared_dir: Path):
    """Nothing is left out, and every error is below 1e-5 of the largest number."""
    folder = shared_dir / "golden"
    if not (folder / "ops.npz").exists():
        pytest.skip("no reference numbers in ../shared/golden")
    arrays = np.load(folder / "ops.npz", allow_pickle=False)
    results = {name: compare(f"ops/{name}", value, torch.from_numpy(arrays[name])) for name, value in compute(folder)}
    assert set(results) == {name for name in arrays.files if name.endswith("/out")}
    assert not [result.line() for result in results.values() if not result.passed]
    assert max(result.largest for result in results.values()) <= 1e-5
