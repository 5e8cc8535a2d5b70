"""From flags, files and presets to one validated `Config`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from odmt_fast.config import PRESETS, Config


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


def read_config(run: Path) -> Config:
    """The configuration a run was trained with.

    Raises:
        ValueError: `run` is not the directory of a run.
    """
    file = run / "config.json"
    if not file.is_file():
        raise ValueError(f"{run} is not the directory of a run: it has no config.json")
    return Config.model_validate_json(file.read_text(encoding="utf-8"))


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


def _assignment(text: str) -> tuple[str, Any]:
    ((name, value),) = pairs([text], "--set").items()
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {text!r}: the value is not YAML ({error})") from error


def _read(file: Path) -> dict[str, Any]:
    """Settings of a YAML file by dotted name."""
    if not file.is_file():
        raise ValueError(f"{file} does not exist; give a YAML file with settings")
    try:
        sections = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not YAML: {error}") from error
    if not isinstance(sections, dict) or not all(isinstance(v, dict) for v in sections.values()):
        raise ValueError(f"{file} must hold sections such as 'model:' with settings below them")
    return {
        f"{section}.{name}": value
        for section, settings in sections.items()
        for name, value in settings.items()
    }
