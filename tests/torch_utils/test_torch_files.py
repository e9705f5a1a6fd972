"""State dicts come out as torch.save wrote them, in both of its containers; programs and damage are refused, nothing is run."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from dnnlib.errors import CheckpointError
from torch_utils.torch_files import read_torch_file


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "bare"])
def test_state_dicts_come_out_as_they_were(tmp_path, zipped, wrapped):
    state = network().state_dict()
    state["shared"] = state["0.weight"][1:, :, ::2]  # a view of another tensor's storage
    state["half"], state["flags"], state["nothing"] = torch.ones(3).half(), torch.tensor([True, False]), torch.zeros(0, 2)
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 3, "state_dict": state} if wrapped else state, path, _use_new_zipfile_serialization=zipped)
    found = read_torch_file(path)
    assert list(found) == list(state)
    for name, value in state.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name
    assert found["shared"].untyped_storage().data_ptr() == found["0.weight"].untyped_storage().data_ptr()


class Attack:
    def __reduce__(self):
        return Path.touch, (Path("made-by-a-pickle"),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("content", ["attack", "module", "list", "number"])
def test_other_things_are_refused(tmp_path, monkeypatch, zipped, content):
    monkeypatch.chdir(tmp_path)
    value = {"attack": Attack(), "module": network(), "list": [1, 2], "number": OrderedDict(a=3)}[content]
    path = tmp_path / "weights.pth"
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        read_torch_file(path)
    assert not Path("made-by-a-pickle").exists()


@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning")
def test_programs_are_refused_by_name(tmp_path):
    path = tmp_path / "program.pt"
    torch.jit.script(network()).save(path)
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_torch_file(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
def test_damage_is_one_sentence(tmp_path, zipped):
    whole, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
    torch.save(network().state_dict(), whole, _use_new_zipfile_serialization=zipped)
    data = whole.read_bytes()
    for length in (0, 3, 50, len(data) // 2, len(data) - 1):
        cut.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"cut\.pth"):
            read_torch_file(cut)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_torch_file(tmp_path / "missing.pth")
    cut.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError):
        read_torch_file(cut)
