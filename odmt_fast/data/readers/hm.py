"""H&M Personalized Fashion Recommendations: transactions_train.csv, articles.csv, images/.

``transactions_train.csv`` has t_dat, customer_id, article_id; ``articles.csv`` has article_id (10
digits, leading zero), prod_name, product_type_name, detail_desc; pictures are
``images/0NN/0NNNNNNNNN.jpg``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from odmt_fast.data.filters import Log
from odmt_fast.data.items import ItemTable
from odmt_fast.data.readers.columns import Unknown
from odmt_fast.data.readers.image_files import match_images
from odmt_fast.data.readers.table import images_folder, read_interactions, read_items
from odmt_fast.data.report import Report

TRANSACTIONS = "transactions_train.csv"
ARTICLES = "articles.csv"


@dataclass(frozen=True)
class HmOptions:
    """What to take.

    Attributes:
        texts: columns of articles.csv whose texts are joined by ". ".
        images: the image folder; None takes ``images/`` if it is there.
        unknown_items: "error" refuses a purchase of an article that articles.csv lacks, "drop"
            leaves it out and counts it.
    """

    texts: tuple[str, ...] = ("prod_name", "product_type_name", "detail_desc")
    images: str | None = None
    unknown_items: Unknown = "error"


def read_hm(path: Path, options: HmOptions) -> Log:
    """Reads the folder `path`.

    Raises:
        DataError: a file or a column is missing; a value is missing or malformed; an article is
            listed twice; an article is unknown and `options.unknown_items` is "error".
    """
    ids, texts, _ = read_items(path / ARTICLES, "article_id", options.texts)
    matches = match_images(images_folder(path, options.images), ids)
    ordered, n_read = read_interactions(
        path / TRANSACTIONS,
        ("customer_id", "article_id", "t_dat"),
        ids,
        table=path / ARTICLES,
        unknown=options.unknown_items,
    )
    return Log(
        users=ordered.users,
        items=ItemTable(ids, texts, matches.images),
        sequences=ordered.sequences,
        repeated=ordered.repeated,
        report=Report(
            kind="hm",
            source=str(path),
            interactions_read=n_read,
            **ordered.counts(),
            **matches.counts,
        ),
    )
