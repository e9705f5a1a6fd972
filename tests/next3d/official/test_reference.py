"""Released networks give the reference numbers: those that our own code recorded, and the originals' where they are at hand."""

from __future__ import annotations

import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from next3d.checkpoint import load_discriminator, load_generator
from next3d.commands.main import root, run_command
from tests.reference import run as runner
from tests.reference.__main__ import main
from tests.reference.compare import compare
from tests.reference.folder import Folder
from tests.reference.generators import load_generator as generator_of
from tests.reference.record import record
from tests.reference.run import KINDS, Networks

Change = Callable[[dict[str, np.ndarray]], None]
RECORDED = ("next3d", "next3d_disc", "eg3d")


def results(folder: Folder, *kinds: str, networks: Networks = runner.OWN_NETWORKS) -> runner.Result:
    found = runner.Result()
    for kind in kinds:
        for _ in runner.run(folder, kind, found, networks):
            pass
    return found


def reference(*arguments: str | Path) -> Result:
    """`python -m tests.reference` in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def changed(folder: Folder, target: Path, kind: str, change: Change) -> Path:
    """A copy of the folder after `change(inputs and outputs of kind)`."""
    shutil.copytree(folder.path, target)
    path = target / f"{kind}_{folder.tag}.io.npz"
    arrays = dict(np.load(path, allow_pickle=False))
    change(arrays)
    np.savez(path, **arrays)
    return target


def remove(*beginnings: str) -> Change:
    def change(arrays: dict[str, np.ndarray]) -> None:
        for name in [name for name in arrays if name.startswith(beginnings)]:
            del arrays[name]

    return change


@pytest.mark.parametrize("kind", RECORDED)
def test_recorded_numbers_are_found_again(folder, kind):
    found = results(folder, kind)
    assert not found.failed
    assert not found.missing
    assert found.passed == sum(
        name not in ("S/points",) and not name.startswith("in/") and "names" not in name for name in folder.stored(kind)
    )


def test_recording_with_another_seed_agrees_with_itself(tmp_path):
    """The recorder and the reader of its format fit together; nothing depends on the seed of the committed folder."""
    record(tmp_path, seed=5)
    ran = reference(tmp_path, "--require-all")
    assert ran.exit_code == 0, ran.output
    assert "0 do not, 0 were not computed" in ran.output


MUTATIONS = {
    "views in another place": ("next3d.official.rasters.SHIFT", 0.012, "A/view0/verts_ndc"),
    "views of another size": ("next3d.official.rasters.SCALE", 5.05, "A/alpha_planes"),
    "barycentrics that do not shrink": ("next3d.official.rasters.AREA_EPS", 0.0, "A/view0/zbuf"),
    "walls that hold the flood sooner": ("next3d.official.rasters.SOLID", 0.2, "A/view0/alpha_filled"),
    "mouth between other points": ("next3d.official.mouth.LEFT_CORNER", 53, "A/mouth_boxes"),
    "other third plane": ("next3d.official.rays.ReleasedRays.plane_axes", ((0, 1), (0, 2), (1, 2)), "S/sigma"),
    "weights that never are zero": ("next3d.official.rays.PDF_EPS", 0.1, "B/image_raw/crop"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_change_of_behaviour_is_seen(folder, monkeypatch, name):
    target, value, array = MUTATIONS[name]
    monkeypatch.setattr(target, value)
    assert f"next3d/{array}" in results(folder, "next3d").failed


@pytest.mark.parametrize("kind", RECORDED)
def test_outputs_that_are_not_stored_are_dumped_all_the_same(folder, tmp_path, kind):
    """A folder of inputs alone: nothing is compared, everything is computed."""
    inputs = changed(folder, tmp_path / "inputs", kind, lambda arrays: [arrays.pop(n) for n in list(arrays) if not n.startswith("in/")])
    ran = reference(inputs, "--only", kind, "--dump", tmp_path / "out.npz", "--require-all")
    assert ran.exit_code == 0, ran.output
    assert ran.output.startswith("0 arrays agree")
    expected = {"next3d": "A/image", "next3d_disc": "logits", "eg3d": "A/image/crop"}[kind]  # large ones are thinned
    assert f"{kind}/{expected}" in np.load(tmp_path / "out.npz").files


def test_the_dump_holds_every_stored_output_as_it_is_stored(folder, tmp_path):
    ran = reference(folder.path, "--dump", tmp_path / "out.npz")
    assert ran.exit_code == 0, ran.output
    assert "ops: not in this folder" in ran.output
    dumped = np.load(tmp_path / "out.npz", allow_pickle=False)
    for kind in RECORDED:
        stored = folder.stored(kind).arrays
        outputs = [name for name in stored.files if not name.startswith(("in/", "S/points")) and not name.endswith("names")]
        for name in outputs:
            assert dumped[f"{kind}/{name}"].shape == stored[name].shape, name
            np.testing.assert_allclose(dumped[f"{kind}/{name}"], stored[name], atol=1e-3 * np.abs(stored[name]).max(), err_msg=name)


def test_a_wrong_array_fails(folder, tmp_path):
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["logits"] += 1e-3

    ran = reference(changed(folder, tmp_path / "wrong", "next3d_disc", change), "--only", "next3d_disc")
    assert ran.exit_code == 1
    assert [line.split()[0] for line in ran.output.splitlines() if "FAIL" in line] == ["next3d_disc/logits"]
    assert "1 do not, 0 were not computed" in ran.output


def test_an_array_that_is_not_computed_fails_if_all_are_required(folder, tmp_path):
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["unknown/thing"] = np.zeros(3)

    unknown = changed(folder, tmp_path / "unknown", "next3d_disc", change)
    for arguments, code in (((), 0), (("--require-all",), 1)):
        ran = reference(unknown, "--only", "next3d_disc", *arguments)
        assert ran.exit_code == code
        assert "next3d_disc/unknown/thing" in ran.output


def test_nan_fails():
    assert not compare("eg3d/A/image", torch.tensor([1.0, torch.nan]), torch.ones(2)).passed
    assert not compare("next3d/A/view0/pix_to_face", torch.tensor([1, 2]), torch.tensor([1, 3])).passed


@pytest.mark.parametrize(
    ("kind", "gone"),
    [
        ("next3d", ("Ggrad/",)),
        ("next3d", ("Ggrad/names", "Ggrad/norms")),
        ("next3d", ("S/",)),
        ("next3d", ("B/",)),
        ("next3d", ("A/view", "A/ws")),
        ("next3d_disc", ("Dgrad/", "r1/")),
        ("eg3d", ("S/", "A/")),
    ],
    ids=str,
)
def test_any_array_may_be_missing(folder, tmp_path, kind, gone):
    smaller = Folder(changed(folder, tmp_path / "smaller", kind, remove(*gone)))
    found = results(smaller, kind)
    assert not found.failed
    assert not found.missing
    assert 0 < found.passed < results(folder, kind).passed


def test_a_run_may_be_missing_from_the_configuration(folder, tmp_path):
    smaller = changed(folder, tmp_path / "smaller", "eg3d", remove("B/"))
    configs = json.loads((smaller / "configs.json").read_text())
    del configs["eg3d"]["nrrB"]
    (smaller / "configs.json").write_text(json.dumps(configs))
    found = results(Folder(smaller), "eg3d")
    assert found.passed
    assert not found.failed


def test_generators_run_without_files_of_the_discriminator(folder, tmp_path):
    smaller = tmp_path / "smaller"
    shutil.copytree(folder.path, smaller)
    for path in smaller.glob("next3d_disc*"):
        path.unlink()
    ran = reference(smaller, "--only", "next3d", "--only", "next3d_disc")
    assert ran.exit_code == 0, ran.output
    assert "next3d_disc: not in this folder" in ran.output
    missing = {line.split()[0] for line in ran.output.splitlines() if line.endswith(" not computed") and "/" in line}
    assert {name.split("/")[1] for name in missing} == {"Ggrad"}


@pytest.mark.parametrize(("compared", "masked"), [(1, 2), (2, 1), (2, 2)])
def test_pixels_that_show_another_triangle_do_not_count(compared, masked):
    """Array and mask may be stored for different numbers of samples."""
    expected = torch.rand(compared, 2, 4, 4)
    found, mask = expected.clone(), torch.ones(masked, 1, 4, 4, dtype=torch.bool)
    found[0, :, 1, 2] += 1
    mask[0, :, 1, 2] = False
    assert compare("next3d/A/view0/uv", found, expected, mask).passed
    found[-1, 0, 3, 3] += 1
    assert not compare("next3d/A/view0/uv", found, expected, mask).passed


def test_networks_of_files_replace_those_of_the_folder(folder, tmp_path, next3d_pickle, eg3d_pickle):
    """Snapshots, and what `next3d convert` makes of them; the folder's own tensors are wrong here."""
    wrong = tmp_path / "wrong"
    shutil.copytree(folder.path, wrong)
    for kind in RECORDED:
        np.savez(wrong / f"{kind}_{folder.tag}.state.npz", nothing=np.zeros(1))
    ran = reference(wrong, "--next3d", next3d_pickle, "--eg3d", eg3d_pickle, "--require-all")
    assert ran.exit_code == 0, ran.output
    assert run_command(root, ["convert", str(eg3d_pickle), str(tmp_path / "eg3d.safetensors")], name="next3d") == 0
    ran = reference(wrong, "--only", "eg3d", "--eg3d", tmp_path / "eg3d.safetensors", "--require-all")
    assert ran.exit_code == 0, ran.output


@pytest.mark.slow
def test_the_originals_numbers(shared_dir: Path, tmp_path: Path):
    """Every array; the Next3D generator and the discriminator come from the original snapshot, converted."""
    folder = Folder(shared_dir / "golden")
    packed = folder.path / "next3d_small.snapshot.pkl.xz"
    if not packed.is_file():
        pytest.skip("no reference numbers in ../shared/golden")
    snapshot = tmp_path / "next3d_small.pkl"
    with lzma.open(packed) as source, open(snapshot, "wb") as target:
        shutil.copyfileobj(source, target)
    files = {name: tmp_path / f"{name}.safetensors" for name in ("average", "judge")}
    arguments = ["convert", snapshot, files["average"], "--discriminator", files["judge"]]
    assert run_command(root, [str(argument) for argument in arguments], name="next3d") == 0
    average = load_generator(files["average"])
    networks = Networks({"next3d": average}, load_discriminator(files["judge"]))
    found = results(folder, *KINDS, networks=networks)
    assert not found.failed
    assert not found.missing
    assert found.passed == 199
    from_arrays = generator_of(folder, "next3d").state_dict()
    assert all(torch.equal(value, from_arrays[name]) for name, value in average.state_dict().items())
