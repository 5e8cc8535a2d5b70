"""From flags, files and presets to one validated `Config`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from odmt_fast.config import Config
from odmt_fast.presets import PRESETS

if TYPE_CHECKING:
    from odmt_fast.studies.grid import Grid
    from odmt_fast.studies.space import Space


def load_config(
    file: Path | None,
    preset: str | None,
    assignments: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
    base: Config | None = None,
) -> Config:
    """Each of these overrides the ones before: base or preset, file, ``--set``, flags.

    Args:
        file: YAML with the sections of `Config`, such as ``model: {width: 128}``.
        preset: a name of `PRESETS`.
        assignments: ``section.name=value``; the value is read as YAML.
        flags: dotted name -> value; None values were not given.
        base: what stands where no preset is named; None = the defaults.

    Raises:
        ValueError: a file, preset or setting does not exist or is refused.
    """
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"--preset {preset} does not exist; use {', '.join(PRESETS)}")
    config = PRESETS[preset] if preset else base or Config()
    overrides = _read(file) if file is not None else {}
    overrides |= dict(_assignment(text) for text in assignments)
    overrides |= {name: value for name, value in (flags or {}).items() if value is not None}
    return config.updated(overrides)


def load_grid(file: Path, assignments: Iterable[str], flags: Mapping[str, Any]) -> Grid:
    """The grid of a study; flags override ``--set``, which overrides the file's ``base``.

    Raises:
        ValueError: the file does not exist or is no grid, or a setting is refused.
    """
    from odmt_fast.studies.grid import Grid

    values = _read_yaml(file)
    base = values.get("base") or {} if isinstance(values, dict) else {}
    overrides = _dotted(base, f"base of {file}") | dict(_assignment(text) for text in assignments)
    overrides |= {name: value for name, value in flags.items() if value is not None}
    return Grid.of(values, Config().updated(overrides))


def load_search(
    file: Path | None, preset: str | None, assignments: Iterable[str], flags: Mapping[str, Any]
) -> tuple[dict[str, tuple[Config, dict[str, Any]]], Space]:
    """The models of a search, each with what of it is fixed, and the space of all.

    Args:
        file: ``base`` and ``rows`` as of a study, and ``search``; None = one model, usual space.
        preset: a name of `PRESETS`.
        assignments: ``--set``; what they set is not searched.
        flags: dotted name -> value; None values were not given.

    Raises:
        ValueError: the file does not exist or is no search, or a setting is refused.
    """
    from odmt_fast.studies.grid import Grid
    from odmt_fast.studies.space import DEFAULT, check_space

    values = (_read_yaml(file) or {}) if file is not None else {}
    keys = ("base", "rows", "search")
    if not isinstance(values, dict) or not set(values) <= set(keys):
        raise ValueError(f"{file} must hold {', '.join(keys)} and nothing else")
    given = dict(_assignment(text) for text in assignments)
    base = load_config(None, preset).updated(_dotted(values.get("base") or {}, f"base of {file}"))
    base = base.updated(given | {name: v for name, v in flags.items() if v is not None})
    space = values.get("search", DEFAULT)
    check_space(space, base)
    rows = values.get("rows") or {base.model.name: {}}
    named = Grid.of({"rows": rows}, base)
    fixed = {name: given | dict(named.changes[name]) for name in named.rows}
    return {name: (config, fixed[name]) for name, config in named.rows.items()}, space


def sections(config: Config) -> dict[str, Any]:
    """What of `config` is not the default, by section: what a file for train holds."""
    values, default = config.model_dump(mode="json"), Config().model_dump(mode="json")
    changed = {
        section: {
            name: value for name, value in settings.items() if value != default[section][name]
        }
        for section, settings in values.items()
    }
    return {section: settings for section, settings in changed.items() if settings}


def read_config(run: Path) -> Config:
    """The configuration a run was trained with.

    Raises:
        ValueError: `run` is not the directory of a run, or its config.json is damaged.
    """
    file = run / "config.json"
    if not file.is_file():
        raise ValueError(f"{run} is not the directory of a run: it has no config.json")
    try:
        config = Config.model_validate_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ValueError(
            f"{file} is damaged: {reason}; put back a copy of it, or train again with --fresh"
        ) from error
    return config.seen_from(run).updated({"training.output": run})


def listing() -> str:
    """The names of all settings, a paragraph per section."""
    return "\n\n".join(
        f"Settings of {section}: {', '.join(type(getattr(Config(), section)).model_fields)}."
        for section in Config.model_fields
    )


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """``name=value`` words as a dictionary.

    Raises:
        ValueError: a word has no "=".
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"{option} {text!r} must read name=value")
        found[name] = value
    return found


def named_stores(texts: Iterable[str] | None) -> dict[str, Path] | None:
    """``--store`` words as paths by modality; None when none was given."""
    return {name: Path(path) for name, path in pairs(texts or (), "--store").items()} or None


def given_places(
    data: Path | None, store: Iterable[str] | None, device: str | None
) -> dict[str, Any]:
    """What ``--data``, ``--store`` and ``--device`` say, as flags of `load_config`."""
    return {
        "data.path": data,
        "features.stores": named_stores(store),
        "training.device": device,
    }


def of_run(
    run: Path, flags: Mapping[str, Any], data: Path | None, store: Iterable[str] | None
) -> Config:
    """The configuration of a run for a command that reads it.

    Args:
        run: its directory.
        flags: dotted name -> value; None values were not given.
        data: where the dataset is now; the stores below it go with it.
        store: ``--store`` words; the other stores are those of the run.
    """
    config = read_config(run)
    stores = dict(config.features.stores)
    if data is not None:
        moved = {name: data / "features" / name for name in stores}
        stores |= {name: path for name, path in moved.items() if path.is_dir()}
    given = {
        **flags,
        "data.path": data,
        "features.stores": stores | (named_stores(store) or {}),
    }
    return config.updated({name: value for name, value in given.items() if value is not None})


def _assignment(text: str) -> tuple[str, Any]:
    ((name, value),) = pairs([text], "--set").items()
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {text!r}: the value is not YAML ({error})") from error


def _read(file: Path) -> dict[str, Any]:
    """Settings of a YAML file by dotted name."""
    return _dotted(_read_yaml(file) or {}, str(file))


def _read_yaml(file: Path) -> Any:
    if not file.is_file():
        raise ValueError(f"{file} does not exist; give a YAML file with settings")
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML: {error}") from error


def _dotted(sections: Any, where: str) -> dict[str, Any]:
    """Settings by dotted name from sections of them."""
    if not isinstance(sections, dict) or not all(isinstance(v, dict) for v in sections.values()):
        raise ValueError(f"{where} must hold sections such as 'model:' with settings below them")
    return {
        f"{section}.{name}": value
        for section, settings in sections.items()
        for name, value in settings.items()
    }
