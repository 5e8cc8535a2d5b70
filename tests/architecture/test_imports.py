"""Imports follow the data (docs/design.md): a room knows the rooms before it, kernels know none."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Room -> what it may import from odmt_fast; `kernels` and its own files always.
BEFORE_ITEMS = {"config", "data", "features", "batch"}
ALLOWED: dict[str, set[str]] = {
    "config": set(),
    "storage": set(),
    "randomness": set(),
    "threads": set(),
    "noise": set(),
    "data": {"config", "randomness", "storage"},
    "features": {"config", "data", "storage", "threads"},
    "batch": {"config", "data", "features", "randomness", "threads"},
    "block": {"noise"},
    "items": {*BEFORE_ITEMS, "block", "noise"},
    "users": {*BEFORE_ITEMS, "block", "noise", "items"},
    "objective": {*BEFORE_ITEMS, "items", "users"},
    "reference": {"config", "objective", "official"},
    "official": {"config", "features", "batch", "objective", "reference", "storage"},
    "model": {*BEFORE_ITEMS, "noise", "items", "users", "objective", "official", "reference"},
    "training": {*BEFORE_ITEMS, "storage", "objective", "model"},
    "evaluation": {*BEFORE_ITEMS, "objective", "model"},
    "retrieval": {*BEFORE_ITEMS, "storage", "objective", "model", "evaluation"},
    "studies": {
        *BEFORE_ITEMS,
        "randomness",
        "storage",
        "objective",
        "model",
        "reference",
        "training",
        "evaluation",
    },
}
# Heavy or optional libraries and the rooms that may import them at module level.
OPTIONAL = {
    "pyarrow": {"data"},
    "lmdb": {"data"},
    "PIL": {"data", "features"},
    "transformers": {"features"},
    "typer": {"cli"},
    "rich": {"cli", "training"},
    "yaml": {"cli"},
    "matplotlib": {"studies"},
    "tensorboard": {"training"},
}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def rooms(path: Path) -> set[str]:
    """First-level rooms of odmt_fast that a file imports."""
    found = {name.split(".")[1] for name in imports(path) if name.startswith("odmt_fast.")}
    return {room for room in found if (ROOT / "odmt_fast" / room).is_dir() or room in ALLOWED}


def files(room: str) -> list[Path]:
    folder = ROOT / "odmt_fast" / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_rooms_before_it(room: str) -> None:
    for path in files(room):
        wrong = rooms(path) - ALLOWED[room] - {room, "kernels"}
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


def test_every_room_has_a_rule() -> None:
    there = {
        path.stem
        for path in (ROOT / "odmt_fast").iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    }
    assert there - {"__init__", "cli"} == set(ALLOWED)


def test_kernels_know_tensors_only() -> None:
    for path in sorted((ROOT / "kernels").rglob("*.py")):
        wrong = rooms(path) - {"kernels"}
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


def test_only_op_files_choose_a_backend() -> None:
    for path in sorted((ROOT / "kernels").rglob("*.py")):
        if "odmt_fast.kernels.backend.choose" in imports(path):
            assert path.name in ("op.py", "backends.py"), path.relative_to(ROOT)


def test_optional_libraries_stay_in_their_rooms() -> None:
    for path in sorted((ROOT / "odmt_fast").rglob("*.py")):
        room = path.relative_to(ROOT / "odmt_fast").parts[0].removesuffix(".py")
        for library, homes in OPTIONAL.items():
            used = any(name.split(".")[0] == library for name in imports(path))
            assert not used or room in homes, f"{path.relative_to(ROOT)} imports {library}"


def test_the_model_imports_without_optional_libraries(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = (
        "import sys\n"
        f"for name in {sorted(OPTIONAL)!r}: sys.modules[name] = None\n"
        "from odmt_fast import ODMT\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


def test_a_checkout_on_the_path_does_not_break_transformers() -> None:
    import subprocess
    import sys

    script = (
        "from transformers.utils import is_kernels_available; import transformers;"
        "assert not is_kernels_available()"
    )
    command = [sys.executable, "-c", script]
    subprocess.run(command, check=True, cwd=ROOT, env={"PATH": "/usr/bin:/bin"})
