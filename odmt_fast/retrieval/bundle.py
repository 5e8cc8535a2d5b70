"""Bundles: a folder with all that recommending needs, and a fingerprint that holds it together.

``manifest.json`` names the other files, which carry its fingerprint in their names and in
themselves: ``items-*.safetensors`` ("vectors", float32 [K, n_items, d], and of an ensemble of the
known branches "known", uint8 [K, n_items], and "centre", float32 [K, d]), ``items-*.json`` (ids and
titles), ``user_encoder-*.safetensors``; with known users ``users-*.safetensors`` and
``users-*.json``; with what encodes further items ``item_encoder-*.safetensors``; with an index
``faiss-*.index``, named by its own digest. Items that came later are files of their own,
``added-*.safetensors`` ("vectors" and "known", with ids and titles in the header), whose
fingerprints continue that of the bundle, each the one before. New files get new names, and the
rename of the manifest is the one moment at which the bundle changes: a reader sees the old one or
the new one. Nothing is pickled, and reading one needs no optional library.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import pad

from odmt_fast import __version__
from odmt_fast.config import ModelConfig
from odmt_fast.data.items import ItemTable
from odmt_fast.data.sequences import Sequences
from odmt_fast.kernels.linear import libraries
from odmt_fast.models.ensemble import KnownBranches
from odmt_fast.models.zoo import user_encoder
from odmt_fast.retrieval.approximate import Index
from odmt_fast.retrieval.item_side import ItemSide
from odmt_fast.retrieval.manifest import (
    FORMAT,
    MANIFEST,
    VERSION,
    MissingFileError,
    check_free,
    consistently,
    digest_of,
    file_of,
    read_manifest,
    write_manifest,
    write_text,
)
from odmt_fast.retrieval.parts import NOBODY, KnownUsers, Parts
from odmt_fast.retrieval.pictures import packed, unpacked
from odmt_fast.storage import (
    DamagedFileError,
    Digest,
    FolderLock,
    load_tensors,
    save_tensors,
    write_atomically,
)

SEARCHES = ("exact", "faiss")
"""How lists are searched: "faiss" by the approximate index of the bundle."""

MOST_ADDED = 64
"""Files of later items; with one more the bundle is written anew, without any."""
_OWN = re.compile(
    r"(items|users|user_encoder|item_encoder|added)-[0-9a-f]{12}\.(safetensors|json)"
    r"|user_graph-[0-9a-f]{12}\.(pt2|onnx)|pictures-[0-9a-f]{12}\.safetensors"
    r"|faiss-[0-9a-f]{12}\.index"
)


def write_bundle(folder: Path, parts: Parts, *, overwrite: bool) -> Path:
    """Writes `parts`; see `Recommender.save`."""
    check_free(folder, overwrite=overwrite)
    with FolderLock(folder, "odmt-fast export"):
        _write(folder, parts)
    return folder


def append_items(
    folder: Path, parts: Parts, start: int, pictures: dict[str, bytes] | None = None
) -> None:
    """Puts the items of `parts` from row `start` on into the bundle that holds the others.

    What is there is not written again, but for the manifest. When `MOST_ADDED` files of later items
    are there, all of `parts` is. `pictures` are small ones of the new items.

    Raises:
        ValueError: the bundle does not hold `start` items, or it is damaged.
        StorageError: it cannot be written; it has not changed.
    """
    with FolderLock(folder, "odmt-fast add-items"):
        values = read_manifest(folder)
        added = values["added"]
        held = values["items"] + sum(entry["items"] for entry in added)
        if held != start:
            raise ValueError(f"{folder} holds {held:,} items, not {start:,}; load it again")
        if len(added) >= MOST_ADDED:
            shown = companion(folder, parts, "pictures", "safetensors")
            if shown.is_file():  # before the files that hold the later ones go
                whole = read_pictures(folder, shown, values) | (pictures or {})
                save_tensors(shown, packed(whole), {"ids": list(whole)})
            return _write(folder, parts, values.get("faiss"))
        before = added[-1]["fingerprint"] if added else values["fingerprint"]
        tensors = _item_tensors(parts, start)
        names = {"ids": parts.items.ids[start:], "titles": parts.items.texts[start:]}
        if pictures:
            tensors |= packed(pictures)
            names["pictured"] = tuple(pictures)
        fingerprint = _fingerprint({"before": before, **names}, {"added": tensors})
        file = file_of(folder, "added", fingerprint, "safetensors")
        save_tensors(file, tensors, {"fingerprint": fingerprint, **names})
        entry = {"fingerprint": fingerprint, "items": len(names["ids"])}
        added.append(entry | ({"pictures": len(pictures)} if pictures else {}))
        write_manifest(folder, values)


def _write(folder: Path, parts: Parts, kept: Mapping[str, Any] | None = None) -> None:
    """Of `write_bundle`, once nobody else writes there.

    `kept` is what the manifest says of an index that lies there and goes on covering the first
    items; without it, that of `parts` is written.
    """
    values, tensors, names = _contents(parts)
    texts = {stem: json.dumps(named) for stem, named in names.items()}
    values["names"] = {stem: Digest().add(text).hex for stem, text in texts.items()}
    values["fingerprint"] = fingerprint = _fingerprint(values, tensors)
    encoder = _encoder(parts)
    before = [path for path in folder.iterdir() if _OWN.fullmatch(path.name)]
    for stem, part in tensors.items():
        file = file_of(folder, stem, fingerprint, "safetensors")
        save_tensors(file, part, {"fingerprint": fingerprint})
    for stem, text in texts.items():
        write_text(file_of(folder, stem, fingerprint, "json"), text)
    stay = [fingerprint, encoder]
    if parts.index is not None or kept is not None:
        values["faiss"] = kept or _write_index(folder, parts.index)
        stay.append(values["faiss"]["digest"])
    write_manifest(folder, values)
    for path in before:
        if not any(name[:12] in path.name for name in stay):
            path.unlink(missing_ok=True)


def _write_index(folder: Path, index: Index | None) -> dict[str, Any]:
    """What the manifest says of it."""
    assert index is not None
    content = index.to_bytes()
    digest = Digest().add(content).hex
    file = file_of(folder, "faiss", digest, "index")
    write_atomically(file, lambda part: part.write_bytes(content))
    return {**index.to_json(), "items": index.items, "digest": digest}


def _read_index(folder: Path, manifest: Mapping[str, Any]) -> Index:
    values = manifest.get("faiss")
    if values is None:
        raise ValueError(
            f"{folder} has no approximate index; export the run with --faiss, or leave --search "
            "(search=) out"
        )
    file = file_of(folder, "faiss", values["digest"], "index")
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(file) from None
    if Digest().add(content).hex != values["digest"]:
        raise DamagedFileError(f"{file} is damaged; export again")
    return Index.of(content, values)


def _contents(
    parts: Parts,
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]], dict[str, dict[str, Any]]]:
    """What the manifest says of `parts`, and by file their tensors and their names."""
    values: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "made_by": f"odmt_fast {__version__}",
        "model": parts.settings.model_dump(mode="json"),
        "branches": parts.branches,
        "libraries": libraries.current().to_json(),
        "items": len(parts.items),
        "added": [],
        "users": len(parts.known.names),
        "item_side": None,
    }
    tensors = {
        "items": _item_tensors(parts),
        "user_encoder": parts.users.state_dict(),
    }
    if parts.known_branches is not None:
        tensors["items"]["centre"] = parts.known_branches.centre.float()
    names = {"items": {"ids": parts.items.ids, "titles": parts.items.texts}}
    if parts.known.names:
        sequences = parts.known.sequences
        tensors["users"] = {
            "items": torch.tensor(sequences.items),
            "offsets": torch.tensor(sequences.offsets),
        }
        names["users"] = {"names": parts.known.names}
    if parts.item_side is not None:
        tensors["item_encoder"], values["item_side"] = parts.item_side.to_tensors()
    return values, tensors, names


def _item_tensors(parts: Parts, start: int = 0) -> dict[str, Tensor]:
    """Of the items from row `start` on."""
    tensors = {"vectors": parts.catalogue[:, start + 1 :].float()}
    if parts.known_branches is not None:
        tensors["known"] = parts.known_branches.known[:, start + 1 :].to(torch.uint8)
    return tensors


def read_bundle(folder: Path, device: torch.device, search: str = "exact") -> Parts:
    """Reads what `write_bundle` wrote; see `Recommender.load`."""

    def read(manifest: Mapping[str, Any]) -> Parts:
        index = _read_index(folder, manifest) if search == "faiss" else None
        return replace(_read(folder, manifest, device), index=index)

    return consistently(folder, read)


def _read(folder: Path, manifest: Mapping[str, Any], device: torch.device) -> Parts:
    """Of `read_bundle`, what `manifest` names."""
    fingerprint = manifest["fingerprint"]
    try:
        settings = ModelConfig.model_validate(manifest["model"])
    except ValidationError as error:
        raise ValueError(
            f"{folder} was made by {manifest['made_by']} with settings that are not known here "
            f"({error.errors()[0]['loc'][0]}); update odmt_fast, or export the run again"
        ) from error
    with contextlib.suppress(TypeError):  # a record of another version says nothing
        libraries.use(libraries.Libraries.from_json(manifest["libraries"]))
    names = _names(folder, "items", manifest)
    items = _load(folder, "items", fingerprint)[0]
    blocks = [items]
    for entry in manifest["added"]:
        more, later = _load(folder, "added", entry["fingerprint"])
        blocks.append(more)
        names["ids"] += later["ids"]
        names["titles"] += later["titles"]
    vectors = torch.cat([block["vectors"] for block in blocks], dim=1).to(device)
    counted = None
    if "known" in items:
        every = torch.cat([block["known"] for block in blocks], dim=1).bool().to(device)
        counted = KnownBranches(pad(every, (1, 0), value=True), items["centre"].to(device))
    branches = tuple(manifest["branches"])
    users = user_encoder(settings, len(branches))
    users.load_state_dict(_load(folder, "user_encoder", fingerprint)[0])
    known = NOBODY
    if manifest["users"]:
        histories = _load(folder, "users", fingerprint)[0]
        known = KnownUsers(
            tuple(_names(folder, "users", manifest)["names"]),
            Sequences(histories["items"].numpy(), histories["offsets"].numpy()),
        )
    side = None
    if manifest["item_side"]:
        side = ItemSide.from_tensors(
            _load(folder, "item_encoder", fingerprint)[0], manifest["item_side"]
        )
    ids, titles = tuple(names["ids"]), tuple(names["titles"])
    return Parts(
        settings,
        branches,
        pad(vectors, (0, 0, 1, 0)),
        users.to(device).eval(),
        ItemTable(ids, titles, (None,) * len(ids)),
        known,
        side,
        counted,
    )


def _load(folder: Path, stem: str, fingerprint: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header."""
    path = file_of(folder, stem, fingerprint, "safetensors")
    try:
        tensors, header = load_tensors(path)
    except FileNotFoundError:
        raise MissingFileError(path) from None
    except DamagedFileError as error:
        raise DamagedFileError(f"{error}; export again") from error
    if header.get("fingerprint") != fingerprint:
        raise DamagedFileError(
            f"{path} belongs to another bundle: its fingerprint is "
            f"{str(header.get('fingerprint'))[:12]}, {MANIFEST} names {fingerprint[:12]}; "
            "export again"
        )
    return tensors, header


def companion(folder: Path, parts: Parts, stem: str, suffix: str) -> Path:
    """Where what accompanies a bundle belongs ("user_graph", "pictures").

    It stays while the user encoder does; a bundle with another one removes it.
    """
    return file_of(folder, stem, _encoder(parts), suffix)


def read_pictures(folder: Path, file: Path, manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """Those of `file`, a `companion` which is there, and those of later items."""
    try:
        tensors, header = load_tensors(file)
    except FileNotFoundError:
        raise MissingFileError(file) from None
    found = unpacked(tensors, header["ids"])
    for entry in manifest["added"]:
        if entry.get("pictures"):
            tensors, header = _load(folder, "added", entry["fingerprint"])
            found |= unpacked(tensors, header["pictured"])
    return found


def _encoder(parts: Parts) -> str:
    """Digest of the user encoder."""
    settings = {"model": parts.settings.model_dump(mode="json")}
    return _fingerprint(settings, {"user_encoder": parts.users.state_dict()})


def _names(folder: Path, stem: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    path = file_of(folder, stem, manifest["fingerprint"], "json")
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(path) from None
    if Digest().add(text).hex != manifest["names"][stem]:
        raise DamagedFileError(f"{path} is damaged or belongs to another bundle; export again")
    names: dict[str, Any] = json.loads(text)
    return names


def _fingerprint(values: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Over weights, vectors, catalogue, users and settings."""
    digest = Digest().add(digest_of(values))
    for stem, part in tensors.items():
        for name, tensor in part.items():
            digest.add(stem).add(name).add_array(tensor.detach().cpu().contiguous().numpy())
    return digest.hex
