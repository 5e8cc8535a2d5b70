"""What a reader found and what the filters left: counted, never silently dropped."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def _count(label: str, *, always: bool = False) -> Any:
    return field(default=0, metadata={"label": label, "always": always})


@dataclass(frozen=True)
class Report:
    """Counts of one reading, from the source to the dataset.

    `kind` and `source` say which reader read what, `division` how it was split by time; every other
    field is a count whose label is the sentence the command line prints. Dropping happens in the
    order of the fields.
    """

    kind: str = ""
    source: str = ""
    division: str = ""
    users_read: int = _count("users read", always=True)
    items_read: int = _count("items read", always=True)
    interactions_read: int = _count("interactions read", always=True)
    blank_lines: int = _count("blank lines skipped")
    repeated_items: int = _count("repeated rows of an item, of which the first was kept")
    interactions_nameless: int = _count("interactions dropped: without user or item id")
    items_nameless: int = _count("rows of the item table dropped: without id")
    interactions_unknown: int = _count("interactions dropped: item not in the item table")
    interactions_repeated: int = _count("interactions that repeat a row exactly (--repeats drop)")
    runs_repeated: int = _count("interactions with the item right before them (--repeats collapse)")
    repeats_dropped: int = _count("interactions dropped: repeats")
    times_equal: int = _count("interactions at one time with another, kept in the source's order")
    times_rounded: int = _count(
        "times in steps of more than one (float32 or scientific notation): neighbours may be equal"
    )
    ratings_low: int = _count("interactions left out: rated below min_rating")
    held_out_of_time: int = _count(
        "times a user's part of the split begins before the last one ends"
    )
    users_empty: int = _count("users dropped: no interaction")
    users_too_short: int = _count("users dropped: shorter than the least sequence length")
    users_below_core: int = _count("users dropped by the k-core filter")
    items_below_core: int = _count("items dropped by the k-core filter")
    items_unused: int = _count("items dropped: no interaction left")
    interactions_cut: int = _count("interactions dropped: older than the kept end of a sequence")
    items_cold: int = _count("items held out of training (--cold-items)")
    interactions_cold: int = _count("interactions dropped: of held-out items, before the test")
    items_unbought: int = _count("items kept that nobody bought (--keep-unbought)")
    images_unused: int = _count("image files that belong to no item of the table")
    images_composed: int = _count("images matched to an item in Unicode's composed form")
    images_padded: int = _count("images matched to an item but for leading zeros")
    files_foreign: int = _count("files beside the images that are none by their name")
    images_absent: int = _count("paths of images at which there is no file")
    images_broken: int = _count("images that cannot be read")
    targets_first: int = _count("held-out interactions with none before them, which no one ranks")
    texts_decoded: int = _count("texts in which HTML entities were decoded")
    texts_missing: int = _count(
        "texts of which a part says nan, NULL or the like, taken as missing"
    )
    texts_quoted: int = _count(
        "texts in quotation marks, which are kept as letters (--quotes takes them as quoting)"
    )
    items_without_text: int = _count("items kept without text")
    items_without_image: int = _count("items kept without image")
    items_bare: int = _count("items kept with neither text nor image")
    users: int = _count("users kept", always=True)
    items: int = _count("items kept", always=True)
    interactions: int = _count("interactions kept", always=True)

    def lines(self) -> tuple[str, ...]:
        """The report for people: a heading and one line per count; drops of zero are left out."""
        shown = [f"{self.source} ({self.kind})"]
        for entry in fields(self):
            value = getattr(self, entry.name)
            if "label" in entry.metadata and (value or entry.metadata["always"]):
                shown.append(f"{value:>12,} {entry.metadata['label']}")
        return (*shown, self.division) if self.division else tuple(shown)
