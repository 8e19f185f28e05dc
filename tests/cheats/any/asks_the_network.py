"""The answer is fetched from elsewhere.

expect: raised:
"""

import socket


def run(**kwargs):
    with socket.create_connection(("192.0.2.1", 80), timeout=1) as connection:
        return connection.recv(100)
