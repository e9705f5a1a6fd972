"""Resampling with an FIR filter: insert zeros, pad, filter, drop samples (StyleGAN2, App. B; Karras et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from torch_utils.custom_ops import Backend, resolve_backend

Filter = Sequence[float] | Sequence[Sequence[float]] | Tensor | None
"""What images are filtered with: taps [taps] for both axes or a dense filter [rows, columns], as tuples or as a tensor; None: (1,)."""
Pair = int | Sequence[int]
"""One number for both axes, or (x, y)."""
Padding = int | Sequence[int]
"""Zeros around an image: one number, (x, y), or (x before, x after, y before, y after); negative numbers crop."""
XY = tuple[int, int]
Sides = tuple[int, int, int, int]
"""x before, x after, y before, y after."""

BINOMIAL = (0.125, 0.375, 0.375, 0.125)
"""The filter of StyleGAN2's up- and downsampling."""


def upfirdn2d(
    x: Tensor,
    filter: Filter = BINOMIAL,
    *,
    up: Pair = 1,
    down: Pair = 1,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
    backend: Backend = "auto",
) -> Tensor:
    """Resample images.

    1. Insert `up - 1` zeros after every sample.
    2. Pad with `padding` zeros; negative numbers crop.
    3. Convolve with `filter`, as it is: a filter that keeps the mean has the sum 1. Multiply by `gain`. No zeros are added for this.
    4. Keep every `down`-th sample, beginning with the first.

    Args:
        x: [N, C, H, W], floating point.
        filter: see `Filter`. A tensor may want a gradient, but only taps in a tuple go to the C++ backend.
        up: whole factor, see `Pair`.
        down: whole factor, see `Pair`.
        padding: see `Padding`.
        flip_filter: correlate instead of convolving.
        backend: "ref", "cpu" (C++, float32 and float64, taps in a tuple), or "auto". All derivatives exist with each.

    Returns:
        [N, C, (H * up_y + padding of y - filter's rows) // down_y + 1, the same for W].

    Raises:
        ValueError: arguments of another form, or an image that is smaller than the filter.
        BackendError: an explicit backend that is not there.
    """
    factors = _factors(up, "up"), _factors(down, "down")
    sides = four_sides(padding)
    height, width = _output_size(x, filter, *factors, sides)
    simple = _is_line(filter) and x.dtype in (torch.float32, torch.float64)
    if backend == "auto" and not simple:
        backend = "ref"
    if _backend(backend, x.device.type) == "cpu":
        if not simple:
            raise ValueError("upfirdn2d: backend='cpu' takes taps in a tuple, float32 and float64; use 'auto' or 'ref' for others")
        taps = (1.0,) if filter is None else tuple(filter)
        correlated = taps if flip_filter else taps[::-1]
        return torch.ops.next3d.upfirdn2d(x, [tap * gain for tap in correlated], correlated, *factors, sides[::2], height, width)
    return _upfirdn2d_ref(x, filter, *factors, sides, flip_filter, gain)


def upsample2d(
    x: Tensor,
    filter: Filter = BINOMIAL,
    *,
    up: Pair = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
    backend: Backend = "auto",
) -> Tensor:
    """[N, C, H, W] to [N, C, H * up_y, W * up_x], aligned at the image's edges; keeps the mean. `padding` counts in high resolution."""
    factors = _factors(up, "up")
    sides = resampling_padding(filter, up=up, padding=padding)
    gain = gain * factors[0] * factors[1]
    return upfirdn2d(x, filter, up=up, padding=sides, flip_filter=flip_filter, gain=gain, backend=backend)


def downsample2d(
    x: Tensor,
    filter: Filter = BINOMIAL,
    *,
    down: Pair = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
    backend: Backend = "auto",
) -> Tensor:
    """[N, C, H, W] to [N, C, H / down_y, W / down_x], aligned at the image's edges. `padding` counts in high resolution."""
    sides = resampling_padding(filter, down=down, padding=padding)
    return upfirdn2d(x, filter, down=down, padding=sides, flip_filter=flip_filter, gain=gain, backend=backend)


def filter2d(
    x: Tensor,
    filter: Filter = BINOMIAL,
    *,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
    backend: Backend = "auto",
) -> Tensor:
    """[N, C, H, W] to the same size (and `padding`). Even numbers of taps move it by half a pixel to the lower right."""
    sides = resampling_padding(filter, padding=padding)
    return upfirdn2d(x, filter, padding=sides, flip_filter=flip_filter, gain=gain, backend=backend)


def resampling_padding(filter: Filter, *, up: Pair = 1, down: Pair = 1, padding: Padding = 0) -> Sides:
    """What to pad so that resampling gives size * up / down and keeps the image where it is, plus `padding`."""
    columns, rows = filter_size(filter)
    x_before, x_after, y_before, y_after = four_sides(padding)
    (up_x, up_y), (down_x, down_y) = _factors(up, "up"), _factors(down, "down")
    x_more, y_more = _around(columns, up_x, down_x), _around(rows, up_y, down_y)
    return x_before + x_more[0], x_after + x_more[1], y_before + y_more[0], y_after + y_more[1]


def _around(taps: int, up: int, down: int) -> tuple[int, int]:
    """Zeros before and after a line: the taps but one, or but `down`, with the odd one before; inserted zeros lie behind their sample."""
    total = taps - down
    before = (total + up) // 2
    return before, total - before


def filter_size(filter: Filter) -> XY:
    """Columns and rows of a filter.

    Raises:
        ValueError: not a filter.
    """
    shape = filter.shape if isinstance(filter, Tensor) else _shape((1.0,) if filter is None else filter)
    if len(shape) not in (1, 2) or 0 in shape:
        raise ValueError(f"filter: shape {list(shape)}, expected [taps] or [rows, columns]")
    return shape[-1], shape[0]


def _shape(filter: Sequence[float] | Sequence[Sequence[float]]) -> tuple[int, ...]:
    lengths = {len(row) for row in filter if isinstance(row, Sequence)}
    if len(lengths) > 1 or (lengths and not all(isinstance(row, Sequence) for row in filter)):
        raise ValueError("filter: its rows have different lengths")
    return (len(filter), *lengths)


def four_sides(padding: Padding) -> Sides:
    """Padding as (x before, x after, y before, y after).

    Raises:
        ValueError: neither one, two nor four numbers.
    """
    if isinstance(padding, int):
        return padding, padding, padding, padding
    if len(padding) not in (2, 4):
        raise ValueError(f"padding={padding!r}, expected one number, (x, y), or (x before, x after, y before, y after)")
    half = len(padding) // 2
    return padding[0], padding[half - 1], padding[half], padding[-1]


def _factors(given: Pair, name: str) -> XY:
    """`up` or `down` as (x, y)."""
    pair = (given, given) if isinstance(given, int) else tuple(given)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"{name}={given!r}, expected a whole number >= 1, or two of them as (x, y)")
    return pair[0], pair[1]


def _output_size(x: Tensor, filter: Filter, up: XY, down: XY, sides: Sides) -> tuple[int, int]:
    """Height and width of the result."""
    if x.ndim != 4:
        raise ValueError(f"x: shape {tuple(x.shape)}, expected [N, C, H, W]")
    columns, rows = filter_size(filter)
    width, height = x.shape[3] * up[0] + sides[0] + sides[1], x.shape[2] * up[1] + sides[2] + sides[3]
    if height < rows or width < columns:
        raise ValueError(f"upfirdn2d: [{height}, {width}] with zeros and padding is smaller than the filter [{rows}, {columns}]")
    return (height - rows) // down[1] + 1, (width - columns) // down[0] + 1


def _is_line(filter: Filter) -> bool:
    return filter is None or (not isinstance(filter, Tensor) and not isinstance(filter[0], Sequence))


def _upfirdn2d_ref(x: Tensor, filter: Filter, up: XY, down: XY, sides: Sides, flip_filter: bool, gain: float) -> Tensor:
    channels, (step_x, step_y) = x.shape[1], down
    kernel = _kernel(filter, x)
    if not flip_filter:
        kernel = kernel.flip(list(range(kernel.ndim)))
    x = F.pad(_insert_zeros(x, *up), sides)
    if kernel.ndim == 2:
        return F.conv2d(x, (kernel * gain).expand(channels, 1, -1, -1), stride=(step_y, step_x), groups=channels)
    x = F.conv2d(x, (kernel * gain).expand(channels, 1, 1, -1), stride=(1, step_x), groups=channels)
    return F.conv2d(x, kernel[:, None].expand(channels, 1, -1, 1), stride=(step_y, 1), groups=channels)


def _kernel(filter: Filter, x: Tensor) -> Tensor:
    """[taps] or [rows, columns] of x's dtype, on its device."""
    if isinstance(filter, Tensor):
        return filter.to(x)
    taps: tuple[Any, ...] = (1.0,) if filter is None else tuple(tuple(row) if isinstance(row, Sequence) else row for row in filter)
    return _kept(taps, x.dtype, x.device)


@lru_cache(maxsize=32)
def _kept(taps: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept per device: copying it there with every call would wait for the device. What the first caller's context was must not matter."""
    with torch.inference_mode(False):
        return torch.tensor(taps, dtype=dtype, device=device)


def _insert_zeros(x: Tensor, up_x: int, up_y: int) -> Tensor:
    if up_x == up_y == 1:
        return x
    batch, channels, height, width = x.shape
    x = F.pad(x.reshape(batch, channels, height, 1, width, 1), (0, up_x - 1, 0, 0, 0, up_y - 1))
    return x.reshape(batch, channels, height * up_y, width * up_x)


@torch.compiler.assume_constant_result
def _backend(backend: Backend, device: str) -> str:
    return resolve_backend(backend, "upfirdn2d", device, _register)


def _register() -> None:
    """Tell torch.compile and autograd about the C++ op. Its gradient is the same op, so derivatives of any order exist."""

    def fake(
        x: Tensor, taps_x: list[float], taps_y: list[float], up: list[int], down: list[int], pad: list[int], height: int, width: int
    ) -> Tensor:
        last = x.shape[1] > 1 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        order = torch.channels_last if last else torch.contiguous_format
        return torch.empty((*x.shape[:2], height, width), dtype=x.dtype, device=x.device, memory_format=order)

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *ctx.taps, ctx.up, ctx.down, ctx.pad, _, _ = inputs
        ctx.size = x.shape[2:]

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        flipped = [taps[::-1] for taps in ctx.taps]
        pad = [len(taps) - 1 - pad for taps, pad in zip(ctx.taps, ctx.pad, strict=True)]
        return torch.ops.next3d.upfirdn2d(gradient, *flipped, ctx.down, ctx.up, pad, *ctx.size), *(None,) * 7

    torch.library.register_fake("next3d::upfirdn2d", fake)
    torch.library.register_autograd("next3d::upfirdn2d", backward, setup_context=setup)
    register_flop_formula(torch.ops.next3d.upfirdn2d)(_flops)


def _flops(
    x: list[int],
    taps_x: list[float],
    taps_y: list[float],
    up: list[int],
    down: list[int],
    pad: list[int],
    height: int,
    width: int,
    **options: Any,
) -> int:
    """Multiplications and additions of two passes over the padded image; as PyTorch counts the reference."""
    padded_height = (height - 1) * down[1] + len(taps_y)
    return 2 * x[0] * x[1] * width * (len(taps_x) * padded_height + len(taps_y) * height)
