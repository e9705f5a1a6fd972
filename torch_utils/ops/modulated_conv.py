"""Convolutions that resample, and convolutions whose weights are modulated by a style (StyleGAN2, Sec. 2.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops.bias_act import Activation, bias_act
from torch_utils.ops.upfirdn2d import BINOMIAL, Filter, Padding, Sides, four_sides, resampling_padding, upfirdn2d

DEMODULATION_EPS = 1e-8


def conv2d_resample(
    x: Tensor,
    weight: Tensor,
    filter: Filter = BINOMIAL,
    *,
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
) -> Tensor:
    """A convolution between filtered upsampling and filtered downsampling.

    The definition is `upsample2d`, convolution, `downsample2d` of an image that goes on with zeros for ever: all padding is added in front.
    Filters and convolution change places where that is cheaper, which gives the same sums.

    Args:
        x: [N, C, H, W].
        weight: [O, C / groups, rows, columns].
        filter: what both resamplings use, see `upfirdn2d`; not used without resampling.
        up: whole factor, 1 or more.
        down: whole factor, 1 or more.
        padding: zeros around the upsampled image, see `Padding`; (k - 1) / 2 keeps the size with a k x k weight.
        groups: as in `torch.nn.functional.conv2d`.
        flip_weight: correlate, as PyTorch does; False convolves. Layers of published networks convolve where they upsample.
        flip_filter: as in `upfirdn2d`.

    Returns:
        [N, O, (H * up + padding of y - rows + 1) // down, the same for W].

    Raises:
        ValueError: arguments of another form, or an image that is smaller than weight and filter.
    """
    if min(up, down) < 1:
        raise ValueError(f"conv2d_resample: up={up}, down={down}, expected whole numbers >= 1")
    if x.device.type == "cpu":
        # CPUs convolve faster with the channels of a pixel side by side; all that follows keeps that order, so it is converted once.
        x = x.contiguous(memory_format=torch.channels_last)
    sides = four_sides(padding)
    if up > 1:
        sides = resampling_padding(filter, up=up, padding=sides)
    if down > 1:
        sides = resampling_padding(filter, down=down, padding=sides)
    if up > 1:
        x, sides = _insert_zeros_and_convolve(x, weight, up, sides, groups, flip_weight)
        x = upfirdn2d(x, filter, padding=sides, flip_filter=flip_filter, gain=float(up * up))
        return upfirdn2d(x, filter, down=down, flip_filter=flip_filter) if down > 1 else x
    weight = weight if flip_weight else weight.flip(2, 3)
    if down > 1 and weight.shape[2:] == (1, 1):
        return F.conv2d(upfirdn2d(x, filter, down=down, padding=sides, flip_filter=flip_filter), weight, groups=groups)
    if down > 1:
        return F.conv2d(upfirdn2d(x, filter, padding=sides, flip_filter=flip_filter), weight, stride=down, groups=groups)
    if sides[0] == sides[1] >= 0 and sides[2] == sides[3] >= 0:
        return F.conv2d(x, weight, padding=(sides[2], sides[0]), groups=groups)
    return F.conv2d(F.pad(x, sides), weight, groups=groups)


def _insert_zeros_and_convolve(x: Tensor, weight: Tensor, up: int, sides: Sides, groups: int, flip_weight: bool) -> tuple[Tensor, Sides]:
    """Both as one transposed convolution, [N, O, (H - 1) * up + rows, ...], and how much of `sides` it leaves to be padded."""
    weight = weight.flip(2, 3) if flip_weight else weight
    grouped = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)  # [C, O / groups, rows, columns]
    x = F.conv_transpose2d(x, grouped, stride=up, groups=groups)
    rows, columns = weight.shape[2:]
    left, right, above, below = sides
    return x, (left - columns + 1, right - columns + up, above - rows + 1, below - rows + up)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    filter: Filter = BINOMIAL,
    *,
    noise: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    flip_weight: bool = True,
    flip_filter: bool = False,
    demodulate: bool = True,
    bias: Tensor | None = None,
    act: Activation = "linear",
    clamp: float | None = None,
) -> Tensor:
    """Convolve each sample with its own modulated (and demodulated) weights; then noise, bias and activation as in `bias_act`.

    Scales the activations before and after one shared convolution, which is the same sum as scaling the weights per sample
    (StyleGAN2, Sec. 2.2, Eq. 1 and 3) but keeps the batch in one dense convolution.

    Args:
        x: [N, C, H, W].
        weight: [O, C, rows, columns].
        styles: [N, C], scale of every input channel.
        filter, up, down, padding, flip_weight, flip_filter: see `conv2d_resample`.
        noise: [N or 1, 1, H', W'] or [H', W'] in the result's size, added after demodulation.
        demodulate: scale every output channel to unit expected variance.
        bias: [O] or None.
        act: activation, with its default gain.
        clamp: limit of the absolute value; None does not limit.

    Returns:
        [N, O, H', W'] as `conv2d_resample` gives it.
    """
    if demodulate and x.dtype == torch.float16:
        weight, styles = _normalized(weight, styles)
    x = conv2d_resample(
        x * styles.to(x.dtype)[:, :, None, None],
        weight.to(x.dtype),
        filter,
        up=up,
        down=down,
        padding=padding,
        flip_weight=flip_weight,
        flip_filter=flip_filter,
    )
    scale = None
    if demodulate:
        power = weight.square().sum(dim=(2, 3))  # [O, C]
        scale = (styles.square() @ power.t() + DEMODULATION_EPS).rsqrt()  # [N, O]
    return bias_act(x, bias, scale=scale, noise=noise, act=act, clamp=clamp)


def _normalized(weight: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [O, C, rows, columns] and styles [N, C] so small that their sums stay in float16's range.

    Demodulation cancels both factors, and with them their gradients (Karras et al. 2020, "Training GANs with limited data", appendix on
    implementation details).
    """
    largest = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True) * weight[0].numel() ** 0.5
    strongest = styles.detach().abs().amax(dim=1, keepdim=True)
    return weight / largest.clamp_min(DEMODULATION_EPS), styles / strongest.clamp_min(DEMODULATION_EPS)
