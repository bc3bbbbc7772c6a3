"""What kind of failure an error of the database is."""

import sqlite3

# A value that cannot be stored. Every other error is a fault of the file or the disk.
FAULTS_OF_A_ROW = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    ValueError,
    OverflowError,
)


def primary_result_code(error: BaseException) -> int:
    """Return the primary result code of an error, such as `sqlite3.SQLITE_IOERR`.

    0 if SQLite did not report the error. Its errors have extended codes, which say more than we
    need; their lowest eight bits are the primary one (sqlite.org/rescode.html#pve).
    """
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
