"""Attacks that change what is not theirs, and tricks with links and descriptors."""

from __future__ import annotations

from typing import Any


def write_outside(world: Any) -> Any:
    """Create a file in a folder that every user may write to."""
    with open(world["drop"] + "/written", "w") as file:
        return file.write("x")


def write_in_place(world: Any) -> Any:
    """Append to a file that every user may write to."""
    with open(world["open_file"], "a") as file:
        return file.write("x")


def write_by_truncating(world: Any) -> Any:
    """Empty such a file without opening it."""
    import os

    os.truncate(world["open_file"], 0)
    return "emptied"


def write_by_renaming(world: Any) -> Any:
    """Move another's file away."""
    import os

    os.rename(world["open_file"], world["drop"] + "/renamed")
    return "renamed"


def write_by_unlinking(world: Any) -> Any:
    """Delete another's file."""
    import os

    os.unlink(world["open_file"])
    return "deleted"


def write_metadata(world: Any) -> Any:
    """Change another file's mode and times."""
    import os

    os.chmod(world["open_file"], 0o777)
    os.utime(world["open_file"], (0, 0))
    return "changed"


def write_attribute(world: Any) -> Any:
    """Hide data in a file's extended attributes."""
    import os

    os.setxattr(world["open_file"], "user.hidden", b"x")
    return "hidden"


def link_result_to_secret(world: Any) -> Any:
    """Make the file from which the result is read a symbolic link to a secret."""
    import os

    os.symlink(world["secret_file"], world["drop"] + "/result.json")
    return open(world["drop"] + "/result.json").read()


def link_hard(world: Any) -> Any:
    """Give a secret a second name where it can be found later."""
    import os

    os.link(world["secret_file"], world["drop"] + "/copy")
    return "linked"


def reopen_for_writing(world: Any) -> Any:
    """Reopen a descriptor that was given for reading through /proc/self/fd."""
    import os

    first = os.open(world["open_file"], os.O_RDONLY)
    return os.write(os.open(f"/proc/self/fd/{first}", os.O_WRONLY), b"x")


def make_device(world: Any) -> Any:
    """Make a device node for the memory of the machine."""
    import os
    import stat
    import tempfile

    path = tempfile.mkdtemp() + "/node"
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 1))
    return "made"


def make_set_uid(world: Any) -> Any:
    """Leave a set-uid file for others to run."""
    import os

    path = world["drop"] + "/suid"
    open(path, "w").write("#!/bin/sh\n")
    os.chmod(path, 0o4755)
    return "left"


def poison_shared_memory(world: Any) -> Any:
    """Leave a file in /dev/shm, where every process can find it."""
    import os

    path = "/dev/shm/" + world["mark"]
    with open(path, "w") as file:
        file.write("x")
    seen = os.path.exists(f"/proc/{world['victim']}/root{path}")
    os.unlink(path)
    if not seen:
        raise PermissionError(13, "nobody else sees that folder")
    return "left"


def poison_library(world: Any) -> Any:
    """Change the library that the next candidate imports."""
    import os

    for folder in (world["library"], os.path.dirname(os.__file__)):
        with open(f"{folder}/sitecustomize_{world['mark']}.py", "w") as file:
            file.write("x = 1")
        os.unlink(file.name)
        return "poisoned"
    return None


def write_in_hidden_folder(world: Any) -> Any:
    """Leave a message for the next candidate where the verifiers are hidden."""
    import os

    folder = f"{os.path.dirname(os.path.dirname(world['verifier']))}/{world['mark']}"
    os.mkdir(folder)
    os.rmdir(folder)
    return "left"
