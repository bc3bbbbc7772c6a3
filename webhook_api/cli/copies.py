"""What the commands that copy a database show: how far they are, and what is wrong with a copy."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from webhook_api.cli.failures import EXIT_FAILURE
from webhook_api.cli.progress import progress_bar
from webhook_api.cli.terminal import say
from webhook_api.maintenance.verify import DamagedError
from webhook_api.store.copies import Progress


@contextmanager
def shown_copying(label: str) -> Iterator[Progress]:
    """Yield what moves a progress bar; list the differences of a damaged copy, and end there."""
    with progress_bar(label, None) as bar:

        def show(done: int, of: int) -> None:
            bar.length = of
            bar.update(done - bar.pos)

        try:
            yield show
        except DamagedError as error:
            for difference in error.report.differences:
                say(difference)
            sys.exit(EXIT_FAILURE)
