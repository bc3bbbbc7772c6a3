"""The longer texts of the API's description, and a signed delivery as an example."""

import json
from typing import Any

from webhook_api.models import Cursor
from webhook_api.timestamps import Instant

# Clients can test their code with this delivery. Its signature was made with openssl.
EXAMPLE_SECRET = "testsecret"  # noqa: S105
EXAMPLE_BODY = (
    '{"message_id":"m1","from":"+919876543210","to":"+14155550100",'
    '"ts":"2025-01-15T10:00:00Z","text":"Hello"}'
)
EXAMPLE_SIGNATURE = "ff1016e524bc9299d18988ecf27a880af9428140e3850af0c73ea1eef091a4cb"
MESSAGE: dict[str, Any] = json.loads(EXAMPLE_BODY)

ABOUT = """\
Receives signed messages and stores each of them exactly once.

* A delivery is answered 200 when its message is on disk, and so is each repeat of it.
  Any other status means: deliver again, unless the request is at fault (401, 413, 422).
* Errors are JSON: `{"detail": ...}`. A path that does not exist is 404; a method that a path
  does not have is 405, with `Allow`.
* Pages for people are not described here: `/inbox` shows what came in, and `/` leads a browser
  there. To other clients `/` lists the routes.
* GET routes answer HEAD, and every route OPTIONS.
* Each answer has an `X-Request-ID`, which the service's log line of that request has as well.
"""

SIGNATURE = (
    "The HMAC-SHA256 of the body's bytes, exactly as they are sent, with the secret shared with"
    " the provider as key: hex of either case, with or without `sha256=` before it."
)

DELIVERY = f"""\
First the size is checked, then the signature, and then the content. `Content-Type` is ignored: a
body is always read as JSON (UTF-8). A repeat of a `message_id` is answered like the first
delivery, and the first one is kept.

`X-Signature` is the HMAC-SHA256 of the body's bytes, exactly as they are sent, in hex. Its key is
the secret shared with the provider:

    BODY='{EXAMPLE_BODY}'
    SIGNATURE=$(printf %s "$BODY" | openssl dgst -sha256 -hmac "$WEBHOOK_SECRET" -r | cut -d' ' -f1)
    curl -H "X-Signature: $SIGNATURE" -d "$BODY" http://localhost:8000/webhook

With the secret `{EXAMPLE_SECRET}` the signature of these {len(EXAMPLE_BODY)} bytes is
`{EXAMPLE_SIGNATURE}`.
"""

LISTING = """\
Ordered by the instant that `ts` names, then by `message_id`. An empty parameter counts as absent.

The `Link` header has the next page; each page costs the same. With `Accept: application/x-ndjson`
all messages that match come in one answer, one on each line; `limit`, `offset` and `cursor` are
ignored then.
"""

FEED = """
With `after` or `consumer`, messages come in the order in which they were stored, so that a program
sees each of them: a late one, too, which the order above puts among those that were read before.
`position` is where the next request goes on; once an answer had it, nothing at or before it ever
appears. `wait` lets the answer wait for a message. With NDJSON each line has its position.
"""

POSITION = "1042.h3k7q2mx"
NEXT_PAGE = f"/messages?limit=50&cursor={Cursor(Instant(1736935200, 0), 1).encode()}"
