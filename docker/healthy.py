"""The health checks of docker/compose.yaml, with nothing but the standard library.

    python3 healthy.py server    Prefect's API answers, with its database
    python3 healthy.py worker    a worker on this machine has reported to the pool lately
"""

from __future__ import annotations

import base64
import json
import os
import platform
import sys
import urllib.request


def ask(path: str, body: dict[str, object] | None = None) -> object:
    """What Prefect's API answers; an error is raised, which is the exit code."""
    request = urllib.request.Request(os.environ["PREFECT_API_URL"] + path)
    request.add_header("Content-Type", "application/json")
    if secret := os.environ.get("PREFECT_API_AUTH_STRING"):
        request.add_header("Authorization", "Basic " + base64.b64encode(secret.encode()).decode())
    if body is not None:
        request.data = json.dumps(body).encode()
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=10) as reply:
        return json.load(reply)


def worker_is_online() -> bool:
    """Prefect calls a worker online for as long as its heartbeats come."""
    known = ask("/work_pools/eureka/workers/filter", {})
    assert isinstance(known, list)
    return any(w["name"] == platform.node() and w["status"] == "ONLINE" for w in known)


if __name__ == "__main__":
    healthy = bool(ask("/ready")) if sys.argv[1] == "server" else worker_is_online()
    sys.exit(not healthy)
