"""Processes forked from one that has imported the service, which takes most of a second.

Most tests start the service so (`serving.start`). What a new interpreter does before is tested by
those that begin with one, such as those of power cuts.
"""

import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    ["flask.cli", "gunicorn.app.wsgiapp", "webhook_api", "webhook_api.server", "tests.dying"]
)


class Forked:
    """A running process: of `subprocess.Popen` what tests use."""

    def __init__(self, work: Callable[..., object], *arguments: object) -> None:
        self._process = _forks.Process(target=work, args=arguments, daemon=True)
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.wait()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (status := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Command(Forked):
    """A running `python -m`, and what it prints. With `stdin_closed`, it has no stdin."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin_closed: bool = False,
    ) -> None:
        folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, folder)
        self._output = [folder / "stdout", folder / "stderr"]
        files = [None if stdin_closed else os.devnull, *self._output]
        super().__init__(_run_module, list(arguments), cwd, dict(env), files)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        stdout, stderr = (file.read_text() for file in self._output)
        return stdout, stderr


def python(
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdout: Path, stderr: Path
) -> Forked:
    """Run `python -m` with these arguments, in a process group of its own.

    Its output is appended to the files.
    """
    return Forked(_run_module, list(arguments), cwd, dict(env), [os.devnull, stdout, stderr])


def _run_module(
    arguments: list[str], cwd: Path, env: dict[str, str], files: list[str | Path | None]
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run with `&`
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, file in enumerate(files):
        if file is None:
            os.close(number)
            continue
        opened = os.open(file, (os.O_WRONLY | os.O_APPEND | os.O_CREAT) if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = None if files[0] is None else sys.__stdin__
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def killed(work: Callable[..., Any], *arguments: object) -> None:
    """Let `work` run in a process of its own, where it has to be killed by SIGKILL."""
    assert Forked(work, *arguments).wait(60) == -signal.SIGKILL
