"""Configuration: what environment, `eureka.toml` and flags say, resolved once at the edge.

Precedence, lowest first: the defaults of `RunConfig`, hardware, preset, `eureka.toml`, `EUREKA_*`
variables, flags. Two rules make the bounds of a run mean what they say: `steps` given alone drops
the preset's time limit, and `minutes` given alone drops the preset's number of steps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from eurekaflow.models.errors import UsageError

if TYPE_CHECKING:  # importing this file costs no pydantic
    from eurekaflow.models.settings import RunConfig

CONFIG_FILE = "eureka.toml"
UNBOUNDED_STEPS = 10_000  # `minutes` alone decides
DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
MOST_THREADS, MOST_WORKERS = 16, 32


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a command works: the home folder, and servers of the user's own where given."""

    home: Path
    database_url: str | None = field(default=None, repr=False)  # None: embedded, in `home`
    prefect_api_url: str | None = field(default=None, repr=False)  # None: local, in `home`


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A run's configuration and where each value came from."""

    config: RunConfig
    sources: dict[str, str]

    def rows(self) -> list[tuple[str, object, str]]:
        """(name, value, source) of every setting, in the order of `RunConfig`."""
        values = self.config.model_dump()
        return [(name, values[name], self.sources[name]) for name in values]


def surroundings(environ: Mapping[str, str] | None = None) -> Surroundings:
    """The surroundings that `environ` (the process's own by default) describes."""
    env = os.environ if environ is None else environ
    return Surroundings(
        home=_home(env),
        database_url=_database_url(env.get("EUREKA_DATABASE_URL", "")),
        prefect_api_url=env.get("PREFECT_API_URL") or None,
    )


def _database_url(given: str) -> str | None:
    """A database's URL in the form that libpq and SQLAlchemy both take; None where none is given.

    Only what has to be said in words is checked here: whether a server answers is seen later.
    """
    if not given:
        return None
    scheme, _, rest = given.strip().partition("://")
    url = f"postgresql://{rest}"
    known = scheme in DATABASE_SCHEMES and rest
    if fault := _fault_of_url(url) if known else "it is no URL of a Postgres database":
        raise UsageError(
            f"EUREKA_DATABASE_URL is {given!r}: {fault}",
            "export EUREKA_DATABASE_URL=postgresql://USER@HOST:5432/DATABASE, or unset it",
        )
    return url


def _fault_of_url(url: str) -> str:
    """What is wrong with the URL of a Postgres database; empty when it can be tried."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, timeout_from_conninfo

    try:
        _ = urlsplit(url).port
        timeout_from_conninfo(conninfo_to_dict(url))
    except (ValueError, psycopg.Error) as error:
        return " ".join(str(error).split())
    return ""


def _home(env: Mapping[str, str]) -> Path:
    if given := env.get("EUREKA_HOME"):
        return Path(given).expanduser().resolve()
    if data := env.get("XDG_DATA_HOME"):
        return Path(data).expanduser().resolve() / "eurekaflow"
    return Path.home() / ".local/share/eurekaflow"


def debugging(environ: Mapping[str, str] | None = None) -> bool:
    """Whether tracebacks were asked for (EUREKA_DEBUG=1)."""
    env = os.environ if environ is None else environ
    return env.get("EUREKA_DEBUG", "") not in {"", "0"}


def quiet_prefect() -> None:
    """Keep Prefect's log off the terminal, where a run has its own display; the server keeps it.

    Call it before prefect is imported. A level that the user has set stays.
    """
    if not debugging():
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")


def spin_briefly_when_busy() -> None:
    """On a busy machine let OpenMP's waiting threads sleep soon. Call it before torch is imported.

    Measured with the bundled policy on two cores: on an idle machine the default, long spinning,
    samples 1.6 times as fast as short spinning; beside one busy process it takes 2.3 times as long
    as it did alone, and short spinning 1.6 times. Results do not depend on it.
    """
    if "OMP_WAIT_POLICY" not in os.environ and _busy():
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _busy(window_s: float = 0.3) -> bool:
    """Whether the CPUs are in use now; the load average would still speak of the last run."""
    before = _cpu_ticks()
    time.sleep(window_s)
    idle, total = (after - b for after, b in zip(_cpu_ticks(), before, strict=True))
    return idle < 0.6 * total


def _cpu_ticks() -> tuple[int, int]:
    """(idle, all) ticks of all CPUs since boot; equal where the kernel does not say."""
    try:
        fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return int(time.monotonic() * 100), int(time.monotonic() * 100)
    return fields[3] + fields[4], sum(fields)


def resolve(
    problem: str,
    *,
    preset: str | None = None,
    overrides: Mapping[str, object] | None = None,
    config_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Resolved:
    """The configuration of a run of `problem`, with the source of every value.

    `preset` and `overrides` (setting -> value or its text) are the flags; `config_file` replaces
    `./eureka.toml`. Raises UsageError naming file, setting, value and what is allowed.
    """
    from eurekaflow.flows import setting_sources as read
    from eurekaflow.models.settings import RunConfig

    env = os.environ if environ is None else environ
    file = _config_file(config_file, env)
    layers = [
        (str(file), read.from_file(file) if file else {}),
        ("environment", read.from_environment(env)),
        ("flag", {k: v for k, v in (overrides or {}).items() if v is not None}),
    ]
    if preset is not None:
        layers[-1][1]["preset"] = preset
    given: dict[str, tuple[object, str]] = {}
    for kind, layer in layers:
        for name, value in layer.items():
            given[name] = (value, read.origin(kind, name))
    chosen = _long_enough(problem, _sizes(given, env))
    values: dict[str, Any] = {name: read.plain(name, value) for name, (value, _) in chosen.items()}
    config = _validated({**values, "problem": problem}, {n: s for n, (_, s) in chosen.items()})
    sources = {n: chosen[n][1] if n in chosen else "default" for n in RunConfig.model_fields}
    return Resolved(config=config, sources={**sources, "problem": "argument"})


def _long_enough(
    problem: str, chosen: dict[str, tuple[object, str]]
) -> dict[str, tuple[object, str]]:
    """A preset's bound on answers raised to what the problem's answers need."""
    from eurekaflow.verifiers.lookup import UnknownProblem, load

    bound, source = chosen["max_new_tokens"]
    if "?" in problem or not source.startswith("preset"):
        return chosen
    try:
        needed = load(problem).answer_tokens()
    except UnknownProblem:  # said where the problem itself is asked for
        return chosen
    if needed <= int(str(bound)):
        return chosen
    return {**chosen, "max_new_tokens": (needed, "problem")}


def _sizes(
    given: Mapping[str, tuple[object, str]], env: Mapping[str, str]
) -> dict[str, tuple[object, str]]:
    """Given values over the preset's over what the hardware suggests."""
    from eurekaflow.flows.hardware import gpu_present, usable_cpus
    from eurekaflow.models.settings import preset_values

    wanted, source = given.get("preset", ("auto", "default"))
    name = str(wanted)
    if name == "auto":
        name = _automatic(str(given["model"][0]) if "model" in given else "", gpu_present(env))
        source = "auto"
    cpus = usable_cpus()
    chosen: dict[str, tuple[object, str]] = {
        "threads": (min(cpus, MOST_THREADS), "hardware"),
        "workers": (min(cpus, MOST_WORKERS), "hardware"),
    }
    try:
        sizes = preset_values(name)
    except UsageError as error:
        raise UsageError(f"{source}: {error.message}", error.fix) from None
    chosen |= {k: (v, f"preset {name}") for k, v in sizes.items()}
    chosen |= dict(given)
    chosen["preset"] = (name, source)
    return _bounds(chosen, given)


def _automatic(model: str, gpu: bool) -> str:
    from eurekaflow.models.settings import PRESETS

    if model == PRESETS["paper"]["model"]:
        return "paper"
    return "small-gpu" if gpu else "small-cpu"


def _bounds(
    chosen: dict[str, tuple[object, str]], given: Mapping[str, tuple[object, str]]
) -> dict[str, tuple[object, str]]:
    """A bound that the user gave alone is the only one."""
    if "steps" in given and "minutes" not in given:
        chosen["minutes"] = (None, "steps was given")
    if "minutes" in given and str(given["minutes"][0]).lower() != "none":
        if "min_steps" not in given:
            chosen["min_steps"] = (1, "minutes was given")
        if "steps" not in given:
            chosen["steps"] = (UNBOUNDED_STEPS, "minutes was given")
    return chosen


def _config_file(given: Path | None, env: Mapping[str, str]) -> Path | None:
    named = given or (Path(env["EUREKA_CONFIG"]) if env.get("EUREKA_CONFIG") else None)
    if named is None:
        return Path(CONFIG_FILE) if Path(CONFIG_FILE).is_file() else None
    if not named.is_file():
        raise UsageError(f"configuration file {named} does not exist", "check --config")
    return named


def _validated(values: dict[str, Any], sources: Mapping[str, str]) -> RunConfig:
    from pydantic import ValidationError

    from eurekaflow.flows.setting_sources import allowed
    from eurekaflow.models.settings import RunConfig

    try:
        return RunConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            message = str(first["msg"]).removeprefix("Value error, ")
            raise UsageError(message, "change one of the two settings") from None
        name = str(first["loc"][0])
        where = sources.get(name, "configuration")
        raise UsageError(
            f"{where}: {name} = {values[name]!r}: {first['msg']}", f"allowed: {allowed(name)}"
        ) from None
