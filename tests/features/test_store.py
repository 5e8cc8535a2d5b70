"""The token store: round trips, gathering from the map, and every way it can be damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from odmt_fast.features.index import DTYPES, Plan
from odmt_fast.features.store import StoreError, TokenStore
from odmt_fast.features.writer import StoreWriter

LENGTHS = (2, 1, 3, 1, 4)


def plan(**changes: object) -> Plan:
    whole = Plan(
        modality="text",
        encoder={"name": "e", "layer": None, "weights": "w", "settings": {"max_tokens": 4}},
        dtype="float32",
        dim=8,
        shard_items=2,
        items=("a", "b", "c", "d", "é"),
        missing=(2,),
        inputs=("1", None, "3", "4", "5"),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def tokens() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, 8, generator=generator) for length in LENGTHS]


def write(path: Path, plan: Plan, features: list[Tensor] | None = None) -> TokenStore:
    features = tokens() if features is None else features
    writer = StoreWriter.begin(path, plan)
    for number in writer.pending():
        writer.write(number, [features[row] for row in plan.shards[number]])
    writer.finish()
    return TokenStore.open(path, verify=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shard_items", [1, 2, 100])
def test_round_trip(tmp_path: Path, dtype: str, shard_items: int) -> None:
    store = write(tmp_path, plan(dtype=dtype, shard_items=shard_items))
    wanted = [states.to(DTYPES[dtype]) for states in tokens()]
    everything = store.gather(torch.arange(1, 6))
    assert store.dtype == everything.values.dtype == DTYPES[dtype]
    assert torch.equal(everything.values, torch.cat(wanted))
    assert everything.lengths.tolist() == list(LENGTHS)
    assert (store.dim, store.n_items, store.max_length, store.missing) == (8, 5, 4, (2,))
    mixed = store.gather(torch.tensor([5, 1, 5, 3]))
    assert torch.equal(mixed.values, torch.cat([wanted[row] for row in (4, 0, 4, 2)]))
    table = store.table()
    assert torch.equal(table.values, everything.values)
    assert torch.equal(table.gather(torch.tensor([4, 2])).values, torch.cat([wanted[3], wanted[1]]))
    assert store.gather(torch.empty(0, dtype=torch.int64)).values.shape == (0, 8)


def test_one_shard_is_served_from_the_mapped_file(tmp_path: Path) -> None:
    store = write(tmp_path, plan(shard_items=5))
    assert store.table().values.data_ptr() == store.shards[0].data_ptr()
    address = store.shards[0].data_ptr()
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    files = [
        line[-1]
        for line in mapped
        if int(line[0].split("-")[0], 16) <= address < int(line[0].split("-")[1], 16)
    ]
    assert files == [str(tmp_path / "shard-00000.safetensors")]


def test_files_are_readable_like_any_other_new_file(tmp_path: Path) -> None:
    write(tmp_path, plan())
    (tmp_path / "other").touch()
    modes = {file.name: file.stat().st_mode for file in tmp_path.iterdir()}
    assert set(modes.values()) == {modes["other"]}
    assert "plan.json" not in modes


def test_check_items_names_the_first_difference(tmp_path: Path) -> None:
    store = write(tmp_path, plan())
    store.check_items(["a", "b", "c", "d", "é"])
    with pytest.raises(StoreError, match="item 2 is 'b' in the store, 'x' in the catalogue"):
        store.check_items(["a", "x", "y", "d", "é"])
    with pytest.raises(StoreError, match="the store has 5 items, the catalogue 6"):
        store.check_items(["a", "b", "c", "d", "é", "f"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_features_that_are_not_finite_are_refused_by_item(tmp_path: Path, value: float) -> None:
    features = tokens()
    features[3][0, 5] = value
    with pytest.raises(ValueError, match="item 'd' has a NaN or infinite text feature"):
        write(tmp_path, plan(), features)
    assert not (tmp_path / "index.json").exists()


def test_overflow_of_the_stored_dtype_is_refused_with_the_remedy(tmp_path: Path) -> None:
    features = tokens()
    features[4][2, 0] = 1e5
    with pytest.raises(ValueError, match="'é' .* 1e\\+05, too large for float16; store bfloat16"):
        write(tmp_path, plan(dtype="float16"), features)
    write(tmp_path / "wide", plan(dtype="bfloat16"), features)


@pytest.mark.parametrize("shape", [(0, 8), (2, 7)])
def test_tokens_of_a_wrong_shape_are_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    features = tokens()
    features[0] = torch.zeros(shape)
    with pytest.raises(ValueError, match="item 'a' has text tokens of shape"):
        write(tmp_path, plan(), features)


SHARD = "shard-00001.safetensors"


def _truncate(path: Path) -> None:
    (path / SHARD).write_bytes((path / SHARD).read_bytes()[:-5])


def _cut_to_header(path: Path) -> None:
    (path / SHARD).write_bytes((path / SHARD).read_bytes()[:20])


def _no_header(path: Path) -> None:
    (path / SHARD).write_bytes(b"\x10" + bytes(7) + b"not a header at all")


def _resave(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path / SHARD, "pt") as file:
            metadata = file.metadata()
        changed = {k: v.contiguous() for k, v in change(load_file(path / SHARD)).items()}
        save_file(changed, path / SHARD, metadata=metadata)

    return damage


def _edit_index(**changes: object) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        values = json.loads((path / "index.json").read_text())
        (path / "index.json").write_text(json.dumps({**values, **changes}))

    return damage


def _same_size(damage: Callable[[Path], None]) -> Callable[[Path], None]:
    """`damage`, and an index that agrees with the size the shard has after it."""

    def damaged(path: Path) -> None:
        damage(path)
        shards = json.loads((path / "index.json").read_text())["shards"]
        shards[1]["bytes"] = (path / SHARD).stat().st_size
        _edit_index(shards=shards)(path)

    return damaged


def _swap_shards(path: Path) -> None:
    write(path / "other", plan(items=("a", "b", "c", "X", "é")))
    (path / "other" / SHARD).rename(path / SHARD)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing shard": (lambda path: (path / SHARD).unlink(), f"{SHARD} is missing"),
    "truncated": (_truncate, f"{SHARD} has \\d+ bytes, the index says \\d+"),
    "truncated header": (_cut_to_header, f"{SHARD} has 20 bytes, the index says"),
    "no header": (_same_size(_no_header), f"{SHARD} is damaged or cut short .*--overwrite"),
    "dtype": (
        _same_size(_resave(lambda t: {**t, "values": t["values"].half()})),
        f"{SHARD} holds float16, the index says float32",
    ),
    "width": (
        _same_size(_resave(lambda t: {**t, "values": t["values"][:, :4]})),
        f"{SHARD} holds tokens of shape \\[4, 4\\], the index says width 8",
    ),
    "tokens": (
        _resave(lambda t: {"values": t["values"][:3], "lengths": torch.tensor([2, 1]).int()}),
        f"{SHARD} has \\d+ bytes, the index says",
    ),
    "lengths": (
        _resave(lambda t: {**t, "lengths": torch.tensor([3, 2]).int()}),
        f"{SHARD} is damaged: lengths of 2 items, 5 tokens; it should have 2 items, 4 tokens",
    ),
    "item empty": (
        _resave(lambda t: {**t, "lengths": torch.tensor([4, 0]).int()}),
        f"{SHARD} is damaged: item 'd' has no token",
    ),
    "no tag": (
        _same_size(lambda path: save_file(load_file(path / SHARD), path / SHARD)),
        f"{SHARD} belongs to another store",
    ),
    "index of other items": (_edit_index(items=["a", "b", "c", "d", "z"]), "another store"),
    "shard of other items": (_swap_shards, f"{SHARD} belongs to another store"),
    "index version": (
        _edit_index(version=9),
        "has version 9, this release reads 2 and 3; .*--overwrite",
    ),
    "index format": (_edit_index(format="zip"), "does not describe a token store"),
    "index dtype": (_edit_index(dtype="int4"), "has dtype 'int4'"),
    "index shard": (_edit_index(shards=[{"file": "x"}] * 3), "index.json is damaged: shards"),
    "index shards": (_edit_index(shards=[]), "make 3 shards, it lists 0"),
    "index key": (_edit_index(surprise=1), "index.json is damaged"),
    "index JSON": (
        lambda path: (path / "index.json").write_text('{"format":'),  # type: ignore[dict-item]
        "index.json is not JSON",
    ),
    "no index": (lambda path: (path / "index.json").unlink(), "it has no index.json"),
    "no folder": (lambda path: path.rename(path.with_name("gone")), "it has no index.json"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    path = tmp_path / "store"
    write(path, plan())
    damage(path)
    with pytest.raises(StoreError, match=message) as caught:
        TokenStore.open(path)
    assert "\n" not in str(caught.value)


def test_lengths_of_other_items_are_found_before_a_token_is_handed_out(tmp_path: Path) -> None:
    write(tmp_path, plan())
    _resave(lambda t: {**t, "lengths": t["lengths"].flip(0)})(tmp_path)
    store = TokenStore.open(tmp_path)
    store.gather(torch.tensor([1, 5]))
    with pytest.raises(StoreError, match=f"{SHARD} is damaged: its digest"):
        store.gather(torch.tensor([4]))


def test_a_store_of_version_2_is_read_as_it_is(tmp_path: Path) -> None:
    store = write(tmp_path, plan())
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["version"] == 3 and "offsets" not in index
    tokens_of = [values.shape[0] for values in store.shards]
    shards = [{**s, "tokens": n} for s, n in zip(index["shards"], tokens_of, strict=True)]
    _edit_index(version=2, offsets=store.offsets.tolist(), shards=shards)(tmp_path)
    old = TokenStore.open(tmp_path, verify=True)
    assert old.digest == store.digest
    assert torch.equal(old.table().values, store.table().values)
    assert StoreWriter.begin(tmp_path, plan()).finished


def test_a_flipped_bit_is_found_by_verify_alone(tmp_path: Path) -> None:
    write(tmp_path, plan())
    content = bytearray((tmp_path / SHARD).read_bytes())
    first_value = 8 + int.from_bytes(content[:8], "little")
    content[first_value] ^= 1
    (tmp_path / SHARD).write_bytes(bytes(content))
    TokenStore.open(tmp_path)
    with pytest.raises(StoreError, match=f"{SHARD} is damaged: its digest"):
        TokenStore.open(tmp_path, verify=True)


def test_another_plan_is_not_mixed_in(tmp_path: Path) -> None:
    write(tmp_path, plan())
    for change, message in (
        ({"dtype": "float16"}, "dtype is 'float32', not 'float16'"),
        ({"items": ("a", "b", "c", "d", "e")}, "item 5 is 'é' in the store, 'e'"),
        (
            {"encoder": {"name": "e", "layer": 12, "weights": "w", "settings": {"max_tokens": 4}}},
            "encoder layer is None, not 12",
        ),
    ):
        with pytest.raises(StoreError, match=message):
            StoreWriter.begin(tmp_path, plan(**change))
    moved = {**plan().encoder, "name": "/elsewhere/e"}
    assert StoreWriter.begin(tmp_path, plan(encoder=moved)).finished
