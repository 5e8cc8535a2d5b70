"""H&M Personalized Fashion Recommendations: transactions_train.csv, articles.csv, images/.

``transactions_train.csv`` has t_dat, customer_id, article_id; ``articles.csv`` has article_id (10
digits, leading zero), prod_name, product_type_name, detail_desc; pictures are
``images/0NN/0NNNNNNNNN.jpg``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from odmt_fast.data.filters import Log
from odmt_fast.data.readers.gather import Titles, gather, tabular_source
from odmt_fast.data.readers.options import TabularOptions
from odmt_fast.data.readers.table import images_folder, read_items
from odmt_fast.data.report import Report

TRANSACTIONS = "transactions_train.csv"
ARTICLES = "articles.csv"


@dataclass(frozen=True, kw_only=True)
class HmOptions(TabularOptions):
    """What to take.

    Attributes:
        user: column of the customer.
        item: column of the article, in both files.
        timestamp: column of the day.
        texts: columns of articles.csv whose texts are joined by ". ".
        images: the image folder; None takes ``images/`` if it is there.
    """

    user: str = "customer_id"
    item: str = "article_id"
    timestamp: str = "t_dat"
    texts: tuple[str, ...] = ("prod_name", "product_type_name", "detail_desc")
    images: str | None = None


def read_hm(path: Path, options: HmOptions) -> Log:
    """Reads the folder `path`.

    Raises:
        DataError: a file or a column is missing; a value is missing or malformed; an article is
            listed twice; an article is unknown and `options.unknown_items` is "error".
    """
    options.check_files(path / TRANSACTIONS, path / ARTICLES)
    catalogue = read_items(path / ARTICLES, options.item, options.texts, options=options)
    titles = Titles(options.user, options.item, options.timestamp)
    return gather(
        [tabular_source(path / TRANSACTIONS, titles, options)],
        titles,
        catalogue,
        images_folder(path, options.images),
        Report(kind="hm", source=str(path)),
        options,
        time_unit=options.time_unit,
    )
