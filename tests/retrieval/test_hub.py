"""A bundle is what a model repository of the Hub holds: a card, and one format for both ways."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from odmt_fast.retrieval import Origin, Recommender
from odmt_fast.retrieval.hub import CARD

from .test_bundle import files_of, recommender

ORIGIN = Origin(700, 3141, {"epochs": 3}, {"hr@10": 0.123456})
LISTS = [["i1", "i2"], ["i3"]]


def test_a_folder_of_save_pretrained_is_a_bundle_with_a_card(tmp_path: Path) -> None:
    asked = recommender()
    asked.save_pretrained(tmp_path / "a", origin=ORIGIN, users=True)
    asked.save(tmp_path / "b", users=True)
    mine, bare = files_of(tmp_path / "a"), files_of(tmp_path / "b")
    text = mine.pop(CARD).decode()
    assert mine == bare
    for load in (Recommender.from_pretrained, Recommender.load):
        for folder in ("a", "b"):
            assert load(tmp_path / folder).recommend(LISTS) == asked.recommend(LISTS)
    assert text.startswith("---\nlibrary_name: odmt_fast\n")
    for told in ("| interactions | 3,141 |", "| hr@10 | 0.1235 |", '"epochs": 3', '"width": 16'):
        assert told in text
    assert "the histories of 700 people" in text
    asked.save_pretrained(tmp_path / "a", overwrite=True)
    text = (tmp_path / "a" / CARD).read_text()
    assert "no history of anybody" in text and "interactions" not in text
    # What somebody wrote is theirs.
    (tmp_path / "a" / CARD).write_text("mine")
    asked.save_pretrained(tmp_path / "a", overwrite=True)
    assert (tmp_path / "a" / CARD).read_text() == "mine"


def test_a_repository_is_read_from_the_cache(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    asked, commit = recommender(), "0" * 40
    cached = tmp_path / "models--me--shop"
    asked.save_pretrained(cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    where = {"cache_dir": tmp_path, "local_files_only": True}
    loaded = Recommender.from_pretrained("me/shop", **where)
    assert loaded.recommend(LISTS) == asked.recommend(LISTS)
    for name in ("me/other", "no such folder!"):
        with pytest.raises(ValueError, match=f"{name} is no folder, and no repository") as error:
            Recommender.from_pretrained(name, **where)
        assert "\n" not in str(error.value)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'odmt_fast\[hub\]'"):
        Recommender.from_pretrained("me/shop")
