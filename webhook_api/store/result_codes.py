"""SQLite's result codes: what kind of failure an error is."""


def primary_result_code(error: BaseException) -> int:
    """Return the primary result code of an error, such as `sqlite3.SQLITE_IOERR`.

    0 if SQLite did not report the error. Its errors have extended codes, which say more than we
    need; their lowest eight bits are the primary one (sqlite.org/rescode.html#pve).
    """
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
