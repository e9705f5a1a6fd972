"""Writes network pickles with exactly the structure of the published ones, from a description: what `read_snapshot` is tested with.

    network = Network(
        "TriPlaneGenerator",
        kwargs={"z_dim": 64, "rendering_kwargs": {"ray_start": 2.25}},
        parameters={"backbone.mapping.fc0.weight": torch.zeros(512, 89)},
        buffers={"faces": torch.zeros(9976, 3, dtype=torch.int64)},
        attributes={"neural_rendering_resolution": 64, "renderer.plane_axes": torch.eye(3)},
        plain={"decoder": "training.triplane.OSGDecoder", "decoder.net": "torch.nn.modules.container.Sequential"},
    )
    data = snapshot_bytes({"G_ema": network})

Parts of the network follow from the dotted names. A part is a persistent object unless `plain` names its class; the source text that all
persistent objects carry raises when it is executed. The stand-ins for the original modules exist while the pickle is written only.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

HOSTILE_SOURCE = 'raise RuntimeError("the source text was executed")\n'
_HOOKS = ("_backward_hooks", "_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks")


@dataclass
class Network:
    """A network as its tensors see it. All names are dotted, as in a state dict."""

    class_name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Tensor | None] = field(default_factory=dict)
    buffers: Mapping[str, Tensor | None] = field(default_factory=dict)
    transient: Sequence[str] = ()
    """Buffers that are not in the state dict."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    """Class names of the persistent parts; "Part" otherwise."""
    plain: Mapping[str, str] = field(default_factory=dict)
    """Parts that are no persistent objects, with module and class."""
    order: Sequence[str] = ()
    """Parts in this order first; the others come as their names do."""


class EasyDict(dict):
    """Stands in for the original's class of the same name."""


class _Persistent:
    """Is written as a call of the original's `_reconstruct_persistent_obj`."""

    def __init__(self, class_name: str, state: dict[str, Any], source: str) -> None:
        self.meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name, "state": state}

    def __reduce__(self) -> tuple[Any, ...]:
        return _reconstruct_persistent_obj, (self.meta,)


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
    raise AssertionError("only its name is written")


def snapshot_bytes(
    networks: Mapping[str, Network],
    *,
    training_set: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    protocol: int = 4,
    source: str = HOSTILE_SOURCE,
    containers: type[dict[str, Any]] = dict,
) -> bytes:
    """The pickle of these networks.

    Args:
        networks: by the names under which a snapshot has them: "G", "D", "G_ema".
        training_set: arguments of the data set; left out if None.
        extra: further entries of the outer dictionary.
        protocol: 3 is what Python 3.7 wrote by default, 4 what later versions do.
        source: the text that persistent objects carry.
        containers: of parameters, buffers and children; torch 1.x had OrderedDict.
    """
    classes: dict[str, type] = {}
    root: dict[str, Any] = {} if training_set is None else {"training_set_kwargs": dict(training_set)}
    root |= {name: _part(network, "", source, containers, classes) for name, network in networks.items()}
    root |= extra or {}
    return pickled(root, classes.values(), protocol)


def pickled(value: Any, classes: Any = (), protocol: int = 4) -> bytes:
    """Pickle a value while stand-ins for the original modules and these classes can be found under their names."""
    with _registered([EasyDict, _reconstruct_persistent_obj, *classes]):
        return pickle.dumps(value, protocol)


def storage_bytes(tensor: Tensor) -> bytes:
    """The legacy `torch.save` stream of a tensor's storage."""
    stream = io.BytesIO()
    storage = torch.storage.TypedStorage(wrap_storage=tensor.untyped_storage(), dtype=tensor.dtype, _internal=True)
    torch.save(storage, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def stand_in(path: str) -> type:
    """An empty class that pretends to be `module.Class`."""
    module, _, name = path.rpartition(".")
    return type(name, (), {"__module__": module, "__qualname__": name})


EasyDict.__module__ = "dnnlib.util"
_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


def _part(network: Network, path: str, source: str, containers: type[dict[str, Any]], classes: dict[str, type]) -> Any:
    """One module of a network with everything below it."""
    own = {key: _directly_in(path, values) for key, values in _tables(network).items()}
    children = {name: _part(network, f"{path}.{name}".lstrip("."), source, containers, classes) for name in _children(network, path)}
    state: dict[str, Any] = {
        "training": False,
        "_parameters": containers({k: v if v is None else nn.Parameter(v, requires_grad=False) for k, v in own["parameters"].items()}),
        "_buffers": containers(own["buffers"]),
        "_non_persistent_buffers_set": {name for name in own["buffers"] if f"{path}.{name}".lstrip(".") in network.transient},
        **{hook: OrderedDict() for hook in _HOOKS},
        "_modules": containers(children),
        **own["attributes"],
        "_init_args": (),
        "_init_kwargs": {k: EasyDict(v) if isinstance(v, dict) else v for k, v in network.kwargs.items()} if not path else {},
    }
    if path not in network.plain:
        return _Persistent(network.class_name if not path else network.classes.get(path, "Part"), state, source)
    cls = _class(network.plain[path], classes)
    thing = cls.__new__(cls)
    thing.__dict__.update({key: value for key, value in state.items() if not key.startswith("_init_")})
    return thing


def _tables(network: Network) -> dict[str, Mapping[str, Any]]:
    return {"parameters": network.parameters, "buffers": network.buffers, "attributes": network.attributes}


def _directly_in(path: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What belongs to the part at `path` itself, by its last name."""
    return {name.rpartition(".")[2]: value for name, value in values.items() if name.rpartition(".")[0] == path}


def _children(network: Network, path: str) -> list[str]:
    """Names of the parts right below `path`."""
    prefix = f"{path}." if path else ""
    owners = [name.rpartition(".")[0] for table in _tables(network).values() for name in table]
    parts = [*network.order, *owners, *network.classes, *network.plain]
    below = [part[len(prefix) :].partition(".")[0] for part in parts if part.startswith(prefix) and part != path]
    return list(dict.fromkeys(name for name in below if name))


def _class(path: str, classes: dict[str, type]) -> type:
    """torch's own class, or a stand-in, one for each name."""
    if path.startswith("torch.nn."):
        module, _, name = path.rpartition(".")
        return getattr(sys.modules[module], name)
    return classes.setdefault(path, stand_in(path))


@contextmanager
def _registered(things: Sequence[Any]) -> Iterator[None]:
    """Let `pickle` find these under their names: it insists that a name leads to the object that it writes."""
    stubs: dict[str, ModuleType] = {}
    for thing in things:
        stub = stubs.setdefault(thing.__module__, ModuleType(thing.__module__))
        setattr(stub, thing.__name__, thing)
    for package in {name.partition(".")[0] for name in stubs} - set(sys.modules):
        stubs.setdefault(package, ModuleType(package))
    before = {name: sys.modules.get(name) for name in stubs}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
