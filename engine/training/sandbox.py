"""Runs code that a model wrote: in a process of its own, with little time and memory, no files to write and no network.

It guards against the accidents of a small model, not against an attacker. The network goes away where the system gives an
unprivileged process a namespace of its own (`unshare`, Linux).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass

_UNSHARE = ("unshare", "--user", "--net", "--")
_DONE = 42  # only the last line exits with this: a program that calls exit(0) half-way has not passed its tests
# The child limits itself: a preexec_fn is not safe beside threads, and torch has some.
_PROGRAM = """
import resource
for _name, _limit in ((resource.RLIMIT_CPU, {cpu_s}), (resource.RLIMIT_AS, {memory_bytes}), (resource.RLIMIT_FSIZE, 0),
                      (resource.RLIMIT_NPROC, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 16)):
    resource.setrlimit(_name, (_limit, _limit))
del resource, _name, _limit
exec(compile({code!r}, "<candidate>", "exec"), {{"__name__": "__main__"}})
import os
os._exit({done})
"""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What the code may use up, and the command that starts it cut off from the network."""

    isolate: tuple[str, ...] = ()
    timeout_s: float = 10.0
    cpu_s: int = 5
    memory_bytes: int = 512 << 20

    @classmethod
    def without_network(cls) -> Sandbox:
        """The usual limits; `isolate` stays empty where the system has no namespaces to give."""
        if shutil.which(_UNSHARE[0]) is None:
            return cls()
        tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, timeout=10, check=False)
        return cls(_UNSHARE if tried.returncode == 0 else ())

    def passes(self, code: str) -> bool:
        """Whether the code runs to its end, without an error and within the limits."""
        program = _PROGRAM.format(cpu_s=self.cpu_s, memory_bytes=self.memory_bytes, code=code, done=_DONE)
        with tempfile.TemporaryDirectory() as folder:
            process = subprocess.Popen(
                [*self.isolate, sys.executable, "-I", "-S", "-B", "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={"PATH": os.defpath},
                start_new_session=True,
            )
            try:
                process.communicate(program.encode("utf-8", "replace"), self.timeout_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                return False
        return process.returncode == _DONE
