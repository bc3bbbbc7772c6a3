"""Exceptions that several rooms use. Those that refuse a request know its status and result."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from webhook_api.outcome import NotServed, Result

RETRY_AFTER_S = 2


class SchemaError(Exception):
    """The file's schema is not the one that this code reads and writes."""


class StateError(Exception):
    """What is stored does not allow it; `code` and `fields` tell a program why and what to do."""

    status: int
    code: str
    detail: str

    def __init__(self, **fields: str) -> None:
        super().__init__(self.detail)
        self.body = {"detail": self.detail, "code": self.code, **fields}


class RequestRefused(Exception):
    """A request that is answered with an error; `detail` says why."""

    status: int
    result: Result
    reason: NotServed | None = None  # of the server, which refused it before the application

    def __init__(self, detail: object, reason: NotServed | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason or self.reason


class InvalidSignature(RequestRefused):
    """The delivery is not signed with our secret (spec 1, "Behavior")."""

    status = HTTPStatus.UNAUTHORIZED
    result = Result.INVALID_SIGNATURE

    def __init__(self) -> None:
        super().__init__("invalid signature")


class InvalidInput(RequestRefused):
    """The body or query breaks a rule; `detail` lists `type`, `loc` and `msg` of each fault.

    In a command `detail` may be a text.
    """

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    result = Result.VALIDATION_ERROR

    @classmethod
    def from_errors(cls, where: str, errors: Sequence[Any]) -> "InvalidInput":
        """Build it from Pydantic's `errors()`, without the input that these repeat."""
        return cls(
            [
                {"type": error["type"], "loc": [where, *error["loc"]], "msg": error["msg"]}
                for error in errors
            ]
        )


class BodyTooLarge(RequestRefused):
    """The body is longer than its path allows: MAX_BODY_BYTES, or the limit of a provider."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    result = Result.TOO_LARGE


class BodyIncomplete(RequestRefused):
    """The client stopped or left before all of the body had arrived (RFC 9110, 15.5.9)."""

    status = HTTPStatus.REQUEST_TIMEOUT
    result = Result.INCOMPLETE


class BodyGarbled(RequestRefused):
    """The body breaks the framing of HTTP (RFC 9112, 7.1)."""

    status = HTTPStatus.BAD_REQUEST
    result = Result.INCOMPLETE


class MalformedRequest(RequestRefused):
    """The request is not correct HTTP, or longer than the server accepts (RFC 9112)."""

    status: int = HTTPStatus.BAD_REQUEST
    result = Result.MALFORMED
    reason = NotServed.MALFORMED

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Unavailable(RequestRefused):
    """It cannot be done now, such as when the disk is full; the client should try again.

    Or the disk fails, the database is locked or missing, too many wait, or the service stops.
    """

    status: int = HTTPStatus.SERVICE_UNAVAILABLE
    result = Result.UNAVAILABLE


class ClientLeft(Unavailable):
    """The client did not wait for its response: 499, only for the log and the metrics.

    No RFC has a status for a response that nobody receives; this one is nginx's.
    """

    status = 499

    def __init__(self) -> None:
        super().__init__("the client left")
