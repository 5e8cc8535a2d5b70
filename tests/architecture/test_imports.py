"""Imports follow the data (docs/design.md): a room knows the rooms before it, kernels know none."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Room -> what it may import from odmt_fast; `kernels` and its own files always.
BEFORE_MODELS = {"config", "data", "features", "batch"}
ALLOWED: dict[str, set[str]] = {
    "config": set(),
    "presets": {"config"},
    "storage": set(),
    "processes": set(),
    "randomness": set(),
    "threads": set(),
    "data": {"config", "randomness", "storage"},
    "features": {"config", "data", "processes", "storage", "threads"},
    "batch": {"config", "data", "features", "processes", "randomness", "threads"},
    "models": {*BEFORE_MODELS, "processes"},
    "official": {*BEFORE_MODELS, "models", "storage"},
    "training": {*BEFORE_MODELS, "processes", "storage", "models"},
    "evaluation": {*BEFORE_MODELS, "storage", "models"},
    "retrieval": {*BEFORE_MODELS, "randomness", "storage", "models"},
    "studies": {
        *BEFORE_MODELS,
        "randomness",
        "storage",
        "models",
        "training",
        "evaluation",
        "workflow",
    },
    "planning": {*BEFORE_MODELS, "models", "training"},
    "service": {"config", "data", "retrieval", "storage"},
    "workflow": {
        *BEFORE_MODELS,
        "processes",
        "randomness",
        "storage",
        "models",
        "training",
        "evaluation",
        "retrieval",
    },
}
# Heavy or optional libraries and the rooms that may import them at module level.
OPTIONAL = {
    "pyarrow": {"data", "evaluation", "retrieval"},
    "lmdb": {"data"},
    "PIL": {"data", "features"},
    "transformers": {"features"},
    "typer": {"cli"},
    "rich": {"cli", "training"},
    "yaml": {"cli"},
    "matplotlib": {"studies"},
    "optuna": {"cli", "studies"},
    "sklearn": {"studies"},
    "umap": {"studies"},
    "tensorboard": {"training"},
    "starlette": {"service"},
    "uvicorn": {"service"},
    "prometheus_client": {"service"},
    "huggingface_hub": {"retrieval"},
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


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "odmt_fast" else ("odmt_fast", *parts)
    return ".".join(parts).removesuffix(".__init__")


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


def test_no_file_imports_itself_in_a_circle() -> None:
    trees = [path for folder in ("odmt_fast", "kernels") for path in (ROOT / folder).rglob("*.py")]
    known = {module_of(path) for path in trees}
    known.discard("odmt_fast")  # names what it exports, imports it when asked
    graph = {module_of(path): set[str]() for path in trees}
    for path in trees:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in known:
                # A name is a submodule or comes from the package itself.
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[module_of(path)] |= (names & known) or {node.module}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_no_file_is_long() -> None:
    for folder in ("odmt_fast", "kernels", "bench", "csrc"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".cpp", ".cu", ".h", ".inl"):
                lines = len(path.read_text().splitlines())
                assert lines <= 350, f"{path.relative_to(ROOT)} has {lines} lines"


def test_every_room_has_a_rule() -> None:
    there = {
        path.stem
        for path in (ROOT / "odmt_fast").iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    }
    assert there - {"__init__", "__main__", "cli"} == set(ALLOWED)


def test_kernels_know_tensors_only() -> None:
    for path in sorted((ROOT / "kernels").rglob("*.py")):
        wrong = rooms(path) - {"kernels", "storage"}
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
