"""A real sshd on the loopback, with keys of its own; what the system's ssh sees of it."""

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass
class Loopback:
    """A server, and how to reach it."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def device(self) -> str:
        """What ``--device`` takes."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def command(self) -> str:
        """What GOLDNAS_SSH_COMMAND is to be: the user's configuration is left aside."""
        return shlex.join(["ssh", "-F", str(self.folder / "config")])

    def configure(self, *, key: str = "key", known: str = "known_hosts") -> None:
        """Choose the key to log in with and the known hosts."""
        text = (
            f"IdentityFile {self.folder / key}\nIdentitiesOnly yes\nIdentityAgent none\n"
            f"UserKnownHostsFile {self.folder / known}\nGlobalKnownHostsFile /dev/null\n"
        )
        (self.folder / "config").write_text(text)

    def connections(self) -> list[int]:
        """Processes of sshd that serve a connection."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [int(number) for number in found.stdout.split()]

    def die(self) -> None:
        """End for good, connections and all."""
        connections = self.connections()
        self.process.terminate()
        self.process.wait()
        self.cut(connections)

    def cut(self, connections: Sequence[int] = ()) -> None:
        """Break connections, all that there are if none are given, as a network does."""
        for number in connections or self.connections():
            subprocess.run(["pkill", "-KILL", "-P", str(number)], check=False)
            subprocess.run(["kill", "-KILL", str(number)], check=False)


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def loopback(folder: Path) -> Iterator[Loopback]:
    """Start sshd, and end it."""
    assert SSHD
    for name in ("host_key", "key", "stranger"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    port = find_free_port()
    host_key = (folder / "host_key.pub").read_text().split()[:2]
    stranger = (folder / "stranger.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {' '.join(host_key)}\n")
    (folder / "others").write_text(f"[127.0.0.1]:{port} {' '.join(stranger)}\n")
    (folder / "nobody").write_text("")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host_key'}\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nPidFile none\nUsePAM no\n"
        "StrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        "AcceptEnv GOLDNAS_*\nMaxStartups 100\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "sshd.log").open("wb") as log:
        command = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
        with subprocess.Popen(command, stderr=log) as process:
            server = Loopback(folder, port, process)
            server.configure()
            try:
                _await(port)
                yield server
            finally:
                server.cut()
                process.terminate()


def _await(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("sshd does not listen")
