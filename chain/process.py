"""Child processes that end with the one that started them, and the ports they listen on."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from itertools import count
from typing import IO

PORTS = range(20_000, 32_768)
"""Where a free port is taken: below those that the kernel gives to outgoing connections, which would come in between now and then."""

_places = count(random.SystemRandom().randrange(len(PORTS)))

_PR_SET_PDEATHSIG = 1


def spawn(
    command: Sequence[str], output: IO[bytes], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a program that gets SIGTERM when we end, however we end: the kernel sends it when the *thread* that called this is gone, so
    call it from one that lives as long as the child should. Both its outputs go to `output`."""
    parent = os.getpid()
    libc = ctypes.CDLL(None)  # loaded before the fork: nothing but system calls is safe after it

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    # A session of its own: ^C at the terminal goes to the starter, which stops this when its own work is at an end.
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


def free_port() -> int:
    """A port of PORTS on which nobody listens now, each time another: one after the other from a random place, so that what is started a moment
    later finds its own still free."""
    while not port_is_free(port := PORTS[next(_places) % len(PORTS)]):
        pass
    return port


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
