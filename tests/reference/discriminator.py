"""Every reference case of the discriminator."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from next3d.discriminator import Discriminator
from tests.reference.folder import Folder
from tests.reference.generators import Named, gradient_norms, load_discriminator


def compute_discriminator(folder: Folder, module: Discriminator | None = None) -> Named:
    """Arrays of next3d_disc; `module` replaces the one that the folder's tensors make."""
    module = load_discriminator(folder) if module is None else module
    stored = folder.stored("next3d_disc")
    image, raw, c = stored["in/image"].requires_grad_(), stored["in/image_raw"].requires_grad_(), stored["in/c"]
    module.requires_grad_(True)
    logits = module(image, raw, None, c)
    by_raw, by_image = torch.autograd.grad(logits.sum(), (raw, image), create_graph=True)
    penalty = by_raw.square().sum(dim=(1, 2, 3)) + by_image.square().sum(dim=(1, 2, 3))
    loss = F.softplus(-logits).mean() + folder.configs["disc"]["r1_gamma"] / 2 * penalty.mean()
    loss.backward()
    yield from (("logits", logits), ("r1/grad_image_raw", by_raw), ("r1/grad_image", by_image), ("r1/penalty", penalty))
    yield "r1/grad_norm_image", by_image.flatten(1).norm(dim=1)
    yield "r1/grad_norm_image_raw", by_raw.flatten(1).norm(dim=1)
    yield "Dgrad/loss", loss
    if names := stored.names("Dgrad/names"):
        yield "Dgrad/norms", gradient_norms(module, names)
    module.zero_grad(set_to_none=True)
    module.requires_grad_(False)
    with torch.no_grad():
        yield "logits_swapped_c", module(image, raw, None, c.roll(1, dims=0))
        yield "logits_single0", module(image[:1], raw[:1], None, c[:1])
