"""One network on several ranks: gradients are averaged by PyTorch's DistributedDataParallel while the backward pass still runs.

DistributedDataParallel wants a module's `forward` to lead to the loss. Here it gets one whose `forward` calls any function that uses the
network, so that several losses share one network and its buckets. Unused parameters are looked for in every pass: some losses leave some
out (R1 does not depend on the last bias), and buckets then keep the order of their first use, which a resumed run could not know.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from torch_utils.distributed import world

Compute = Callable[[], tuple[Tensor, ...]]
"""Uses a network; returns the tensors that the backward pass starts from."""


class Replica:
    """This rank's copy of a network. A process that is alone calls the network directly."""

    def __init__(self, network: nn.Module) -> None:
        """Args: network: the same weights on every rank; what takes no gradients is left alone, buffers are never sent."""
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._parallel = _parallel(network) if world().size > 1 else None

    def __call__(self, compute: Compute) -> tuple[Tensor, ...]:
        """The results of `compute()`, prepared for a backward pass into `parameters`."""
        if self._parallel is None:
            return compute()
        return self._parallel(compute)


@contextmanager
def accumulate(*replicas: Replica, last: bool) -> Iterator[None]:
    """Around the forward and backward passes of one part of a batch: gradients stay on their rank until the last part's backward pass."""
    with ExitStack() as stack:
        for replica in replicas:
            if replica._parallel is not None and not last:
                stack.enter_context(replica._parallel.no_sync())
        yield


def _parallel(network: nn.Module) -> DistributedDataParallel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # `broadcast_buffers` was renamed in torch 2.13; older ones know this name only
        return DistributedDataParallel(_Forward(network), find_unused_parameters=True, broadcast_buffers=False)


class _Forward(nn.Module):
    """A module whose forward is whatever it is given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, compute: Compute) -> tuple[Tensor, ...]:
        return compute()
