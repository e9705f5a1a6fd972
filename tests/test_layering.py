"""Imports go down only: commands → training, inversion, stylization → next3d → torch_utils → dnnlib; optional packages stay optional."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

BELOW = {
    "dnnlib": {"dnnlib"},
    "torch_utils": {"torch_utils", "dnnlib"},
    "next3d": {"next3d", "torch_utils", "dnnlib"},
    "training": {"training", "next3d", "torch_utils", "dnnlib"},
    "inversion": {"inversion", "next3d", "torch_utils", "dnnlib"},
    "stylization": {"stylization", "next3d", "torch_utils", "dnnlib"},
}
OWN = {*BELOW, "bench", "tests"}
CORE = {"torch", "numpy", "scipy", "PIL", "click", "safetensors"}
"""What the model, the synthetic data and the training loop may import at their top."""


def top_package(file: Path, root: Path) -> str:
    return file.relative_to(root).parts[0]


def source_files(root: Path) -> list[Path]:
    return [file for package in BELOW for file in sorted((root / package).rglob("*.py"))]


def imported_modules(nodes: Iterator[ast.AST]) -> set[str]:
    """Full names of the modules that these statements import."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


def top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that run when the module is imported; what stands under TYPE_CHECKING does not."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


def test_imports_go_down_only(repository: Path):
    wrong = []
    for file in source_files(repository):
        package = top_package(file, repository)
        is_roof = file.is_relative_to(repository / "next3d" / "commands")
        allowed = OWN - {"bench", "tests"} if is_roof else BELOW[package]
        used = {name.partition(".")[0] for name in imported_modules(ast.walk(ast.parse(file.read_text())))}
        wrong += [f"{file.relative_to(repository)} imports {name}" for name in sorted((used & OWN) - allowed)]
    assert not wrong, "\n".join(wrong)


def test_only_the_roof_imports_the_roof(repository: Path):
    wrong = []
    for file in source_files(repository):
        if file.is_relative_to(repository / "next3d" / "commands") or file == repository / "next3d" / "__main__.py":
            continue
        names = imported_modules(ast.walk(ast.parse(file.read_text())))
        wrong += [f"{file.relative_to(repository)} imports {name}" for name in sorted(names) if name.startswith("next3d.commands")]
    assert not wrong, "\n".join(wrong)


def test_modules_import_only_core_packages_at_their_top(repository: Path):
    wrong = []
    for file in source_files(repository):
        used = {name.partition(".")[0] for name in imported_modules(top_level(ast.parse(file.read_text())))}
        extra = used - OWN - CORE - set(sys.stdlib_module_names)
        wrong += [f"{file.relative_to(repository)} imports {name}" for name in sorted(extra)]
    assert not wrong, "import these where they are used:\n" + "\n".join(wrong)


def loaded_by(statement: str, repository: Path) -> set[str]:
    """Top-level names of everything in memory after an import statement in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, check=True)
    return set(done.stdout.split())


def test_the_model_loads_nothing_but_core_packages(repository: Path):
    own = loaded_by("import next3d, next3d.generator, next3d.discriminator, training", repository)
    others = loaded_by("import torch, scipy.ndimage, PIL.Image, click, safetensors.torch", repository)
    optional = {"mediapipe", "cv2", "tensorboard", "tqdm", "skimage", "trimesh", "imageio_ffmpeg", "psutil", "transformers", "torchvision"}
    assert not (own - others) & optional


def test_the_command_line_starts_without_torch(repository: Path):
    """Help must not wait for it; `next3d train` listens for signals before it imports torch."""
    modules = "next3d.commands.main, next3d.commands.samples, next3d.commands.videos, next3d.commands.data, next3d.commands.train"
    assert not loaded_by(f"import {modules}", repository) & {"torch", "numpy"}
