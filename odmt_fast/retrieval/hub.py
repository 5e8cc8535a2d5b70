"""What makes a bundle a model repository of the Hugging Face Hub: a card, and a way to fetch it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odmt_fast import __version__
from odmt_fast.retrieval.parts import Parts
from odmt_fast.storage import write_atomically

CARD = "README.md"
_OURS = "<!-- written by odmt_fast; without this line it is yours and stays as it is -->"
_FILES = ["manifest.json", "*.safetensors", "*.json", "faiss-*.index"]


@dataclass(frozen=True)
class Origin:
    """The run a model comes from.

    Attributes:
        users: of its dataset.
        interactions: of its dataset.
        training: settings by name.
        metrics: of the test targets, by name; empty where they are not known.
    """

    users: int
    interactions: int
    training: Mapping[str, Any]
    metrics: Mapping[str, float]


def downloaded(repository: str, options: Mapping[str, Any]) -> Path:
    """The folder that a repository of the Hub was downloaded to; see `Recommender.from_pretrained`.

    Raises:
        ImportError: huggingface_hub is not installed.
        ValueError: there is neither such a folder nor such a repository, or it cannot be reached.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        raise ImportError(
            f"{repository} is no folder, and a repository needs huggingface_hub; "
            "pip install 'odmt_fast[hub]'"
        ) from None
    try:
        return Path(snapshot_download(repository, allow_patterns=_FILES, **options))
    except (OSError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{repository} is no folder, and no repository that could be read: {reason}"
        ) from error


def write_card(folder: Path, parts: Parts, origin: Origin | None) -> None:
    """Writes the card to `folder`, unless one lies there that was changed by hand."""
    path = folder / CARD
    if path.exists() and _OURS not in path.read_text("utf-8", "replace"):
        return
    text = card(parts, origin)
    write_atomically(path, lambda part: part.write_text(text, "utf-8"))


def card(parts: Parts, origin: Origin | None) -> str:
    """The model card, in Markdown: what it is, how it is used, what it was made from."""
    settings = parts.settings
    sizes = {"items": len(parts.items)}
    if origin:
        sizes |= {"users": origin.users, "interactions": origin.interactions}
    sections = [
        _HEAD.format(
            name=settings.name,
            backbone=settings.backbone,
            branches=", ".join(parts.branches),
            seen=settings.max_seq_len,
        ),
        _table("Data", sizes),
    ]
    if origin and origin.metrics:
        sections.append(_table("Test targets", {k: f"{v:.4f}" for k, v in origin.metrics.items()}))
    if parts.index is not None:
        sections.append(f'## Search\n\nExact, or with `search="faiss"` by an {parts.index}.\n')
    told: dict[str, Any] = {"model": settings.model_dump(mode="json")}
    if origin:
        told["training"] = dict(origin.training)
    sections.append(f"## Settings\n\n```json\n{json.dumps(told, indent=1)}\n```\n")
    histories = f"the histories of {len(parts.known.names):,} people" if parts.known.names else ""
    sections.append(
        f"Made by odmt_fast {__version__}; it holds {histories or 'no history of anybody'}.\n"
    )
    return "\n".join([*sections, _OURS + "\n"])


_HEAD = """---
library_name: odmt_fast
tags:
- recommender-system
- sequential-recommendation
---

# What follows a history

`{name}` over a `{backbone}` user encoder, branches {branches}; of a history it reads the last
{seen} items.

## Use

```python
from odmt_fast import Recommender

recommender = Recommender.from_pretrained("OWNER/NAME")  # or this folder
[items] = recommender.recommend([["ITEM", "ITEM"]], k=10)  # ids, oldest first
```
"""


def _table(title: str, rows: Mapping[str, Any]) -> str:
    texts = {name: f"{v:,}" if isinstance(v, int) else v for name, v in rows.items()}
    lines = [f"| {name} | {text} |" for name, text in texts.items()]
    return "\n".join([f"## {title}", "", "| what | value |", "| --- | ---: |", *lines, ""])
