"""The corpus of `make torture` has every reader in every edition, and nothing is wrong with it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.torture.corpus import CORPUS
from bench.torture.readers import fuzz, layouts
from odmt_fast.data import READERS, Filters, read
from odmt_fast.data.readers import amazon
from odmt_fast.data.readers.records import LITERAL_STARTS


def test_every_reader_has_a_corpus() -> None:
    assert {CORPUS[name].kind for name in layouts()} == set(READERS)


def test_every_edition_has_a_corpus() -> None:
    sources = [CORPUS[name].make(random.Random(1)) for name in layouts() if "amazon" in name]
    reviews = [source.lines["Things_5.json"][0] for source in sources]
    for layout in amazon.LAYOUTS:
        assert any(layout.user in line and layout.timestamp in line for line in reviews)
    metadata = [source.lines["meta_Things.json"][0] for source in sources]
    assert len({line.startswith(LITERAL_STARTS) for line in metadata}) == 2


@pytest.mark.parametrize("name", CORPUS)
def test_a_whole_source_is_read_whole(tmp_path: Path, name: str) -> None:
    source = CORPUS[name].make(random.Random(1))
    for file, lines in source.lines.items():
        (tmp_path / file).write_text("\n".join(lines) + "\n")
    data = read(tmp_path, CORPUS[name].kind, filters=Filters(min_seq_len=3))
    assert data.sequences.items.size == sum(len(items) for *_, items in source.facts)


@pytest.mark.parametrize("name", CORPUS)
def test_damaged_lines_are_refused_or_read_and_none_is_lost(tmp_path: Path, name: str) -> None:
    tally = fuzz(name, tmp_path, seed=3, lines=150)
    assert tally.clean, tally.notes
    assert tally.refused and tally.unchanged
