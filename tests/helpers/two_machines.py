"""Two machines on one: network namespaces with a cable between them, in which processes see each other by address."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

INTERFACE = "cable"


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a machine: no proxy reaches it, and its Ray asks for no token and does not yield."""
    ray = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    variables = {**ray, **variables}
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, **variables}


@dataclass
class Machine:
    """A namespace with an address of its own.

    Attributes:
        name: of the namespace.
        address: its IPv4 address.
    """

    name: str
    address: str
    processes: list[subprocess.Popen] = field(default_factory=list)

    def inside(self, command: Sequence[object]) -> list[str]:
        """Return the command that runs another one on this machine."""
        return ["ip", "netns", "exec", self.name, *map(str, command)]

    def start(self, command: Sequence[object], log: Path, **variables: str) -> subprocess.Popen:
        """Start a process, whose output goes to a file."""
        with open(log, "w") as file:
            process = subprocess.Popen(self.inside(command), stdout=file, stderr=file, env=environment(**variables))
        self.processes.append(process)
        return process

    def kill(self) -> None:
        """Kill all processes of the machine at once, as when it loses power."""
        pids = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True).stdout.split()
        if pids:
            subprocess.run(["kill", "-9", *pids], stderr=subprocess.DEVNULL)
        for process in self.processes:
            process.wait()


@contextlib.contextmanager
def connected() -> Iterator[tuple[Machine, Machine]]:
    """Make two machines; the test is skipped where namespaces are not permitted."""
    machines = [Machine(f"rounds-{os.getpid()}-{number}", f"10.77.0.{number}") for number in (1, 2)]
    first, second = machines
    link = ["ip", "link", "add", INTERFACE, "netns", first.name, "type", "veth", "peer", "name", INTERFACE]
    commands = [["ip", "netns", "add", machine.name] for machine in machines] + [[*link, "netns", second.name]]
    for machine in machines:
        inside = ["ip", "-n", machine.name]
        commands.append([*inside, "address", "add", f"{machine.address}/24", "dev", INTERFACE])
        commands += [[*inside, "link", "set", name, "up"] for name in ("lo", INTERFACE)]
    try:
        if not shutil.which("ip") or any(subprocess.run(line, capture_output=True).returncode for line in commands):
            pytest.skip("network namespaces (ip netns add) are not permitted here")
        yield first, second
    finally:
        for machine in machines:
            machine.kill()
            subprocess.run(["ip", "netns", "delete", machine.name], capture_output=True)
