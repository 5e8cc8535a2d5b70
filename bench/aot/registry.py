"""The launches that operators registered, found by their ``aot.py`` modules."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules

from odmt_fast import kernels
from odmt_fast.kernels.launch.aot import AotCase

ARCHITECTURES = (80, 90, 100)


def operators() -> list[str]:
    """Operators with an ``aot.py``, by name."""
    folders = sorted(m.name for m in iter_modules(kernels.__path__) if m.ispkg)
    return [
        name
        for name in folders
        if name != "launch" and find_spec(f"odmt_fast.kernels.{name}.aot") is not None
    ]


def cases(names: list[str], official_only: bool) -> Iterator[tuple[str, AotCase, int]]:
    """(operator, case, architecture) of every compilation to make."""
    for name in names:
        module = import_module(f"odmt_fast.kernels.{name}.aot")
        for case in module.AOT_CASES:
            if case.official or not official_only:
                for architecture in case.architectures or ARCHITECTURES:
                    yield name, case, architecture
