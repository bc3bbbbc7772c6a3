"""How many connections a process may have, with files enough left for everything else."""

import resource

_FILES_OF_A_THREAD = 4  # those of a database connection, and one more
_FILES_OF_A_WORKER = 64


def descriptors() -> int:
    """Return how many files this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connections_at_most(wanted: int, threads: int, files: int) -> int:
    """Return how many connections leave files enough for everything else."""
    return max(16, min(wanted, files - _FILES_OF_A_WORKER - threads * _FILES_OF_A_THREAD))
