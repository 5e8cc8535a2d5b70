"""An index of FAISS finds candidates; scores are exact, and nothing left out comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from odmt_fast.data.sequences import Sequences
from odmt_fast.retrieval import Recommender
from odmt_fast.retrieval import bundle as bundles
from odmt_fast.retrieval.approximate import Index
from odmt_fast.retrieval.manifest import MANIFEST
from odmt_fast.retrieval.recommend import csr
from odmt_fast.retrieval.search import top_k
from odmt_fast.storage import DamagedFileError

from .test_bundle import N_ITEMS, grown, recommender

pytest.importorskip("faiss", reason="faiss is missing; pip install 'odmt_fast[faiss]'")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def exact_lists(asked: Recommender, found: Recommender, **limits: object) -> float:
    """Share of the exact lists' items that are found; every score must be exact."""
    histories = [asked.history(name) for name in asked.known.names[:200]]
    hits = wanted = 0
    for mine, theirs in zip(
        asked.recommend(histories, 5, **limits),  # type: ignore[arg-type]
        found.recommend(histories, 5, **limits),  # type: ignore[arg-type]
        strict=True,
    ):
        scores = {item.id: item.score for item in mine}
        assert len(mine) == len(theirs)
        assert [item.score for item in theirs] == sorted((i.score for i in theirs), reverse=True)
        for item in theirs:
            if item.id in scores:
                assert item.score == pytest.approx(scores[item.id], rel=1e-5, abs=1e-6)
        hits += len(scores.keys() & {item.id for item in theirs})
        wanted += len(scores)
    return hits / wanted


@pytest.mark.parametrize("factory", ["auto", "Flat", "HNSW16", "IVF4,PQ4x4"])
def test_a_bundle_with_an_index(tmp_path: Path, factory: str) -> None:
    asked = recommender()
    made = asked.with_index(factory)
    made.save(tmp_path, users=True)
    told = json.loads((tmp_path / MANIFEST).read_text())["faiss"]
    assert told["recall"]["users"] == 700 and told["recall"]["k"] == 10
    assert told["items"] == N_ITEMS and 0 < told["recall"]["value"] <= 1
    if factory in ("auto", "Flat"):
        assert told["recall"]["value"] >= 0.99
    assert Recommender.load(tmp_path).parts.index is None
    found = Recommender.load(tmp_path, search="faiss")
    assert exact_lists(asked, found) >= told["recall"]["value"] - 0.1
    history = asked.history("u3")
    assert found.recommend([history]) == made.recommend([history])
    # Saved again it goes in; saved without, its file goes.
    found.save(tmp_path, users=True, overwrite=True)
    assert len([*tmp_path.glob("faiss-*.index")]) == 1
    assert Recommender.load(tmp_path, search="faiss").recommend([history]) == found.recommend(
        [history]
    )
    asked.save(tmp_path, users=True, overwrite=True)
    assert not [*tmp_path.glob("faiss-*.index")]
    with pytest.raises(ValueError, match="has no approximate index; export the run with --faiss"):
        Recommender.load(tmp_path, search="faiss")


def test_allow_and_deny() -> None:
    asked = recommender()
    found = asked.with_index("Flat")
    assert exact_lists(asked, found, deny=["i1", "i2", "absent"]) == 1
    assert exact_lists(asked, found, deny=[f"i{i}" for i in range(50)]) == 1
    assert exact_lists(asked, found, allow=[f"i{i}" for i in range(20)]) == 1
    apart = [[f"i{(user + i) % N_ITEMS}" for i in range(8)] for user in range(200)]
    assert exact_lists(asked, found, allow=apart) == 1
    assert exact_lists(asked, found, deny=apart) == 1


def large() -> tuple[torch.Tensor, torch.Tensor, Sequences]:
    """3,000 vectors in clusters, 20 users among them, and histories."""
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(30, 12, generator=g)
    of = torch.randint(30, (3001,), generator=g)
    vectors = centres[of] + 0.5 * torch.randn(3001, 12, generator=g)
    queries = torch.randn(20, 12, generator=g)
    draw = np.random.default_rng(0)
    histories = [draw.integers(1, 3001, draw.integers(0, 9)) for _ in range(len(queries))]
    return vectors, queries, Sequences.from_lists(histories)


def test_candidates_are_fetched_by_the_index_and_scored_exactly() -> None:
    vectors, queries, histories = large()
    offsets, history = csr(histories, vectors.device)
    index = Index.built(vectors, queries, offsets, history, factory="IVF16,Flat", search="nprobe=1")
    exact_ids, exact = top_k(queries, vectors, 10, offsets, history)
    ids, scores = index.top_k(queries, vectors, 10, offsets, history)
    pairs = zip(exact_ids.tolist(), ids.tolist(), strict=True)
    hits = sum(len({*mine} & {*theirs}) for mine, theirs in pairs)
    assert 20 < hits < 200 and index.recall.value == pytest.approx(hits / 200)
    torch.testing.assert_close(scores, (queries.unsqueeze(1) * vectors[ids]).sum(2))
    assert (scores <= exact + 1e-4).all()
    for user in range(len(queries)):
        assert not set(ids[user].tolist()) & set(histories[user].tolist())
    chosen = Index.built(vectors, queries, offsets, history)
    assert chosen.recall.value >= 0.99 and chosen.factory == "IVF76,Flat"
    assert chosen.search.startswith("nprobe=") and int(chosen.search[7:]) < 76
    # Later items are candidates of everybody, and whoever is left short is searched exactly.
    better = torch.cat([vectors, 10 * queries[:3]])
    few = csr(histories.part(0, 3), vectors.device)
    ids, _ = index.top_k(queries[:3], better, 1, *few)
    expected, _ = top_k(queries[:3], better, 1, *few)
    assert torch.equal(ids, expected) and (ids > 3000).any()
    allowed = torch.ones(3001, dtype=torch.bool)
    # The very items that the index finds for the first may not be returned.
    allowed[top_k(queries[:3], vectors, 400, *few)[0][0]] = False
    found = index.top_k(queries, vectors, 10, offsets, history, allowed=allowed)
    assert allowed[found[0]].all()


def test_later_items_leave_the_index_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "MOST_ADDED", 2)
    asked = recommender()
    asked.with_index("Flat").save(tmp_path, users=True)
    (file,) = tmp_path.glob("faiss-*.index")
    for number in range(4):  # the third makes the bundle one piece again
        start, asked = len(asked.items), grown(asked, f"n{number}")
        asked.append(tmp_path, start)
        assert [*tmp_path.glob("faiss-*.index")] == [file]
        found = Recommender.load(tmp_path, search="faiss")
        assert found.parts.index is not None and found.parts.index.items == N_ITEMS
        assert exact_lists(asked, found) == 1


def test_damages_and_wrong_settings_are_refused(tmp_path: Path) -> None:
    asked = recommender()
    asked.with_index("Flat").save(tmp_path)
    (file,) = tmp_path.glob("faiss-*.index")
    whole = file.read_bytes()
    for damaged in (whole[:-1], bytes([*whole[:-1], whole[-1] ^ 1])):
        file.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match=f"{file.name} is damaged; export again"):
            Recommender.load(tmp_path, search="faiss")
        Recommender.load(tmp_path)
    file.unlink()
    with pytest.raises(DamagedFileError, match=f"{file.name} is missing; copy the whole folder"):
        Recommender.load(tmp_path, search="faiss")
    with pytest.raises(ValueError, match="search is 'x'; give one of exact, faiss"):
        Recommender.load(tmp_path, search="x")
    with pytest.raises(ValueError, match="FAISS makes no index 'NOPE' over 60 vectors of width 48"):
        asked.with_index("NOPE")
    with pytest.raises(ValueError, match="does not know the parameters 'nprobe=4' of this index"):
        asked.with_index("Flat", "nprobe=4")
    with pytest.raises(ValueError, match="measured on the users of the run, and there is none"):
        Recommender.load(tmp_path).with_index("Flat")


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ImportError, match=r"needs faiss; pip install 'odmt_fast\[faiss\]'"):
        recommender().with_index()
