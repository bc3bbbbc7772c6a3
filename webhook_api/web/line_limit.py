"""Limits how many log lines of one kind the service writes in a second."""

import threading
import time
from collections.abc import Callable


class LineLimit:
    """Admits `most` lines in each second of `clock`, and counts the others. Safe for threads."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._mutex = threading.Lock()  # guards the next three
        self._second = 0
        self._admitted = 0
        self._left_out = 0

    def admits(self) -> bool:
        """Return whether a line may be written now; if not, count it for `left_out`."""
        with self._mutex:
            second = int(self._clock())
            if second != self._second:
                self._second, self._admitted = second, 0
            if self._admitted < self._most:
                self._admitted += 1
                return True
            self._left_out += 1
            return False

    def left_out(self, *, at_end: bool = False) -> int:
        """Return how many lines were left out since the last result that was not 0.

        0 in the same second as the last line, unless `at_end`: so each second of a flood gives
        one number.
        """
        if not self._left_out:
            return 0
        with self._mutex:
            if not at_end and int(self._clock()) == self._second:
                return 0
            left_out, self._left_out = self._left_out, 0
            return left_out
