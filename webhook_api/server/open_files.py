"""How many connections a process may have, given how many files it may open."""

import resource

_FILES_OF_A_THREAD = 4  # three for a database connection, and one more
_FILES_OF_A_WORKER = 64


def allowed_files() -> int:
    """Return how many files this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connections_at_most(wanted: int, threads: int, files: int) -> int:
    """Return `wanted`, or as many connections as leave enough files for everything else."""
    return max(16, min(wanted, files - _FILES_OF_A_WORKER - threads * _FILES_OF_A_THREAD))
