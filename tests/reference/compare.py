"""How far computed arrays are from stored ones, and how far they may be."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tolerance:
    """Limits; None means no limit of that kind."""

    absolute: float | None = None
    """Of the largest error."""
    relative: float | None = None
    """Of the largest error, over the largest magnitude."""
    rms: float | None = None
    """Of the root mean square error, over that of the array."""
    share: float | None = None
    """Of values that differ at all by more than `absolute`; the others are not looked at any further."""


EXACT = Tolerance(absolute=0.0)
MAPS = Tolerance(relative=2e-5, rms=1e-5)
RENDERED = Tolerance(relative=5e-4, rms=3e-5)
OPERATORS = Tolerance(relative=1e-5)
RULES: tuple[tuple[str, Tolerance], ...] = (
    ("next3d_disc/r1/penalty", Tolerance(relative=1e-3)),
    ("next3d_disc/r1/grad_norm", Tolerance(relative=1e-3)),
    ("next3d_disc/r1/grad_image", Tolerance(rms=2e-3)),
    ("next3d_disc/logits", Tolerance(absolute=1e-5)),
    ("/loss", Tolerance(absolute=1e-5)),
    ("/logits", Tolerance(absolute=1e-5)),
    ("/norms", Tolerance(relative=1e-4)),
    ("ops/", OPERATORS),
    ("ws", Tolerance(absolute=2e-5)),
    ("lm2d_front", Tolerance(absolute=1e-6)),
    ("mouth_boxes", EXACT),
    ("verts_ndc", Tolerance(absolute=1e-5)),
    ("pix_to_face", Tolerance(absolute=0.0, share=1e-3)),
    ("zbuf", Tolerance(relative=1e-5)),
    ("bary", Tolerance(absolute=1e-4)),
    ("/uv", Tolerance(absolute=1e-4)),
    ("alpha_", Tolerance(absolute=1e-5)),
    ("feature_samples", RENDERED),
    ("depth_samples", RENDERED),
    ("weight_sum", RENDERED),
    ("feature_rgb_pre_sr", RENDERED),
    ("/ray_", Tolerance(absolute=1e-5)),
    ("/image", RENDERED),
)
"""First rule whose text is in KIND/NAME; everything else is a map of features."""


def tolerance_of(name: str) -> Tolerance:
    """What is allowed for KIND/NAME."""
    return next((rule for text, rule in RULES if text in name), MAPS)


@dataclass(frozen=True)
class Comparison:
    """One array."""

    name: str
    largest: float
    """Largest error over the largest magnitude."""
    rms: float
    passed: bool
    note: str = ""

    def line(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        return f"{self.name:44} max {self.largest:9.2e}  rms {self.rms:9.2e}  {verdict}{self.note and '  ' + self.note}"


def compare(name: str, found: Tensor, expected: Tensor, agreeing: Tensor | None = None) -> Comparison:
    """Judge an array; `agreeing` is a mask of the values that count, broadcast to it. Samples beyond the mask count."""
    if found.shape != expected.shape:
        return Comparison(name, float("inf"), float("inf"), False, f"shape {list(found.shape)}, stored {list(expected.shape)}")
    if found.numel() == 0:
        return Comparison(name, 0.0, 0.0, True, "empty")
    found, expected = found.detach().double(), expected.double()
    error = (found - expected).abs()
    if agreeing is not None:
        count = min(len(agreeing), len(error))
        error[:count] = torch.where(agreeing[:count], error[:count], 0)
    if name.endswith("/norms") and not torch.equal(found < 0, expected < 0):
        return Comparison(name, float("inf"), float("inf"), False, "other parameters have gradients")
    worst, scale = float(error.max()), float(expected.max() if name.endswith("/norms") else expected.abs().max())
    largest = worst / scale if scale else worst
    rms = float(error.norm() / expected.norm().clamp_min(1e-30))
    rule = tolerance_of(name)
    if rule.share is not None:
        counted = (found >= 0) | (expected >= 0)
        share = float((error[counted] > (rule.absolute or 0)).sum()) / max(int(counted.sum()), 1)
        return Comparison(name, largest, rms, share <= rule.share, f"{share:.2e} of the covered pixels differ")
    checks = ((worst, rule.absolute), (largest, rule.relative), (rms, rule.rms))
    passed = all(value <= limit for value, limit in checks if limit is not None) and bool(torch.isfinite(found).all())
    return Comparison(name, largest, rms, passed)
