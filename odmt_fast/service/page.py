"""The page at /: pick items, see what is recommended after them. Plain HTML, no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from html import escape
from itertools import islice
from urllib.parse import quote

from odmt_fast.retrieval import Recommendation, Recommender
from odmt_fast.retrieval.thumbnails import Thumbnails

SHOWN = 40
_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--dim:#777;--mark:#2563eb}
*{box-sizing:border-box}
body{font:16px/1.45 system-ui,sans-serif;max-width:64rem;margin:0 auto;padding:2rem 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1rem;color:var(--dim);margin:0 0 .6rem}
header p{color:var(--dim);margin:.2rem 0 1.2rem}
.bar{display:flex;gap:.5rem;margin-bottom:1.4rem}
.bar input{flex:1;min-width:0}
.bar *{font:inherit;padding:.55rem .8rem;border:1px solid var(--line);border-radius:.5rem}
button{background:var(--mark);color:#fff;border-color:var(--mark);cursor:pointer}
main{display:grid;grid-template-columns:1fr 1fr;gap:2rem;align-items:start}
@media(max-width:40rem){main{grid-template-columns:1fr}}
ul,ol{list-style:none;padding:0;margin:0}
li{border:1px solid var(--line);border-radius:.5rem;margin-bottom:.4rem;background:var(--soft)}
li>*{display:flex;gap:.6rem;align-items:center;padding:.45rem .7rem}
img{width:3rem;height:3rem;object-fit:cover;border-radius:.35rem}
label{cursor:pointer}label:has(:checked){box-shadow:inset 3px 0 var(--mark);border-radius:.5rem}
cite{font-style:normal;flex:1;overflow-wrap:anywhere}
small{color:var(--dim);white-space:nowrap}
ol{counter-reset:place}ol li{counter-increment:place}
ol li>*::before{content:counter(place);color:var(--dim);min-width:1.4rem;text-align:right}
.error{color:#c22}.empty{color:var(--dim)}
"""


def found(recommender: Recommender, words: str) -> list[tuple[str, str | None]]:
    """Ids and titles of the first items whose id or title holds `words`, whatever the case."""
    words = words.casefold()
    pairs = zip(recommender.items.ids, recommender.items.texts, strict=True)
    fit = ((i, t) for i, t in pairs if words in i.casefold() or words in (t or "").casefold())
    return list(islice(fit, SHOWN))


def render(
    recommender: Recommender,
    thumbnails: Thumbnails,
    words: str,
    picked: Sequence[str],
    shown: Iterable[tuple[str, str | None]],
    lists: Sequence[Recommendation],
    error: str,
) -> str:
    """The page.

    Args:
        recommender: gives the titles of `picked`.
        thumbnails: which items have a picture to show.
        words: what was searched for.
        picked: items of the history, oldest first.
        shown: ids and titles to pick from.
        lists: what is recommended.
        error: why nothing is; "" where something is.
    """

    def box(item: str, title: str | None, mark: str = "") -> str:
        name = f'type="checkbox" name="item" value="{escape(item)}"'
        return f"<li><label><input {name}{mark}>{label(item, title)}</label></li>"

    def label(item: str, title: str | None) -> str:
        picture = ""
        if item in thumbnails:
            address = f"/picture?item={quote(item, safe='', errors='replace')}"
            picture = f'<img src="{address}" alt="" loading="lazy">'
        small = f"<small>{escape(item)}</small>" if title else ""
        return f"{picture}<cite>{escape(title or item)}</cite>{small}"

    mine = "".join(box(item, _title(recommender, item), " checked") for item in picked)
    others = "".join(box(item, title) for item, title in shown if item not in picked)
    rows = "".join(
        f"<li><span>{label(item.id, item.title)}<small>{item.score:.3f}</small></span></li>"
        for item in lists
    )
    told = f'<p class="error">{escape(error)}</p>' if error else ""
    hint = "" if rows or told else '<p class="empty">Pick an item, then show what follows.</p>'
    none = "" if mine or others else '<p class="empty">No item has these words.</p>'
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>What next?</title><style>{_STYLE}</style><header><h1>What next?</h1>"
        f"<p>{len(recommender.items):,} items. Pick some, oldest first.</p></header>"
        f'<form><div class="bar"><input name="q" value="{escape(words)}" '
        'placeholder="search the titles" aria-label="search the titles">'
        "<button>Show what follows</button></div><main>"
        f"<section><h2>Items</h2>{none}<ul>{mine}{others}</ul></section>"
        f"<section><h2>Recommended</h2>{told}{hint}<ol>{rows}</ol></section></main></form></html>"
    )


def _title(recommender: Recommender, item: str) -> str | None:
    with suppress(ValueError):  # of an item that is not there the list tells
        return recommender.items.texts[recommender.dense_ids([item])[0] - 1]
    return None
