"""docs/studies.md: its files and commands work as they stand, and no option is left out."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from odmt_fast.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "studies.md").read_text("utf-8")
FILE = re.compile(r"^`([\w.]+)`\n\n```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]


def test_every_example_runs(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("prepare", shop, "dataset").status == 0
    for name, content in FILE.findall(PAGE):
        Path(name).write_text(content)
    assert len(COMMANDS) > 5
    for line in COMMANDS:
        program, *words = shlex.split(line)
        assert program == "odmt-fast"
        done = command(*words)
        assert done.status == 0, f"{line}\n{done.err}"
    study = json.loads(Path("runs/study/study.json").read_text())
    assert list(study["rows"]) == ["sasrec", "gru4rec"]
    grid = json.loads(Path("runs/grid/study.json").read_text())
    ablation = json.loads(Path("runs/ablation/study.json").read_text())
    assert ablation["against"] == "as-given" and "mask=symmetric" in ablation["rows"]
    assert Path("runs/odmt/features/labels.png").is_file()
    assert list(grid["rows"])[0] == "width=8,dropout=0.1" and len(grid["rows"]) == 4


def test_every_flag_is_told() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    ready = commands["studies"].commands
    told_of = [*(commands[name] for name in ("compare", "study", "tune")), *ready.values()]
    for command in told_of:
        flags = {word for option in command.params for word in option.opts}
        told = {word for word in flags if word.startswith("--")} - {"--help"}
        assert [word for word in sorted(told) if word not in PAGE] == []
