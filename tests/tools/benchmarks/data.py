"""Generated messages, with senders, times and words distributed as in real ones."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

TEXT_CHARS = 80
COMMON_WORD = "invoice"  # in three texts of ten
RARE_WORD = "zugzwang"  # in some twenty of all texts, however many there are
_RARE_MESSAGES = 20
_COMMON_SHARE = 0.3
_SENDERS = 2000
_WORDS = 5000
_START = datetime(2025, 1, 1, tzinfo=UTC)
_YEAR_S = 365 * 86_400


def messages(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Yield `count` payloads of POST /webhook, a year of them, in the order of their times.

    Senders and words follow Zipf's law. No two seeds give the same `message_id`.
    """
    rng = random.Random(seed)
    senders = [f"+9198{number:08d}" for number in rng.sample(range(10**8), _SENDERS)]
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(_WORDS)]
    sender_weights = _zipf(_SENDERS)
    word_weights = _zipf(_WORDS)
    for number in range(count):
        text = " ".join(rng.choices(words, cum_weights=word_weights, k=24))
        chance = rng.random()
        if chance < _RARE_MESSAGES / count:
            text = f"{RARE_WORD} {text}"
        elif chance > 1 - _COMMON_SHARE:
            text = f"{COMMON_WORD} {text}"
        moment = _START + timedelta(seconds=_YEAR_S * number // count)
        yield {
            "message_id": f"{rng.getrandbits(128):032x}",
            "from": rng.choices(senders, cum_weights=sender_weights)[0],
            "to": "+14155550100",
            "ts": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "text": text[:TEXT_CHARS],
        }


def _zipf(size: int) -> list[float]:
    return list(accumulate(1 / rank for rank in range(1, size + 1)))
