"""MovieLens genres as a third modality: of every film a vector of ones and zeros.

The texts read "Toy Story (1995). Adventure, Animation, Comedy. ..."; the genres stand between the
year and the next full stop, single words between commas. A film without any has no vector::

    python examples/genres.py movielens-posters/text.tsv genres.parquet
    odmt-fast extract dataset/ --modality genres --vectors genres.parquet --missing-vectors allow
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

GENRES = re.compile(r"\(\d{4}\)\. (?P<genres>[A-Z][\w-]*(, [A-Z][\w-]*)*)\.")


def genres_of(text: str) -> frozenset[str]:
    """What stands behind the year, split at the commas."""
    found = GENRES.search(text)
    return frozenset(found["genres"].split(", ") if found else ())


def genre_vectors(lines: list[str]) -> pa.Table:
    """Lines of ``item TAB text`` to columns ``item`` and ``vector``, a place for every genre."""
    films = {item: genres_of(text) for item, _, text in (line.partition("\t") for line in lines)}
    places = sorted(frozenset[str]().union(*films.values()))
    rows = {
        item: [float(place in genres) for place in places]
        for item, genres in films.items()
        if genres
    }
    return pa.table({"item": [*rows], "vector": [*rows.values()]})


def main() -> None:
    """Reads ``text.tsv`` and writes the Parquet file."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: python examples/genres.py TEXT.tsv GENRES.parquet")
    texts, out = map(Path, sys.argv[1:])
    table = genre_vectors(texts.read_text("utf-8").splitlines())
    pq.write_table(table, out)
    print(f"{out}: {table.num_rows:,} films, {len(table['vector'][0])} genres")


if __name__ == "__main__":
    main()
