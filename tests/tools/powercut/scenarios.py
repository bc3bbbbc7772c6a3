"""What happens to a service before the power is cut: load, failing disks, kills."""

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.serving import Server, wait_until
from tests.tools.powercut.rig import Rig
from tests.tools.powercut.shim import Calls, Fault, Files

LAST = "last"  # delivered when all is over, and acknowledged


def load(rig: Rig, seconds: float) -> None:
    """Many senders, and the usual checkpoints."""
    with rig.serving() as server, rig.load(server, "m") as load:
        time.sleep(seconds)
        load.more(300)  # a checkpoint comes after some 70


def importing(rig: Rig, seconds: float) -> None:
    """An import at the same time as the senders."""
    with rig.serving() as server, rig.load(server, "m") as load:
        running = rig.importing("i", int(1000 * seconds))
        time.sleep(seconds)
        load.more(50)
        _, problems = running.communicate(timeout=60)
        assert running.returncode == 0, problems
    # The import has said that it stored all; what it wrote counts as acknowledged.
    for number in range(int(1000 * seconds)):
        rig.shim.acknowledge(f"i-{number}")


def failing(
    files: Files, calls: Calls, error: int = errno.EIO, *, lasting_s: float = 0.0
) -> Callable[[Rig, float], None]:
    """Faults of the disk under load: of a single call, or of all calls for some time."""

    def scenario(rig: Rig, seconds: float) -> None:
        with rig.serving() as server:
            with rig.load(server, "m"):
                end, hits = time.monotonic() + seconds, 0
                while time.monotonic() < end or not hits:
                    time.sleep(seconds / 8)
                    skip = rig.chance.randrange(8)
                    times = -1 if lasting_s else 1
                    fault = rig.shim.fail(files, calls, error, skip=skip, times=times)
                    time.sleep(lasting_s or seconds / 8)
                    fault.lift()
                    hits += fault.hits
            rig.deliver_until_acknowledged(server, LAST)

    scenario.__doc__ = f"Calls {calls!r} of {files!r} fail under load."
    return scenario


def short_writes(rig: Rig, seconds: float) -> None:
    """The disk fills up in the middle of a write, and has space again."""
    with rig.serving() as server:
        with rig.load(server, "m"):
            for files in (Files.WAL, Files.WAL, Files.DATABASE, Files.WAL):
                time.sleep(seconds / 8)
                skip = rig.chance.randrange(20)
                faults = [
                    rig.shim.shorten(files, skip=skip),
                    rig.shim.fail(files, Calls.WRITE, errno.ENOSPC, skip=skip + 1),
                ]
                time.sleep(seconds / 8)
                for fault in faults:
                    fault.lift()
        rig.deliver_until_acknowledged(server, LAST)


def killed_in_a_sync(rig: Rig, seconds: float) -> None:
    """A worker dies in its sync of the WAL; what it wrote there is delivered again.

    The other process may find those frames in the page cache, and take them for committed.
    """
    with rig.serving() as server:
        _some(rig, server, "before", 20)
        for number in range(max(2, int(4 * seconds))):
            message_id = f"in-doubt-{number}"
            with delivered_and_held(rig, server, message_id, Files.WAL, Calls.SYNC) as held:
                rig.shim.kill([held.wait()])
                held.lift()
            rig.deliver_until_acknowledged(server, message_id)
            _some(rig, server, f"after-{number}", 3)


def all_killed_in_a_sync(rig: Rig, seconds: float) -> None:
    """All processes die in a sync of the WAL; what was written is delivered again after a start."""
    for number in range(max(1, int(seconds))):
        message_id = f"in-doubt-{number}"
        with rig.serving() as server:
            _some(rig, server, f"before-{number}", 20)
            with delivered_and_held(rig, server, message_id, Files.WAL, Calls.SYNC) as held:
                held.wait()
                rig.kill(server)
                held.lift()
        with rig.serving() as server:
            rig.deliver_until_acknowledged(server, message_id)
            _some(rig, server, f"after-{number}", 10)


def killed_after_a_failed_sync(rig: Rig, seconds: float) -> None:
    """A sync of the WAL fails, all processes die before they can do anything about it.

    The page cache holds frames that are not on disk and that no later sync will write. The
    next start has them as the only thing it sees. In each second round they are the first of
    their WAL: nothing on disk makes up for pages that a checkpoint wrote half.
    """
    for number in range(max(1, int(seconds))):
        message_id = f"in-doubt-{number}"
        with rig.serving() as server:
            _some(rig, server, f"before-{number}", 20 * (number % 2))
            # The first sync of a WAL is that of its header.
            skip = 1 - number % 2
            fault = rig.shim.fail(Files.WAL, Calls.SYNC, errno.EIO, skip=skip)
            rig.deliver(server, message_id)
            rig.kill(server)
            fault.lift()
        with rig.serving() as server:
            rig.deliver_until_acknowledged(server, message_id)
            _some(rig, server, f"after-{number}", 10)


def killed_in_a_checkpoint(rig: Rig, seconds: float) -> None:
    """All processes die in the middle of a checkpoint under load."""
    for number in range(max(1, int(seconds / 2))):
        with rig.serving() as server, rig.load(server, f"m{number}"):
            held = rig.shim.hold(Files.DATABASE, Calls.WRITE, skip=rig.chance.randrange(30))
            held.wait()
            rig.kill(server)
            held.lift()
    with rig.serving() as server:
        _some(rig, server, "after", 10)


def folder_fails(rig: Rig, seconds: float) -> None:
    """The sync of the folder fails that should make the name of a new WAL durable."""
    with rig.serving() as server:
        fault = rig.shim.fail(Files.FOLDER, Calls.SYNC, errno.EIO, times=2)
        with rig.load(server, "m"):
            time.sleep(seconds)
            wait_until(lambda: fault.hits > 0)


def hanging(rig: Rig, seconds: float) -> None:
    """A sync of the WAL takes longer than a delivery may wait."""
    with rig.serving(COMMIT_DEADLINE_S=0.5) as server, rig.load(server, "m"):
        for _ in range(max(1, int(seconds / 2))):
            rig.shim.hang(Files.WAL, 1.0)
            time.sleep(2.0)


def fresh(rig: Rig, seconds: float) -> None:
    """A start without a database, a few deliveries."""
    with rig.serving() as server:
        _some(rig, server, "first", max(3, int(10 * seconds)))


@contextmanager
def delivered_and_held(
    rig: Rig, server: Server, message_id: str, files: Files, calls: Calls, **fields: int
) -> Iterator[Fault]:
    """Deliver a message, and hold its process before such a call during a `with` block."""
    held = rig.shim.hold(files, calls, **fields)
    sender = threading.Thread(target=rig.deliver, args=[server, message_id])
    sender.start()
    try:
        yield held
    finally:
        held.lift()
        sender.join()


def _some(rig: Rig, server: Server, prefix: str, messages: int) -> None:
    for number in range(messages):
        rig.deliver_until_acknowledged(server, f"{prefix}-{number}")


_ONCE = failing(Files.WAL, Calls.SYNC)
_FOR_A_TIME = failing(Files.WAL, Calls.SYNC, lasting_s=0.1)

# Name, number of workers, what happens.
SCENARIOS: dict[str, tuple[int, Callable[[Rig, float], None]]] = {
    "load, 1 worker": (1, load),
    "load, 2 workers": (2, load),
    "import beside load, 2 workers": (2, importing),
    "start without a database": (2, fresh),
    "WAL sync fails once, 1 worker": (1, _ONCE),
    "WAL sync fails once, 2 workers": (2, _ONCE),
    "WAL sync fails for a time, 1 worker": (1, _FOR_A_TIME),
    "WAL sync fails for a time, 2 workers": (2, _FOR_A_TIME),
    "database sync fails": (2, failing(Files.DATABASE, Calls.SYNC)),
    "folder sync fails": (2, folder_fails),
    "WAL sync hangs": (2, hanging),
    # So the mark that says so cannot be set.
    "WAL sync fails, and the lock file": (
        2,
        failing(Files.WAL | Files.LOCK, Calls.SYNC | Calls.TRUNCATE, lasting_s=0.1),
    ),
    "WAL writes fail": (2, failing(Files.WAL, Calls.WRITE)),
    "disk full for a time": (
        2,
        failing(Files.WAL | Files.DATABASE, Calls.WRITE, errno.ENOSPC, lasting_s=0.1),
    ),
    "short writes": (2, short_writes),
    "killed in a sync, 1 worker": (1, killed_in_a_sync),
    "killed in a sync, 2 workers": (2, killed_in_a_sync),
    "all killed in a checkpoint": (2, killed_in_a_checkpoint),
    "all killed in a sync": (2, all_killed_in_a_sync),
    "all killed after a failed sync": (2, killed_after_a_failed_sync),
}
