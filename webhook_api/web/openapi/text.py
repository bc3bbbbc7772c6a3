"""The longer texts of the description, and a signed delivery to check one's own code by."""

import json
from typing import Any

from webhook_api.models import Cursor, Instant

# A delivery to check one's own code by: its signature was made with openssl.
EXAMPLE_SECRET = "testsecret"  # noqa: S105
EXAMPLE_BODY = (
    '{"message_id":"m1","from":"+919876543210","to":"+14155550100",'
    '"ts":"2025-01-15T10:00:00Z","text":"Hello"}'
)
EXAMPLE_SIGNATURE = "ff1016e524bc9299d18988ecf27a880af9428140e3850af0c73ea1eef091a4cb"
MESSAGE: dict[str, Any] = json.loads(EXAMPLE_BODY)

ABOUT = """\
Receives signed messages and stores each of them exactly once.

* A delivery is answered 200 once its message is on disk, and again for each repeat of it.
  Anything else means: deliver again, unless the request itself is at fault (401, 413, 422).
* Errors are JSON: `{"detail": ...}`. A path that does not exist is 404; a method that a path
  does not have is 405, with `Allow`.
* Pages for people are not described here: `/inbox` shows what came in, and `/` leads a browser
  there. To other clients `/` lists the routes.
* GET routes answer HEAD, and every route OPTIONS.
* Each reply names itself in `X-Request-ID`; the service's log line of that request has the same.
"""

SIGNATURE = (
    "The HMAC-SHA256 of the body's bytes, exactly as they are sent, under the secret shared with"
    " the provider: hex of either case, which may follow `sha256=`."
)

DELIVERY = f"""\
The size is looked at first, then the signature, and only then what the body says. `Content-Type`
is not looked at: a body is read as JSON (UTF-8) whatever it is called. A repeat of a `message_id`
is answered as the first delivery was, and the first one is kept.

`X-Signature` is the HMAC-SHA256 of the body's bytes, exactly as they are sent, under the secret
shared with the provider, in hex:

    BODY='{EXAMPLE_BODY}'
    SIGNATURE=$(printf %s "$BODY" | openssl dgst -sha256 -hmac "$WEBHOOK_SECRET" -r | cut -d' ' -f1)
    curl -H "X-Signature: $SIGNATURE" -d "$BODY" http://localhost:8000/webhook

With the secret `{EXAMPLE_SECRET}` the signature of these {len(EXAMPLE_BODY)} bytes is
`{EXAMPLE_SIGNATURE}`.
"""

LISTING = """\
Ordered by the instant that `ts` names, then by `message_id`. An empty parameter counts as absent.

The `Link` header leads to the next page, at a cost that does not grow with the way already gone.
With `Accept: application/x-ndjson` all messages that match come in one reply, a line for each;
`limit`, `offset` and `cursor` have no meaning then.
"""

NEXT_PAGE = f"/messages?limit=50&cursor={Cursor(Instant(1736935200, 0), 1).encode()}"
