"""Streams: replies that are made while they are sent, and how the sending ended."""

import errno
from collections.abc import Callable, Generator
from enum import StrEnum

from flask import Response

from webhook_api.errors import ClientLeft


class StreamEnd(StrEnum):
    """How a stream ended; the values of the log's `stream`."""

    WHOLE = "whole"
    CLIENT_LEFT = "client_left"
    FAILED = "failed"


WhenEnded = Callable[[StreamEnd, Exception | None], None]


class Sending:
    """What is called when a stream has ended, with the cause if it failed."""

    when_ended: WhenEnded | None = None


class StreamedReply(Response):
    """A reply whose blocks are made as they are sent.

    `blocks` is closed in any case: at its end, when the client leaves, and when nothing of it was
    ever sent.
    """

    def __init__(self, first: bytes, blocks: Generator[bytes], mimetype: str) -> None:
        """Send `first`, which was made while an error could still have its own status."""
        self.sending = Sending()
        body = _send(first, blocks, self.sending)
        next(body)
        super().__init__(body, mimetype=mimetype)


def _send(first: bytes, blocks: Generator[bytes], sending: Sending) -> Generator[bytes]:
    end, cause = StreamEnd.CLIENT_LEFT, None
    try:
        yield b""  # To the reply itself: only a generator that has begun comes to its `finally`.
        yield first
        yield from blocks
        end = StreamEnd.WHOLE
    except ClientLeft:
        raise _connection_ended() from None
    except Exception as error:
        end, cause = StreamEnd.FAILED, error
        raise _connection_ended() from None
    finally:
        blocks.close()
        if sending.when_ended:
            sending.when_ended(end, cause)


def _connection_ended() -> OSError:
    # Gunicorn then ends the connection without the last chunk, so that the client can tell, and
    # writes no line: the request has one of ours.
    return ConnectionResetError(errno.ECONNRESET, "the stream ended early")
