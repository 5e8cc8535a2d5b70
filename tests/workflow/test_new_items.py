"""Items nobody has bought: encoded as the model would, beside vectors that stay as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import csv

from odmt_fast import Dataset, Recommender, fit
from odmt_fast.cli import main
from odmt_fast.data import Interactions, ItemTable
from odmt_fast.data.dataset import items_of_frame
from odmt_fast.data.sequences import Sequences
from odmt_fast.features import TokenTable
from odmt_fast.features.store import StoreError, TokenStore
from odmt_fast.features.tokens import first_tokens
from odmt_fast.models.zoo import build
from odmt_fast.randomness import torch_generator
from odmt_fast.retrieval.item_side import ItemSide
from odmt_fast.retrieval.thumbnails import Thumbnails
from odmt_fast.storage import DamagedFileError
from odmt_fast.training.checkpoint import load_weights

NEW = {"item": ["n1", "n2", "n3"], "text": ["thing number 7", "Ein Ding", None]}


@pytest.fixture
def bundle(after_readme: Path, tmp_path: Path) -> Path:
    """A copy of README's bundle."""
    return shutil.copytree(after_readme / "bundle", tmp_path / "bundle")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A picture of the first new item."""
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(tmp_path / "pictures" / "n1.png")
    return tmp_path / "pictures"


def test_new_vectors_are_those_of_a_larger_catalogue(
    after_readme: Path, bundle: Path, pictures: Path
) -> None:
    asked = Recommender.load(bundle)
    before = asked.parts.catalogue.clone()
    asked.add_items(NEW, pictures)
    assert torch.equal(asked.parts.catalogue[:, :25], before)

    # A model over 25 items, the last of which is the new one: all else is the trained one's.
    run = after_readme / "runs" / "mine"
    side = asked.parts.item_side
    assert side is not None
    items = Interactions.load(run / "dataset").items
    settings = asked.parts.settings
    weights = load_weights(run)
    table = weights["items.id_embedding.weight"]
    for number, name in enumerate(NEW["item"]):
        sources = {}
        for encoder in side.encoders:
            store = TokenStore.open(run / "dataset" / "features" / encoder.modality)
            old, new = store.table(), encoder.tokens(_one(pictures, number))
            offsets = torch.cat([old.offsets, old.offsets[-1:] + new.offsets[2:]])
            sources[encoder.modality] = TokenTable(torch.cat([old.values, new.values]), offsets)
        row = torch.randn(table.shape[1], generator=torch_generator(1, f"new item {name}"))
        row *= (2 / (len(items) + 1 + table.shape[1])) ** 0.5
        whole = {**weights, "items.id_embedding.weight": torch.cat([table, row[None]])}
        model = build(settings, [1.0] * 26, sources, generator=torch.Generator()).eval()
        model.load_state_dict(whole)
        expected = model.encode_catalogue()[:, 25]
        torch.testing.assert_close(
            asked.parts.catalogue[:, 25 + number], expected, rtol=1e-4, atol=1e-5
        )


def _one(pictures: Path, number: int) -> ItemTable:
    frame = {name: values[number : number + 1] for name, values in NEW.items()}
    return items_of_frame(frame, pictures)


def test_an_id_row_depends_on_nothing_beside_it(bundle: Path, pictures: Path) -> None:
    together, apart = Recommender.load(bundle), Recommender.load(bundle)
    together.add_items(NEW, pictures)
    for number in (2, 0, 1):
        apart.add_items(_one(pictures, number))
    mine = apart.parts.catalogue[:, apart.dense_ids(NEW["item"])]
    torch.testing.assert_close(together.parts.catalogue[:, 25:], mine, rtol=1e-4, atol=1e-5)


def test_they_are_recommended_similar_and_saved(
    bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    asked = Recommender.load(bundle)
    asked.add_items(pa.table(NEW), pictures)
    assert {i.id for i in asked.recommend([["i01"]], k=3, allow=NEW["item"])[0]} == set(NEW["item"])
    assert asked.recommend([["n1", "i01"]], k=3)[0]
    assert asked.similar(["n2"], k=2)[0]
    asked.save(tmp_path / "grown")
    loaded = Recommender.load(tmp_path / "grown")
    assert torch.equal(loaded.parts.catalogue, asked.parts.catalogue)
    assert loaded.items.texts[-3:] == ("thing number 7", "Ein Ding", None)
    with pytest.raises(ValueError, match="item 'n1' is in the catalogue already"):
        loaded.add_items(NEW)
    loaded.add_items({"item": ["n4"], "text": ["more"]})
    assert len(loaded.items) == 28


def test_what_cannot_be_added(bundle: Path, shop: Path, tmp_path: Path) -> None:
    asked = Recommender.load(bundle)
    twice = {"item": ["n1", "n1"], "text": ["a", "b"]}
    with pytest.raises(ValueError, match="<items>, row 2: item 'n1' is listed twice"):
        asked.add_items(twice)
    with pytest.raises(ValueError, match=r"column 'name' is missing.*\(texts= names it\)"):
        asked.add_items(NEW, texts=["name"])
    asked.save(tmp_path / "without", item_encoder=False)
    with pytest.raises(ValueError, match="nothing here encodes items: .*--no-item-encoder"):
        Recommender.load(tmp_path / "without").add_items(NEW)
    # Another encoder under the name of the one that made the features.
    side = asked.parts.item_side
    assert isinstance(side, ItemSide)
    for encoder in side.encoders:
        encoder.identity["weights"] = "0" * 64  # type: ignore[index]
    with pytest.raises(StoreError, match="made by 'hashed-words' with other weights"):
        asked.add_items(NEW)


def test_a_damaged_item_encoder_is_refused_by_name(bundle: Path) -> None:
    (file,) = bundle.glob("item_encoder-*.safetensors")
    whole = bytearray(file.read_bytes())
    for place in (3, 300, len(whole) // 2, len(whole) - 1):
        damaged = whole.copy()
        damaged[place] ^= 4
        file.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match=file.name):
            Recommender.load(bundle)


@pytest.mark.parametrize(("start", "width"), [("text", 256), ("image", 128)])
def test_ids_that_begin_as_features_do_so_again(
    start: str, width: int, shop: Path, tmp_path: Path
) -> None:
    data = Dataset.from_frames(
        csv.read_csv(shop / "interactions.csv"),
        csv.read_csv(shop / "items.csv"),
        images=shop / "images",
    )
    small = {"width": 16, "epochs": 1, "imt_layers": 1, "user_layers": 1}
    made = fit(data, output=tmp_path / "run", id_init=start, id_width=width, **small)
    side = made.parts.item_side
    assert side is not None
    new = items_of_frame(NEW)
    sources = {encoder.modality: encoder.tokens(new) for encoder in side.encoders}
    rows = side.id_rows_of(new, made.parts.settings, sources, width)
    assert torch.equal(rows, first_tokens(sources[start]))
    made.add_items(new)
    assert made.parts.catalogue.isfinite().all() and len(made.items) == 27


def test_the_command(
    after_readme: Path,
    bundle: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = tmp_path / "new.csv"
    table.write_text("item,name\nn1,Red thing\nn2,Other &amp; thing\n")
    words = ["add-items", bundle, table, pictures, "--text-columns", "name", "--json"]
    assert main([*map(str, words)]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 26
    assert Recommender.load(bundle).items.texts[-1] == "Other & thing"
    run, grown = after_readme / "runs" / "mine", tmp_path / "grown"
    for more, status, told in (
        ([bundle], 1, "item 'n1' is in the catalogue already"),
        ([run], 1, "is no bundle; name the folder of the new one with --output"),
        ([run, "--output", grown], 0, "2 items added, 26 in all"),
        ([run, "--output", grown], 1, "holds a bundle; pass --overwrite"),
        ([run, "--output", grown, "--overwrite"], 0, "26 in all"),
    ):
        source, *options = more
        words = ["add-items", source, table, pictures, "--text-columns", "name", *options]
        assert main([*map(str, words)]) == status
        captured = capsys.readouterr()
        assert told in captured.out + captured.err
    assert not Recommender.load(grown).known.names


def test_a_graph_reads_items_that_came_later(after_readme: Path, tmp_path: Path) -> None:
    made, new = tmp_path / "made", tmp_path / "new.csv"
    new.write_text("item,text\nn1,Red thing\n")
    run = after_readme / "runs" / "mine"
    assert main(["export", str(run), str(made), "--torch-export", "--pictures"]) == 0
    assert main(["add-items", str(made), str(new)]) == 0
    asked = Recommender.load(made)
    assert len(Thumbnails.load(made, asked.parts)) == 24
    (file,) = made.glob("user_graph-*.pt2")
    history = torch.zeros(1, asked.parts.settings.max_seq_len, dtype=torch.int64)
    history[0, :2] = torch.tensor([3, 25])
    found = torch.export.load(file).module()(asked.parts.catalogue[:, 1:], history)
    expected = asked.user_vectors(Sequences.from_lists([[3, 25]]))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
