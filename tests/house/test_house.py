"""The plan of the house holds: import direction, package list, light import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A room may import from itself, from rooms before it, and from the base.
BASE = [
    "_version",
    "actions",
    "config",
    "allocator",
    "devices",
    "errors",
    "extras",
    "files",
    "graphs",
    "identity",
    "interrupts",
    "launch",
    "normalizer",
    "optimizers",
    "precision",
    "progress",
    "runlog",
    "seeding",
    "storage",
    "types",
    "vectors",
]
ROOMS = [
    "pixels",
    "filtering",
    "envs",
    "datasets",
    "models",
    "training",
    "encoding",
    "wrappers",
    "exporting",
    "agents",
    "joint",
    "evaluation",
    "integrations",
    "testing",
    "doctor",
    "cli",
]


def source_files() -> list[Path]:
    folders = [ROOT / "latentwrap", ROOT / "cli", ROOT / "datasets"]
    found = []
    for folder in folders:
        for path in folder.rglob("*.py"):
            through_link = {ROOT / "latentwrap/cli", ROOT / "latentwrap/datasets"} & set(
                path.parents
            )
            if not through_link and path != ROOT / "latentwrap/__init__.py":
                found.append(path)
    return found


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "latentwrap" else parts[0]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "latentwrap":
                names = [f"latentwrap.{alias.name}" for alias in node.names]
        rooms |= {n.split(".")[1] for n in names if n.startswith("latentwrap.")}
    return rooms


def rank(room: str) -> int:
    return -1 if room in BASE else ROOMS.index(room)


@pytest.mark.parametrize("path", source_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_never_point_back(path: Path) -> None:
    here = room_of(path)
    for room in imported_rooms(path):
        assert rank(room) <= rank(here), f"{here} imports {room}"


def test_every_room_and_base_module_is_in_the_plan() -> None:
    found = {room_of(path) for path in source_files()}
    assert found == set(BASE) | set(ROOMS)


def test_packages_in_pyproject_are_the_folders() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = ast.literal_eval(text.partition("packages = ")[2].partition("]")[0] + "]")
    folders = {"latentwrap"}
    for path in source_files():
        relative = path.parent.relative_to(ROOT).parts
        folders.add(
            ".".join(relative if relative[0] == "latentwrap" else ("latentwrap", *relative))
        )
    assert sorted(listed) == sorted(folders)


def run_python(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_importing_latentwrap_does_not_import_torch() -> None:
    heavy = "['torch', 'cv2', 'h5py', 'matplotlib', 'pydantic', 'stable_baselines3', 'onnxruntime']"
    code = f"import sys, latentwrap; print([m for m in {heavy} if m in sys.modules])"
    assert run_python(code) == "[]"


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys\n"
        "from latentwrap.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print('torch' in sys.modules)"
    )
    assert run_python(code).splitlines()[-1] == "False"


def test_every_public_name_loads() -> None:
    code = (
        "import latentwrap\n"
        "print(all(getattr(latentwrap, name) is not None for name in latentwrap.__all__))"
    )
    assert run_python(code) == "True"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import latentwrap

    with pytest.raises(AttributeError, match="no attribute 'Latent'"):
        _ = latentwrap.Latent
    assert set(latentwrap.__all__) <= set(dir(latentwrap))


def test_datasets_is_not_importable_at_the_top() -> None:
    code = "import datasets"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode != 0
    assert "latentwrap.datasets" in result.stderr


def test_source_files_stay_small() -> None:
    sizes = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in source_files()}
    assert {p: n for p, n in sizes.items() if n > 350} == {}
