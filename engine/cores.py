"""How many threads are worth having: the physical cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def n_physical_cores(topology: Path = TOPOLOGY, quota: Path = QUOTA) -> int:
    """Cores, not their hyper-threads, less what the process's affinity and its container's quota forbid; at least one."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(topology / f"cpu{cpu}", cpu) for cpu in cpus}
    return max(min(len(cores), _n_granted(quota) or len(cores)), 1)


def _siblings(cpu_folder: Path, cpu: int) -> str:
    """The same text for all hyper-threads of a core; without a topology every one is its own."""
    try:
        return (cpu_folder / "topology" / "thread_siblings_list").read_text("ascii").strip()
    except (OSError, ValueError):
        return str(cpu)


def _n_granted(quota: Path) -> int | None:
    try:
        granted, period = quota.read_text("ascii").split()
        return None if granted == "max" else max(int(granted) // int(period), 1)
    except (OSError, ValueError, ZeroDivisionError):
        return None
