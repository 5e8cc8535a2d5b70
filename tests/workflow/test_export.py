"""``odmt-fast export`` with all that it can add: graphs that other runtimes read, and an index."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from odmt_fast import Recommender
from odmt_fast.cli import main
from odmt_fast.retrieval import load_vectors


@pytest.fixture
def folder(after_readme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = shutil.copytree(after_readme, tmp_path / "shop")
    monkeypatch.chdir(made)
    return made


@pytest.mark.parametrize("names", [["--torch-export"], ["--onnx"], ["--onnx", "--torch-export"]])
def test_graphs(folder: Path, names: list[str]) -> None:
    if "--onnx" in names:
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name, reason=f"{name} is missing; pip install 'odmt_fast[onnx]'")
    assert main(["export", "runs/mine", "graphs", "--users", *names]) == 0
    assert main(["recommend", "graphs", "--export", "vectors"]) == 0
    asked = Recommender.load("graphs")
    steps = asked.parts.settings.max_seq_len
    histories = np.zeros((len(asked.known.names), steps), np.int64)
    for row in range(len(histories)):
        recent = asked.known.sequences[row][-steps:]
        histories[row, : len(recent)] = recent
    vectors = asked.parts.catalogue[:, 1:].contiguous()
    found = {}
    for file in Path("graphs").glob("user_graph-*"):
        if file.suffix == ".pt2":
            graph = torch.export.load(file).module()
            found[file.suffix] = graph(vectors, torch.from_numpy(histories)).numpy()
        else:
            import onnxruntime

            session = onnxruntime.InferenceSession(file)
            (users,) = session.run(None, {"vectors": vectors.numpy(), "histories": histories})
            found[file.suffix] = users
    assert len(found) == len(names)
    expected = load_vectors(Path("vectors"), "users").values.numpy()
    items = load_vectors(Path("vectors"), "items").values.numpy()
    for suffix, users in found.items():
        bound = 1e-6 if suffix == ".pt2" else 1e-5
        assert abs(users - expected).max() <= bound * abs(expected).max()
        # What the page says: inner product with the vectors side by side, by the branches.
        beside = vectors.transpose(0, 1).flatten(1).numpy()
        scores = users @ beside.T / len(asked.parts.branches)
        np.testing.assert_allclose(scores, expected @ items.T, atol=1e-4)


def test_an_index(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("faiss", reason="faiss is missing; pip install 'odmt_fast[faiss]'")
    assert main(["export", "runs/mine", "fast", "--users", "--faiss", "auto"]) == 0
    told = capsys.readouterr().out
    assert "recall@10 1.0000 of the exact lists of 30 users" in told
    assert told.splitlines()[-1].removeprefix("approximate") in Path("fast/README.md").read_text()
    lists = []
    for search in ("exact", "faiss"):
        assert main(["recommend", "fast", "--user", "u3", "--search", search, "--json"]) == 0
        lists.append(json.loads(capsys.readouterr().out)["recommendations"]["u3"])
    assert [item["id"] for item in lists[0]] == [item["id"] for item in lists[1]]
    assert main(["export", "runs/mine", "other", "--faiss-search", "nprobe=2"]) == 1
    assert "--faiss-search is of an index; add --faiss auto" in capsys.readouterr().err
    assert not Path("other").exists()
    assert main(["recommend", "runs/mine", "--user", "u3", "--search", "faiss"]) == 1
    assert "odmt-fast export runs/mine BUNDLE --faiss auto" in capsys.readouterr().err
    Path("new.csv").write_text("item,text\nn01,a thing\n")
    assert main(["add-items", "fast", "new.csv", "--output", "elsewhere"]) == 0
    assert "its approximate index is not copied" in capsys.readouterr().err
