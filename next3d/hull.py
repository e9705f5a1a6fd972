"""A start for small networks: density where the mesh is, before anything has been learned.

A fresh generator is a fog in which all three planes smear along the rays, and most of a short training goes into finding out where the
head is. Here the first plane channel starts as "covered by the mesh" (+1) or not (-1) and the decoder's first hidden unit turns it into
density, so that training begins with a dense face in thin fog. Nothing is fixed: these are initial values of ordinary parameters.
"""

from __future__ import annotations

import torch

from next3d.decoder import Decoder
from next3d.stylegan2.synthesis import SynthesisNetwork

SHARPNESS = 4.0
"""Slope from the mean of the planes' flags to the hidden unit: two covered planes of three count for little."""


@torch.no_grad()
def start_from_hull(texture: SynthesisNetwork, static: SynthesisNetwork, decoder: Decoder, density: float) -> None:
    """Set initial values so that raw density is about `SHARPNESS * density` where the mesh covers all planes and near 0 elsewhere.

    Args:
        texture, static: fresh networks; the first channel of each plane becomes the flag.
        decoder: fresh decoder; its first hidden unit reads the flag alone and adds to nothing but density.
        density: raw density per unit of the hidden activation.
    """
    texture.last_torgb.bias[0] = 1
    static.last_torgb.bias.unflatten(0, (3, -1))[:, 0] = -1
    hidden, output = decoder.hidden, decoder.output
    hidden.weight[0] = 0
    hidden.weight[0, 0] = SHARPNESS / hidden.weight_gain
    output.weight[:, 0] = 0
    output.weight[0, 0] = density / output.weight_gain
