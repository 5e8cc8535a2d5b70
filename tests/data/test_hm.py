from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from odmt_fast.data import DataError, Filters, HmOptions, detect, read

TRANSACTIONS = """t_dat,customer_id,article_id,price,sales_channel_id
2018-09-20,c2,0663713001,0.05,2
2018-09-20,c1,0541518023,0.03,2
2018-09-21,c1,0663713001,0.05,2
2018-09-20,c1,0505221004,0.01,2
2018-09-19,c2,0541518023,0.01,2
2018-09-25,c2,0505221004,0.01,2
"""
ARTICLES = """article_id,product_code,prod_name,product_type_name,detail_desc
0505221004,505221,Jersey tank,Vest top,"Top in jersey,
with narrow straps."
0541518023,541518,Rae Push,Bra,
0663713001,663713,Atlanta,Underwear body,Lace body
"""


@pytest.fixture
def hm(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    (tmp_path / "transactions_train.csv").write_text(TRANSACTIONS)
    (tmp_path / "articles.csv").write_text(ARTICLES)
    picture(tmp_path / "images" / "066" / "0663713001.jpg")
    return tmp_path


def test_purchases_in_order_of_day_then_file(hm: Path) -> None:
    assert detect(hm) == "hm"
    data = read(hm, filters=Filters(min_seq_len=3))
    assert data.users == ("c2", "c1")
    assert data.items.ids == ("0505221004", "0541518023", "0663713001")
    assert [items.tolist() for items in data.sequences] == [[2, 3, 1], [2, 1, 3]]
    assert data.items.texts[:2] == (
        "Jersey tank. Vest top. Top in jersey, with narrow straps.",
        "Rae Push. Bra",
    )
    assert [image is None for image in data.items.images] == [True, True, False]
    assert data.report.items_without_image == 2


def test_texts_are_chosen(hm: Path) -> None:
    data = read(hm, filters=Filters(min_seq_len=3), options=HmOptions(texts=("prod_name",)))
    assert data.items.texts == ("Jersey tank", "Rae Push", "Atlanta")


def test_unknown_article_is_named_or_dropped(hm: Path) -> None:
    path = hm / "transactions_train.csv"
    path.write_text(TRANSACTIONS + "2018-09-26,c2,0000000001,0.01,2\n")
    with pytest.raises(DataError, match="line 8: item '0000000001' is not in articles.csv"):
        read(hm)
    data = read(hm, filters=Filters(min_seq_len=3), options=HmOptions(unknown_items="drop"))
    assert data.report.interactions_unknown == 1
    assert data.sequences.items.size == 6


def test_repeated_article_is_named_by_its_last_line(hm: Path) -> None:
    (hm / "articles.csv").write_text(ARTICLES + "0505221004,1,a,b,c\n")
    with pytest.raises(DataError, match="line 6: item '0505221004' is listed twice"):
        read(hm)
