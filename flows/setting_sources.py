"""The sources of settings: a TOML file, `EUREKA_*` variables and `--set`, each read strictly."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eurekaflow.models.errors import UsageError

PREFIX = "EUREKA_"

# Settings with a flag of their own; the others are given by `--set`.
FLAGS = frozenset(
    {
        "preset",
        "seed",
        "steps",
        "minutes",
        "model",
        "groups",
        "group_size",
        "lr",
        "advantage",
        "reuse",
    }
)

# Variables of the surroundings; every other EUREKA_ name must be a setting of a run.
ENVIRONMENT = {
    "EUREKA_HOME": "folder of the archive, weights and checkpoints",
    "EUREKA_DATABASE_URL": "archive in a Postgres server of your own (postgresql://…)",
    "EUREKA_CONFIG": "configuration file instead of ./eureka.toml",
    "EUREKA_PRESET": "auto, small-cpu, small-gpu or paper",
    "EUREKA_DEBUG": "1 prints tracebacks",
    "PREFECT_API_URL": "Prefect server of your own instead of the local one",
}


def parse_assignments(
    texts: Iterable[str], *, given: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The settings in `given` and in the `key=value` texts of `--set`, as one mapping.

    Raises UsageError on a malformed, repeated or unknown one.
    """
    found: dict[str, object] = dict(given or {})
    for text in texts:
        key, sign, value = text.partition("=")
        name = key.strip().replace("-", "_")
        if not sign or not name:
            raise UsageError(f"--set {text!r} is not of the form key=value", "eureka run --help")
        if name in found:
            raise UsageError(f"{name} is given twice", "give it once")
        known(name, "--set")
        found[name] = value.strip()
    return found


def origin(kind: str, name: str) -> str:
    """How a source is printed: the variable, the flag or the file that gave `name`."""
    if kind == "environment":
        return PREFIX + name.upper()
    if kind == "flag":
        return f"--{name.replace('_', '-')}" if name in FLAGS else f"--set {name}"
    return kind


def from_file(file: Path) -> dict[str, object]:
    """The settings of a TOML file, unknown names refused."""
    from pydantic_settings import TomlConfigSettingsSource

    try:
        found = TomlConfigSettingsSource(_settings_class(), file)()
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: not valid TOML: {error}", f"correct {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read: {error}", f"check {file}") from None
    for name in found:
        known(name, str(file))
    return found


def from_environment(env: Mapping[str, str]) -> dict[str, object]:
    """The settings among the EUREKA_ variables, unknown names refused."""
    from pydantic_settings import EnvSettingsSource

    for variable in env:
        if variable.startswith(PREFIX) and variable not in ENVIRONMENT:
            known(variable.removeprefix(PREFIX).lower(), variable)

    class Environment(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {k.lower(): v for k, v in env.items() if v}

    return Environment(_settings_class(), env_prefix=PREFIX)()


def _settings_class() -> Any:
    """A settings class with the fields of `RunConfig`, values left as they were written."""
    from pydantic import create_model
    from pydantic_settings import BaseSettings

    fields: dict[str, Any] = dict.fromkeys(setting_names(), (Any, None))
    return create_model("RunSettings", __base__=BaseSettings, **fields)


def setting_names() -> list[str]:
    """The names of all settings of a run."""
    from eurekaflow.models.settings import RunConfig

    return [name for name in RunConfig.model_fields if name != "problem"]


def known(name: str, where: str) -> None:
    """Raise UsageError, with the closest name, unless `name` is a setting of a run."""
    names = setting_names()
    if name in names:
        return
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known settings: {', '.join(names)}"
    raise UsageError(f"{where}: unknown setting {name!r}", hint)


def plain(name: str, value: object) -> object:
    """The text "none" as None, for settings that may be unset."""
    if isinstance(value, str) and value.lower() == "none" and allowed(name).endswith("or none"):
        return None
    return value


def allowed(name: str) -> str:
    """What a setting may be, in words, from the schema of `RunConfig`."""
    from eurekaflow.models.settings import RunConfig

    schema = RunConfig.model_json_schema()["properties"][name]
    words = [_in_words(part) for part in schema.get("anyOf", [schema])]
    return " or ".join("none" if word == "null" else word for word in words)


_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
}


def _in_words(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    bounds = [text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema]
    return ", ".join([str(schema.get("type", "value")), *bounds])
