from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from odmt_fast.data import DataError, Filters, Interactions, read
from odmt_fast.storage import FolderInUseError, FolderLock


def same(a: Interactions, b: Interactions) -> bool:
    return (
        (a.users, a.items, a.report) == (b.users, b.items, b.report)
        and np.array_equal(a.sequences.items, b.sequences.items)
        and np.array_equal(a.sequences.offsets, b.sequences.offsets)
    )


def test_saved_and_loaded_is_the_same(official: Path, tmp_path: Path) -> None:
    data = read(official)
    out = data.save(tmp_path / "deep" / "prepared")
    assert same(Interactions.load(out), data)
    assert sorted(path.suffix for path in out.iterdir() if path.name != ".lock") == [
        ".json",
        ".parquet",
        ".parquet",
    ]


def test_dataset_moves_with_its_pictures(official: Path, tmp_path: Path) -> None:
    read(official).save(official / "prepared")
    moved = shutil.move(official, tmp_path / "elsewhere")
    source = Interactions.load(Path(moved) / "prepared").items.images[0]
    assert source is not None and source.load().size == (8, 6)
    assert source.path == tmp_path / "elsewhere" / "images" / "bowl.jpg"


def test_saving_again_replaces_and_leaves_other_files_alone(official: Path, tmp_path: Path) -> None:
    out = tmp_path / "prepared"
    read(official).save(out)
    (out / "notes.txt").write_text("mine")
    data = read(official, filters=Filters(min_seq_len=6))
    data.save(out)
    assert same(Interactions.load(out), data)
    assert len(list(out.glob("*.parquet"))) == 2
    assert (out / "notes.txt").read_text() == "mine"


def test_death_before_the_manifest_leaves_the_old_dataset(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from odmt_fast.data import store

    out = tmp_path / "prepared"
    old = read(official)
    old.save(out)

    def die(source: object, target: Path) -> None:
        if Path(target).name == store.MANIFEST:
            raise KeyboardInterrupt
        shutil.move(str(source), target)

    with monkeypatch.context() as patched:
        patched.setattr(store.os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            read(official, filters=Filters(min_seq_len=6)).save(out)
    assert same(Interactions.load(out), old)


def test_damage_is_named(official: Path, tmp_path: Path) -> None:
    out = read(official).save(tmp_path / "prepared")
    manifest = out / "dataset.json"
    facts = json.loads(manifest.read_text())
    items = out / facts["files"]["items"]["name"]

    def expect(words: str, file: Path) -> None:
        with pytest.raises(DataError) as caught:
            Interactions.load(out)
        assert words in caught.value.reason
        assert caught.value.file == file

    whole = items.read_bytes()
    items.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    expect("checksum differs", items)
    items.unlink()
    expect("the file is missing", items)
    items.write_bytes(whole)
    Interactions.load(out)
    for change, words in (
        ({"users": 9}, "says 9 users but the files hold 2"),
        ({"version": 7}, "format version 7 cannot be read, this program reads version 1"),
        ({"format": "else"}, "not the manifest of a dataset"),
        ({"files": {}}, "the manifest is damaged"),
        ({"report": {"no such": 1}}, "the manifest is damaged"),
    ):
        manifest.write_text(json.dumps(facts | change))
        expect(words, manifest)
    manifest.write_text("{")
    expect("not JSON", manifest)
    manifest.unlink()
    expect("no prepared dataset is here", out)


def test_preparing_again_deletes_nothing_it_did_not_write(official: Path, tmp_path: Path) -> None:
    out = read(official).save(tmp_path / "prepared")
    manifest = out / "dataset.json"
    for name in ("precious.txt", "notes.parquet"):
        (out / name).write_text("mine")
        facts = json.loads(manifest.read_text())
        facts["files"]["items"]["name"] = name
        manifest.write_text(json.dumps(facts))
        read(official, filters=Filters(min_seq_len=6)).save(out)
        assert (out / name).read_text() == "mine"
    outside = tmp_path / "outside.parquet"
    outside.write_text("mine")
    facts = json.loads(manifest.read_text())
    facts["files"]["items"]["name"] = "../outside.parquet"
    manifest.write_text(json.dumps(facts))
    read(official).save(out)
    assert outside.read_text() == "mine"


def test_one_process_prepares_a_dataset_at_a_time(official: Path, tmp_path: Path) -> None:
    data = read(official)
    with (
        FolderLock(tmp_path / "prepared", "odmt-fast prepare"),
        pytest.raises(FolderInUseError, match="odmt-fast prepare"),
    ):
        data.save(tmp_path / "prepared")
