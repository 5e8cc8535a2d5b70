"""docs/serving.md, run from its first line to its last after README's first block."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer

from odmt_fast.cli import main
from odmt_fast.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
BLOCK = re.compile(r"^(?:`([\w.]+)`\n\n)?```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@contextmanager
def served(*words: str) -> Iterator[str]:
    """The address of ``odmt-fast serve``, on a port that is free."""
    command = [sys.executable, "-m", "odmt_fast", "serve", *words, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page asks by curl")
def test_every_line_runs(
    after_readme: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(shutil.copytree(after_readme, tmp_path / "shop"))
    shutil.rmtree("bundle")
    told, address, services = 0, "", ExitStack()
    for file, language, content in BLOCK.findall(PAGE):
        if file:
            Path(file).write_text(content)
        elif language == "python":
            scope: dict[str, object] = {}
            exec(content, scope)
            told += 1
        else:
            assert language == "sh"
            for command in content.replace("\\\n", " ").splitlines():
                program, *words = shlex.split(command)
                if program == "curl":
                    words = [word.replace("http://127.0.0.1:8000", address) for word in words]
                    subprocess.run(["curl", *words], check=True, timeout=60)
                elif words[0] == "serve":
                    address = services.enter_context(served(*words[1:]))
                else:
                    assert program == "odmt-fast"
                    assert main(words) == 0, f"{command}\n{capsys.readouterr().err}"
                told += 1
    services.close()
    assert told > 10
    card = Path("bundle/README.md").read_text("utf-8")
    for line in ("| users | 30 |", "## Test targets", "| ndcg@10 | 0.", '"epochs": 5'):
        assert line in card
    assert Path("copy/manifest.json").is_file()
    rows = pq.read_table("recs.parquet").to_pylist()
    assert {row["user"] for row in rows} == {f"u{user}" for user in range(30)}
    assert not {"i04", "i09"} & {row["item"] for row in rows}


def test_every_flag_of_the_commands_is_told() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name in ("export", "recommend", "add-items", "serve"):
        flags = {
            word
            for option in commands[name].params
            for word in (*option.opts, *option.secondary_opts)
        }
        # Of every command that reads a run; docs and --help tell them elsewhere.
        common = {"--help", "--json", "--checkpoint", "--data", "--store", "--device", "--item"}
        common |= {"--item-encoder"}  # told by its opposite
        told = {word for word in flags if word.startswith("--")} - common
        told -= {"--allow-other-features"}
        assert [word for word in sorted(told) if word not in PAGE] == []
