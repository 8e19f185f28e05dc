"""What a container engine says of itself, read once: is it rootless, which limits can it not give.

Decisions over the engine's own answers, without an engine. Nothing here is a proof: what really
holds, each container looks at itself (`docker_porter.own_layers`). Podman's `info` claims limits
that its rootless engine does not have, so its own `libpod/info` is read beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONTROLLERS = {"memory": "MemoryLimit", "pids": "PidsLimit", "cpu": "CpuCfsQuota"}
PODMAN = "Podman Engine"
BOOT_V2 = "boot with cgroup v2: systemd.unified_cgroup_hierarchy=1 on the kernel's command line"
DELEGATE = (
    "let systemd delegate them: sudo systemctl edit user@.service, there [Service] and "
    "Delegate=cpu memory pids, then log in again"
)
STORAGE = (
    "give the engine storage in layers: install fuse-overlayfs and set its storage driver, "
    "`storage-driver` in Docker's daemon.json, [storage] in Podman's storage.conf"
)


@dataclass(frozen=True, kw_only=True)
class About:
    """One engine. `lacks` names the layers that it cannot give, `copies` storage without layers:
    there every container costs a copy of the whole image."""

    version: str
    cgroups: str
    podman: bool
    rootless: bool
    lacks: tuple[str, ...]
    copies: bool

    @classmethod
    def of(
        cls, info: Mapping[str, Any], version: Mapping[str, Any], libpod: Mapping[str, Any]
    ) -> About:
        """From Docker's `info` and `version`, and Podman's own `libpod/info`, else empty."""
        host = libpod.get("host", {})
        said = " ".join(info.get("SecurityOptions") or ())
        rootless = "name=rootless" in said or bool(host.get("security", {}).get("rootless"))
        return cls(
            version=str(info.get("ServerVersion")),
            cgroups=str(info.get("CgroupVersion")),
            podman=api_of_podman(version) is not None,
            rootless=rootless,
            lacks=tuple(f"cgroup-{name}" for name in CONTROLLERS if not _gives(name, info, host)),
            copies=info.get("Driver") == "vfs",
        )

    def __str__(self) -> str:
        kind = "Podman" if self.podman else "Docker"
        return f"{kind} {self.version}{', rootless' * self.rootless}, cgroup v{self.cgroups}"

    @property
    def shortcomings(self) -> tuple[tuple[str, str], ...]:
        """What this engine does worse than it could, each with what mends it."""
        found = []
        if self.lacks:
            fix = BOOT_V2 if self.cgroups == "1" else DELEGATE
            found.append((f"without {', '.join(self.lacks)}", fix))
        if self.copies:
            found.append(("storage vfs, a copy of the image for every container", STORAGE))
        return tuple(found)


def _gives(controller: str, info: Mapping[str, Any], host: Mapping[str, Any]) -> bool:
    if info.get("CgroupDriver") == "none" or not info.get(CONTROLLERS[controller]):
        return False
    return controller in (host.get("cgroupControllers", [controller]) or ())


def api_of_podman(version: Mapping[str, Any]) -> str | None:
    """The version of Podman's own interface, None of another engine."""
    for part in version.get("Components") or ():
        if part.get("Name") == PODMAN:
            return str(part["Details"]["APIVersion"])
    return None
