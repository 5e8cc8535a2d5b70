"""The page at /: pick items, see what is recommended after them. Plain HTML, no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from html import escape
from itertools import islice

from odmt_fast.retrieval import Recommendation, Recommender

SHOWN = 40
_STYLE = (
    "body{font:16px/1.4 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "main{display:grid;grid-template-columns:1fr 1fr;gap:2rem}li{margin:.2rem 0}"
    "small{color:#666}.error{color:#a00}ul{list-style:none;padding:0}"
)


def found(recommender: Recommender, words: str) -> list[tuple[str, str | None]]:
    """Ids and titles of the first items whose id or title holds `words`, whatever the case."""
    words = words.casefold()
    pairs = zip(recommender.items.ids, recommender.items.texts, strict=True)
    fit = ((i, t) for i, t in pairs if words in i.casefold() or words in (t or "").casefold())
    return list(islice(fit, SHOWN))


def render(
    recommender: Recommender,
    words: str,
    picked: Sequence[str],
    shown: Iterable[tuple[str, str | None]],
    lists: Sequence[Recommendation],
    error: str,
) -> str:
    """The page.

    Args:
        recommender: gives the titles of `picked`.
        words: what was searched for.
        picked: items of the history, oldest first.
        shown: ids and titles to pick from.
        lists: what is recommended.
        error: why nothing is; "" where something is.
    """
    mine = "".join(_box(item, _title(recommender, item), picked=True) for item in picked)
    others = "".join(_box(item, title) for item, title in shown if item not in picked)
    rows = "".join(
        f"<li>{_label(item.id, item.title)} <small>{item.score:.3f}</small></li>" for item in lists
    )
    told = f'<p class="error">{escape(error)}</p>' if error else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>odmt_fast</title><style>{_STYLE}</style><h1>What next?</h1>"
        f"<p>{len(recommender.items):,} items. Pick some, oldest first.</p><form><p>"
        f'<input name="q" value="{escape(words)}" placeholder="search" aria-label="search"> '
        f"<button>Show</button></p>{told}<main><section><h2>Items</h2><ul>{mine}{others}</ul>"
        f"</section><section><h2>Recommended</h2><ol>{rows}</ol></section></main></form></html>"
    )


def _title(recommender: Recommender, item: str) -> str | None:
    with suppress(ValueError):  # of an item that is not there the list tells
        return recommender.items.texts[recommender.dense_ids([item])[0] - 1]
    return None


def _box(item: str, title: str | None, *, picked: bool = False) -> str:
    mark = " checked" if picked else ""
    box = f'<input type="checkbox" name="item" value="{escape(item)}"{mark}>'
    return f"<li><label>{box} {_label(item, title)}</label></li>"


def _label(item: str, title: str | None) -> str:
    return f"{escape(title)} <small>{escape(item)}</small>" if title else escape(item)
