"""A bundle answers alone, bit for bit as the model did, and refuses what does not belong to it."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from odmt_fast.config import ModelConfig
from odmt_fast.data.items import ItemTable
from odmt_fast.data.sequences import Sequences
from odmt_fast.features.tokens import TokenTable
from odmt_fast.models.ensemble import KnownBranches
from odmt_fast.models.zoo import BACKBONES, MODELS, build
from odmt_fast.retrieval import KnownUsers, Parts, Recommender
from odmt_fast.retrieval import bundle as bundles
from odmt_fast.retrieval.manifest import MANIFEST
from odmt_fast.storage import DamagedFileError, Digest, FolderLock

N_ITEMS, N_USERS = 60, 700
TITLES = (None, "", "Käse \ud800", *(f"thing {i}" for i in range(N_ITEMS - 3)))


def recommender(seed: int = 1, backbone: str = "sasrec", name: str = "odmt") -> Recommender:
    """An untrained model over texts and pictures, and users of all lengths."""
    g = torch.Generator().manual_seed(seed)
    settings = ModelConfig(name=name, width=16, max_seq_len=5, imt_layers=1, backbone=backbone)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.arange(0, 2 * N_ITEMS + 1, 2)])
    sources = {
        name: TokenTable(torch.randn(2 * N_ITEMS, 8, generator=g), offsets)
        for name in ("text", "image")
    }
    model = build(settings, [1.0] * (N_ITEMS + 1), sources, generator=g).eval()
    items = ItemTable(tuple(f"i{i}" for i in range(N_ITEMS)), TITLES, (None,) * N_ITEMS)
    draw = np.random.default_rng(seed)
    histories = [draw.integers(1, N_ITEMS + 1, draw.integers(1, 9)) for _ in range(N_USERS)]
    known = KnownUsers(tuple(f"u{u}" for u in range(N_USERS)), Sequences.from_lists(histories))
    return Recommender(Parts.of(model, settings, items, known))


def digest(asked: Recommender) -> str:
    """Of every list of every user, scores to the last bit."""
    found = Digest()
    for user in asked.known.names:
        found.add(user)
    for items in asked.recommend(map(asked.history, asked.known.names), 7):
        for item in items:
            found.add(item.id).add(item.title).add(item.score.hex())
    return found.hex


def test_copies_in_another_process_give_the_same_bits(tmp_path: Path) -> None:
    kinds = [("odmt", backbone) for backbone in BACKBONES]
    kinds += [(name, "sasrec") for name in MODELS if name != "odmt"]
    expected = []
    for place, (name, backbone) in enumerate(kinds):
        asked = recommender(backbone=backbone, name=name)
        asked.save(tmp_path / "made", users=True)
        shutil.copytree(tmp_path / "made", tmp_path / "away" / str(place))
        shutil.rmtree(tmp_path / "made")
        expected.append(digest(asked))
    # Nothing but the base installation is there.
    script = (
        "import sys\n"
        "for name in ('pyarrow', 'transformers', 'typer', 'PIL'): sys.modules[name] = None\n"
        "from odmt_fast import Recommender\n"
        "from odmt_fast.storage import Digest\n"
        f"{inspect.getsource(digest)}\n"
        f"for place in range({len(kinds)}): print(digest(Recommender.load(str(place))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path / "away",
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    found = done.stdout.split()
    assert dict(zip(kinds, found, strict=True)) == dict(zip(kinds, expected, strict=True)), (
        done.stderr
    )


def test_it_loads_in_under_a_second_and_explains_the_same(tmp_path: Path) -> None:
    asked = recommender()
    asked.save(tmp_path / "b", users=True)
    start = time.process_time()
    loaded = Recommender.load(tmp_path / "b")
    assert time.process_time() - start < 1.0
    history = asked.history("u3")
    assert loaded.explain(history, "i9") == asked.explain(history, "i9")
    assert loaded.similar(["i4"]) == asked.similar(["i4"])
    assert loaded.items.texts == TITLES
    # Saved again it is the same bundle, and one without users another.
    loaded.save(tmp_path / "again", users=True)
    files = {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir() if path.suffix}
    again = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir() if path.suffix}
    assert files == again
    loaded.save(tmp_path / "strangers")
    with pytest.raises(ValueError, match="no user is known here; export the run with --users"):
        Recommender.load(tmp_path / "strangers").history("u3")


def test_every_flipped_byte_is_refused_by_name(tmp_path: Path) -> None:
    recommender().save(tmp_path, users=True)
    draw = np.random.default_rng(0)
    files = [path for path in tmp_path.iterdir() if path.suffix in (".json", ".safetensors")]
    assert len(files) == 6
    for path in files:
        whole = path.read_bytes()
        for place in draw.choice(len(whole), min(len(whole), 40), replace=False):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(draw.integers(8))
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=path.name):
                Recommender.load(tmp_path)
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=path.name):
            Recommender.load(tmp_path)
        path.unlink()
        with pytest.raises(ValueError, match=path.name):
            Recommender.load(tmp_path)
        path.write_bytes(whole)
    Recommender.load(tmp_path)


def test_files_of_another_bundle_are_refused_by_name(tmp_path: Path) -> None:
    recommender(1).save(tmp_path / "a", users=True)
    recommender(2).save(tmp_path / "b", users=True)
    for stem in ("items", "user_encoder", "users"):
        shutil.copytree(tmp_path / "a", tmp_path / "mixed", dirs_exist_ok=True)
        (mine,) = (tmp_path / "mixed").glob(f"{stem}-*.safetensors")
        (other,) = (tmp_path / "b").glob(f"{stem}-*.safetensors")
        shutil.copy(other, mine)
        with pytest.raises(DamagedFileError, match=f"{mine.name} belongs to another bundle"):
            Recommender.load(tmp_path / "mixed")
    shutil.copytree(tmp_path / "a", tmp_path / "mixed", dirs_exist_ok=True)
    (mine,) = (tmp_path / "mixed").glob("items-*.json")
    mine.write_text(mine.read_text().replace('"i1"', '"i1x"'))
    with pytest.raises(DamagedFileError, match=f"{mine.name} is damaged or belongs to another"):
        Recommender.load(tmp_path / "mixed")


def test_what_is_no_bundle_or_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a bundle: it has no manifest.json; make one"):
        Recommender.load(tmp_path)
    (tmp_path / MANIFEST).write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="is not the manifest of a bundle"):
        Recommender.load(tmp_path)
    with pytest.raises(FileExistsError, match="is not the manifest of a bundle; name another"):
        recommender().save(tmp_path, overwrite=True)
    values = {"format": "odmt_fast.bundle", "version": 99, "digest": ""}
    (tmp_path / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(ValueError, match="version 99, this program reads version 2; update"):
        Recommender.load(tmp_path)


def test_replacing_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = recommender(1), recommender(2)
    old.save(tmp_path, users=True)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds a bundle; pass --overwrite"):
        new.save(tmp_path)

    # Interrupted before the manifest changes, the old one is whole.
    def dies(path: Path, *_: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr("odmt_fast.retrieval.bundle.write_manifest", dies)
        with pytest.raises(OSError, match="no space"):
            new.save(tmp_path, overwrite=True)
    assert digest(Recommender.load(tmp_path)) == digest(old)

    new.save(tmp_path, overwrite=True)
    loaded = Recommender.load(tmp_path)
    assert loaded.items.ids == new.items.ids and torch.equal(loaded.item_vectors, new.item_vectors)
    # What the old one owned is gone, what is not a bundle's stays.
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert len(names) == 5 and {"notes.txt", MANIFEST} < names
    with FolderLock(tmp_path, "somebody else"), pytest.raises(RuntimeError, match="is in use"):
        new.save(tmp_path, overwrite=True)


def grown(asked: Recommender, *names: str) -> Recommender:
    """With further items of drawn vectors, as `add_items` would leave it."""
    parts = asked.parts
    g = torch.Generator().manual_seed(len(parts.items))
    branches, _, width = parts.catalogue.shape
    new = torch.randn(branches, len(names), width, generator=g)
    items = ItemTable(
        parts.items.ids + names,
        parts.items.texts + ("\ud800",) * len(names),
        (None,) * (len(parts.items) + len(names)),
    )
    parts = replace(parts, catalogue=torch.cat([parts.catalogue, new], 1), items=items)
    if parts.known_branches is not None:
        known = torch.zeros(branches, len(names), dtype=torch.bool)
        known[-1] = True
        parts = replace(parts, known_branches=parts.known_branches.with_items(known))
    made = asked.followed_by(parts)
    whole = Recommender(parts)
    assert made.item_vectors.equal(whole.item_vectors) and made.dense_ids(names) == whole.dense_ids(
        names
    )
    return made


def counting_the_known(asked: Recommender) -> Recommender:
    """With an ensemble of the branches that know an item."""
    catalogue = asked.parts.catalogue
    known = torch.ones(catalogue.shape[:2], dtype=torch.bool)
    known[0, 5:9] = False
    return Recommender(replace(asked.parts, known_branches=KnownBranches(known, catalogue.mean(1))))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix}


@pytest.mark.parametrize("ensemble", ["mean", "known"])
def test_later_items_are_files_of_their_own(tmp_path: Path, ensemble: str) -> None:
    asked = recommender() if ensemble == "mean" else counting_the_known(recommender())
    asked.save(tmp_path, users=True)
    before = files_of(tmp_path)
    for names in (("n1", "n2"), ("n3",)):
        start, asked = len(asked.items), grown(asked, *names)
        asked.append(tmp_path, start)
        after = files_of(tmp_path)
        assert {name for name, old in before.items() if after[name] != old} == {MANIFEST}
        assert len(after) == len(before) + 1
        before = after
        loaded = Recommender.load(tmp_path)
        assert loaded.items.ids == asked.items.ids and loaded.items.texts == asked.items.texts
        assert torch.equal(loaded.parts.catalogue, asked.parts.catalogue)
        assert digest(loaded) == digest(asked)
    with pytest.raises(ValueError, match="holds 63 items, not 60; load it again"):
        asked.append(tmp_path, 60)
    # Saved elsewhere it is one piece, the same as if all had been there from the start.
    loaded.save(tmp_path / "one", users=True)
    asked.save(tmp_path / "two", users=True)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert len(files_of(tmp_path / "one")) == 6

    added = sorted(tmp_path.glob("added-*"))
    for mine, other in (added, added[::-1]):
        whole = mine.read_bytes()
        for damaged in (other.read_bytes(), whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
            mine.write_bytes(damaged)
            with pytest.raises(DamagedFileError, match=mine.name):
                Recommender.load(tmp_path)
        mine.write_bytes(whole)
    Recommender.load(tmp_path)


def test_many_later_items_become_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MOST_ADDED", 2)
    asked = recommender()
    asked.save(tmp_path, users=True)
    seen = []
    for number in range(7):
        start, asked = len(asked.items), grown(asked, f"n{number}")
        asked.append(tmp_path, start)
        seen.append(len([*tmp_path.glob("added-*")]))
        assert digest(Recommender.load(tmp_path)) == digest(asked)
    assert seen == [1, 2, 0, 1, 2, 0, 1]
    # Between its file and the manifest, an interrupted one has changed nothing.
    more = grown(asked, "last")

    def dies(path: Path, *_: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(bundles, "write_manifest", dies)
        with pytest.raises(OSError, match="no space"):
            more.append(tmp_path, len(asked.items))
    assert digest(Recommender.load(tmp_path)) == digest(asked)
    more.append(tmp_path, len(asked.items))
    assert digest(Recommender.load(tmp_path)) == digest(more)
