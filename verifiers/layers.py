"""The names of a sandbox's layers, alike in every backend, and what brings a missing one.

Standard library only: the container's own copy of the sandbox imports this file.
"""

from __future__ import annotations

from collections.abc import Iterable

from eurekaflow.verifiers.sandbox import SandboxUnavailable

_NAMESPACES = (
    "allow user namespaces: sysctl user.max_user_namespaces=15000, and on Ubuntu "
    "kernel.apparmor_restrict_unprivileged_userns=0"
)
_FILTER = "use a kernel with CONFIG_SECCOMP_FILTER, on x86-64 or arm64"
_GROUPS = (
    "start as root or in a delegated group: systemd-run --user --scope -p Delegate=yes COMMAND; "
    "rootless engines need cgroup v2 with delegation, which `eureka doctor` tells how to get"
)
_CONTAINER = "use the containers: --set sandbox=docker"
FIXES = {
    **dict.fromkeys(("userns", "pidns", "mountns", "netns", "ipcns", "utsns"), _NAMESPACES),
    **dict.fromkeys(("minimal-root", "private-tmp", "no-network"), _NAMESPACES),
    "seccomp": _FILTER,
    "no_new_privs": _FILTER,
    "landlock": "use Linux 5.13 or newer with landlock in the boot parameter lsm=",
    **dict.fromkeys(("cgroup-memory", "cgroup-pids", "cgroup-cpu"), _GROUPS),
    **dict.fromkeys(("container", "engine-user", "engine-seccomp"), _CONTAINER),
    **dict.fromkeys(("no-capabilities", "engine-no-new-privs"), _CONTAINER),
    "rlimit-processes": "only rootless engines bound processes so; ask for cgroup-pids instead",
    "no-write": "it is the level without user namespaces; ask for minimal-root instead",
}


def require(had: Iterable[str], wanted: Iterable[str], *, backend: str) -> None:
    """Raises SandboxUnavailable naming each missing layer with what brings it."""
    have = tuple(had)
    missing = sorted(set(wanted) - set(have))
    if not missing:
        return
    fixes = "; ".join(f"{name}: {fix(name)}" for name in missing)
    raise SandboxUnavailable(
        f"the {backend} sandbox has {', '.join(have)} but not the required "
        f"{', '.join(missing)}; {fixes}"
    )


def fix(name: str) -> str:
    """What brings a layer, or that there is none of that name."""
    if name.startswith("runtime-"):
        return f"use the containers: --set sandbox=docker --set sandbox_runtime={name[8:]}"
    return FIXES.get(name, f"no layer is called so; there are {', '.join(sorted(FIXES))}")
