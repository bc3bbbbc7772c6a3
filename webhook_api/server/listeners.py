"""What happens to clients that connect while the service stops, on Linux.

When the last process closes a listening socket, the kernel resets the connections that nobody has
accepted, and there is always a moment between the last `accept` and the `close`. So the socket
takes no new connections from when the master begins to stop. Who tries meanwhile is not reset: the
kernel drops the packet, and the client repeats it after a second. Then nobody listens any more, or
a new start does.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
# A program of the kernel's packet filter (networking/filter.rst), for TCP segments.
_DROP_NEW = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the flags
        (0x54, 0, 0, 0x12),  # only SYN and ACK
        (0x15, 0, 1, 0x02),  # SYN alone:
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # take
    )
)


def drop_new_connections(listener: socket.socket) -> bool:
    """Let the kernel drop each attempt to connect; what is connected goes on.

    Return whether it does: some containers may not set a filter.
    """
    program = ctypes.create_string_buffer(_DROP_NEW)
    count = len(_DROP_NEW) // struct.calcsize("HBBI")
    with suppress(OSError):
        listener.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("HL", count, ctypes.addressof(program)),
        )
        return True
    return False


def drop_before_close(master: Any) -> None:
    """Let `master`, an arbiter of Gunicorn, do that before it closes its listeners.

    Not if another master shares them (SIGUSR2), or systemd keeps them. Its workers inherit them,
    and close them also when others go on (SIGHUP).
    """

    def close(sock: socket.socket, close_it: Callable[[], None]) -> None:
        is_shared = master.reexec_pid or master.master_pid or master.systemd
        if os.getpid() == master.pid and not is_shared:
            drop_new_connections(sock)
        close_it()

    for listener in master.LISTENERS:
        listener.close = partial(close, listener.sock, listener.close)
