"""The user encoder as a graph says what the engine says, of any number of users and items."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.export import ExportedProgram

from odmt_fast.data.sequences import Sequences
from odmt_fast.retrieval import Recommender
from odmt_fast.retrieval.portable import exported, require_onnx, save_onnx, save_torch

from .test_bundle import recommender

STEPS = 5


@pytest.fixture(scope="module")
def asked() -> Recommender:
    return recommender()


@pytest.fixture(scope="module")
def program(asked: Recommender) -> ExportedProgram:
    return exported(asked.parts)


def padded(asked: Recommender, users: int) -> tuple[Tensor, Tensor]:
    """Histories for the graph, and the engine's vectors."""
    recent = [asked.known.sequences[user][-STEPS:].tolist() for user in range(users)]
    histories = torch.tensor([items + [0] * (STEPS - len(items)) for items in recent])
    assert 0 in histories[:, -1] or users < 9
    return histories, asked.user_vectors(Sequences.from_lists(recent))


def test_torch_export(asked: Recommender, program: ExportedProgram, tmp_path: Path) -> None:
    asked.save(tmp_path)
    file = save_torch(program, asked.parts, tmp_path)
    graph = torch.export.load(file).module()
    # It stays as long as the user encoder does.
    asked.save(tmp_path, users=True, overwrite=True)
    assert file.exists()
    recommender(2).save(tmp_path, overwrite=True)
    assert not file.exists()
    vectors = asked.parts.catalogue[:, 1:]
    for users in (700, 9, 1):
        histories, expected = padded(asked, users)
        # 1e-6 of the largest; items may be fewer than when it was made.
        for items in (vectors, vectors.contiguous()):
            found = graph(items, histories)
            assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
    graph(vectors[:, :1].contiguous(), torch.ones(2, STEPS, dtype=torch.int64))


def test_onnx(asked: Recommender, program: ExportedProgram, tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    import onnxruntime

    asked.save(tmp_path)
    session = onnxruntime.InferenceSession(save_onnx(program, asked.parts, tmp_path))
    vectors = asked.parts.catalogue[:, 1:].numpy()
    for users in (700, 9, 1):
        histories, expected = padded(asked, users)
        (found,) = session.run(None, {"vectors": vectors, "histories": histories.numpy()})
        assert abs(found - expected.numpy()).max() <= 1e-5 * expected.abs().max()


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"--onnx needs onnx; pip install 'odmt_fast\[onnx\]'"):
        require_onnx()
