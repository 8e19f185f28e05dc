"""Attacks that talk to the outside, one per family of sockets."""

from __future__ import annotations

from typing import Any


def connect_tcp(world: Any) -> Any:
    """Connect to a service of the host by TCP."""
    import socket

    with socket.create_connection(("127.0.0.1", world["port"]), timeout=3) as peer:
        return peer.recv(20).decode()


def connect_tcp6(world: Any) -> Any:
    """The same by IPv6."""
    import socket

    with socket.create_connection(("::1", world["port6"]), timeout=3) as peer:
        return peer.recv(20).decode()


def send_udp(world: Any) -> Any:
    """Send a datagram."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        return peer.sendto(b"secret", ("127.0.0.1", world["port"]))


def connect_unix(world: Any) -> Any:
    """Connect to a unix socket by its path, as the database or the engine have one."""
    import socket

    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(world["unix"])
        return peer.recv(20).decode()


def connect_abstract(world: Any) -> Any:
    """Connect to an abstract unix socket, which no file permission guards."""
    import socket

    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect("\0" + world["mark"])
        return peer.recv(20).decode()


def open_netlink(world: Any) -> Any:
    """Ask the kernel for the machine's addresses."""
    import socket

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as peer:
        peer.bind((0, 0))
        return "opened"


def open_packet(world: Any) -> Any:
    """Listen to raw packets."""
    import socket

    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)):
        return "opened"


def listen_tcp(world: Any) -> Any:
    """Wait for orders from outside."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def open_every_family(world: Any) -> Any:
    """Try every family and type of socket that there is."""
    import socket

    opened, last = [], None
    for family in range(1, 50):
        for kind in (1, 2, 3, 5):
            try:
                socket.socket(family, kind).close()
                opened.append((family, kind))
            except OSError as problem:
                last = last if last and last.errno == 1 else problem
    if not opened and last:
        raise last
    return opened


def resolve_name(world: Any) -> Any:
    """Send data out in the name of a host to be looked up."""
    import ctypes

    # A name server is asked over a datagram socket; the host's own address stands for it here.
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.socket(2, 2, 0)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "socket")
    return descriptor


def fetch_url(world: Any) -> Any:
    """Fetch a page, as a program that phones home does."""
    import urllib.request

    return urllib.request.urlopen(f"http://127.0.0.1:{world['port']}/", timeout=3).read(10)


def pass_descriptors(world: Any) -> Any:
    """Make a socket pair to smuggle descriptors through."""
    import socket

    left, right = socket.socketpair()
    return right.recv(left.send(b"x")).decode()
