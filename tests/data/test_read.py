from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from odmt_fast.data import DataError, Filters, HmOptions, Interactions, detect, leave_one_out, read


def test_kinds_and_options_must_fit(official: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kind='netflix' is not known"):
        read(official, "netflix")
    with pytest.raises(ValueError, match="options must be OfficialOptions"):
        read(official, options=HmOptions())
    with pytest.raises(DataError, match="no such folder"):
        detect(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="none of the layouts official, hm, table, amazon"):
        read(tmp_path / "empty")
    (official / "transactions_train.csv").write_text("")
    with pytest.raises(DataError, match="several layouts .official, hm."):
        detect(official)


def test_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, odmt_fast.data; "
        "print([m for m in ('torch', 'pyarrow', 'PIL', 'lmdb') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "users", "items", "interactions"),
    [
        ("movielens-posters-mini", 800, 400, 19_844),
        ("movielens-posters", 3_271, 4_807, 372_706),
        ("amazon-electronics", 43_462, 23_133, 374_989),
        ("amazon-beauty-esasrec", 22_363, 12_101, 198_502),
    ],
)
def test_shared_data_is_read_whole(
    shared: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    users: int,
    items: int,
    interactions: int,
) -> None:
    folder = shared(name)
    data = read(folder, decode_images=name.endswith("mini"))
    assert (data.n_users, data.n_items) == (users, items)
    assert data.sequences.items.size == data.report.interactions_read == interactions
    assert data.report.items_without_text == (0 if (folder / "text.tsv").exists() else items)
    assert data.report.items_without_image == (items if name.startswith("amazon") else 0)

    numbers = {item: i for i, item in enumerate(data.items.ids, 1)}
    with (folder / "behaviors.tsv").open() as file:
        for user, line in zip(range(50), file, strict=False):
            who, what = line.rstrip("\n").split("\t")
            assert data.users[user] == who
            assert data.sequences[user].tolist() == [numbers[item] for item in what.split()]
    again = Interactions.load(data.save(tmp_path / "prepared"))
    assert np.array_equal(again.sequences.items, data.sequences.items)
    assert again.items == data.items


def test_popularity_baseline_of_the_shared_data(shared: Callable[[str], Path]) -> None:
    """The README of the data says .068 for HR@10 of popularity, last item out."""
    data = read(shared("movielens-posters-mini"), filters=Filters(k_core=5), decode_images=False)
    split = leave_one_out(data.sequences, data.n_items, 30)
    shares = np.tile(split.popularity, (data.n_users, 1))
    shares[:, 0] = -1
    shares[split.test_history.user_of_item(), split.test_history.items] = -1
    target = data.sequences.items[data.sequences.offsets[1:] - 1]
    hits = (shares > shares[np.arange(data.n_users), target][:, None]).sum(axis=1) < 10
    assert hits.mean() == pytest.approx(0.068, abs=0.015)
