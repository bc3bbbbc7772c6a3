"""Streams: responses that are made while they are sent."""

import errno
from collections.abc import Callable, Generator, Sequence
from enum import StrEnum

from flask import Response

from webhook_api.errors import ClientLeft, StateError


class StreamEnd(StrEnum):
    """How a stream ended; the values of the log's `stream`."""

    COMPLETE = "whole"  # programs that read the log know this value
    OVERTAKEN = "overtaken"  # the rows after its last line were removed, or the file replaced
    CLIENT_LEFT = "client_left"
    FAILED = "failed"


WhenEnded = Callable[[StreamEnd, Exception | None], None]


class StreamedResponse(Response):
    """A response whose blocks are made while it is sent.

    `blocks` is always closed: at the end, when the client leaves, and if nothing was sent. Then
    all of `when_ended` are called, with the cause if it failed.
    """

    def __init__(self, first: bytes, blocks: Generator[bytes], mimetype: str) -> None:
        """Send `first`, which was made while an error could change the status, then `blocks`."""
        self.when_ended: list[WhenEnded] = []
        body = _send(first, blocks, self.when_ended)
        next(body)
        super().__init__(body, mimetype=mimetype)


def _send(
    first: bytes, blocks: Generator[bytes], when_ended: Sequence[WhenEnded]
) -> Generator[bytes]:
    end, cause = StreamEnd.CLIENT_LEFT, None
    try:
        yield b""  # For `next` above: only a generator that has begun reaches its `finally`.
        yield first
        yield from blocks
        end = StreamEnd.COMPLETE
    except ClientLeft:
        raise _connection_ended() from None
    except StateError:
        # It ends like a complete one: who asks for what follows its last line is told why.
        end = StreamEnd.OVERTAKEN
    except Exception as error:
        end, cause = StreamEnd.FAILED, error
        raise _connection_ended() from None
    finally:
        blocks.close()
        for report in when_ended:
            report(end, cause)


def _connection_ended() -> OSError:
    # The server then closes the connection without the last chunk, so that the client sees that
    # the stream is not complete. The server logs nothing: the request has our log line.
    return ConnectionResetError(errno.ECONNRESET, "the stream ended early")
