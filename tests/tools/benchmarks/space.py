"""What a message costs on the disk: `python -m tests.tools.benchmarks.space --help`.

"Written" is what the processes gave to the disk, by /proc/PID/io (proc(5)): the write-ahead log,
and its pages once more when a checkpoint moves them into the file. "In the file" is what stays.
"""

import tempfile
from pathlib import Path

import click

from tests.tools.benchmarks.data import TEXT_CHARS
from tests.tools.benchmarks.harness import FIRST_PORT, Server, require, show_table
from tests.tools.benchmarks.reads import import_messages
from tests.tools.benchmarks.writes import Bodies

_HEAD = ("connections", "messages", "batch", "written, bytes each", "in the file, bytes each")


@click.command()
@click.option("--connections", default="1,32,256", show_default=True)
@click.option("--rows", default=200_000, show_default=True, help="Messages in the file before.")
@click.option("--seconds", default=10.0, show_default=True, help="Length of one run.")
def main(connections: str, rows: int, seconds: float) -> None:
    """Measure the bytes that a delivery writes, and those that a message takes."""
    require("wrk", "to send requests")
    with tempfile.TemporaryDirectory(prefix="webhook-bench-") as name:
        folder = Path(name)
        bodies = Bodies(folder)
        bodies.fresh(0)  # the imported messages have the first seed
        # Lines of the log would count as written, too.
        server = Server("service", FIRST_PORT, folder, environment={"LOG_LEVEL": "WARNING"})
        import_messages(server.database, rows)
        table = []
        for number in map(int, connections.split(",")):
            stored, size = server.stored(), server.database.stat().st_size
            with server:
                written = server.written_bytes()
                run = server.post(bodies.fresh(seconds), number, seconds)
                written = server.written_bytes() - written
            messages = server.stored() - stored  # the end of the service has made a checkpoint
            kept = (server.database.stat().st_size - size) / messages
            cells = (messages, f"{run.commits.batch:.1f}", f"{written / messages:.0f}")
            table.append([number, *cells, f"{kept:.0f}"])
    click.echo(f"text of {TEXT_CHARS} characters, {rows} messages before:")
    show_table(_HEAD, table)


if __name__ == "__main__":
    main()
