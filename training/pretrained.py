"""Training that starts from a published network: what fits is taken over, the rest stays fresh, and both are said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dnnlib.errors import CheckpointError
from next3d.official.build import own_weights
from next3d.official.published import AVERAGE, JUDGE, RAW, Published
from training.state import TrainState

BRANCHES = {"generator": (RAW, AVERAGE), "average": (AVERAGE, RAW), "discriminator": (JUDGE,)}
"""For each network of a run, where in a snapshot its weights are looked for first."""


@dataclass(frozen=True)
class Match:
    """What a network and a set of tensors have in common."""

    taken: tuple[str, ...]
    """Tensors of the network that got new values."""
    fresh: tuple[str, ...]
    """Tensors of the network for which there was nothing."""
    left: tuple[str, ...]
    """Given tensors without a place, or of another shape."""


def resume_published(path: Path, state: TrainState) -> list[str]:
    """Start all networks of a run from a published snapshot.

    Returns:
        Lines for people: what was taken, what is new, what was left.

    Raises:
        CheckpointError: not such a file, without a generator, or nothing in it fits ours.
    """
    published, lines = Published.open(path), []
    for name, network in state.networks().items():
        source = next((found for found in BRANCHES[name] if found in published.snapshot.networks), None)
        if source is None and name == "generator":
            raise CheckpointError(f"{path}: holds no generator; expected a snapshot of EG3D or Next3D")
        if source is None:
            continue
        found = published.snapshot.networks[source]
        try:
            match = take_matching(network, own_weights(found.tensors, found.kwargs))
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {source}: {error}") from error
        if not match.taken and name == "generator":
            raise CheckpointError(
                f"{path}: nothing in it has the shape of this network's parts; train with a preset of its sizes "
                "(for published networks --cfg official-512)"
            )
        if name != "average":  # the generator's lines say the same
            lines += [f"{path.name}, {source} -> {name}:", *_described(network, match)]
    return lines


@torch.no_grad()
def take_matching(network: nn.Module, tensors: Mapping[str, Tensor]) -> Match:
    """Copy every block whose tensors are all there in its own shapes; half a block would be worse than a fresh one."""
    own = network.state_dict()
    unfit = {_block(name) for name, value in own.items() if name not in tensors or tensors[name].shape != value.shape}
    taken = [name for name in own if _block(name) not in unfit]
    for name in taken:
        own[name].copy_(tensors[name])
    chosen = set(taken)
    return Match(tuple(taken), tuple(name for name in own if name not in chosen), tuple(name for name in tensors if name not in chosen))


def _block(name: str) -> str:
    """The part of a network that is taken or left as a whole: `static.b64`, `mouth.complete.b64`, `mapping_network.fc0`."""
    return ".".join(name.split(".")[: 3 if name.startswith("mouth.") else 2])


def _described(network: nn.Module, match: Match) -> Iterator[str]:
    own = network.state_dict()
    for title, names in (("taken", match.taken), ("new", match.fresh)):
        counts: dict[str, int] = {}
        for name in names:
            counts[name.partition(".")[0]] = counts.get(name.partition(".")[0], 0) + own[name].numel()
        yield f"  {title}: " + (", ".join(f"{part} {count:,}" for part, count in counts.items()) or "nothing")
    parts = dict.fromkeys(name.partition(".")[0] for name in match.left)
    yield f"  left: {len(match.left)} tensors" + (f" of {', '.join(parts)}" if parts else "")
