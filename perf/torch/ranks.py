"""Starts a Python program once per rank, on the lab or on this host, and gives back what its rank 0 printed as JSON."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HOSTS = [("10.77.0.1", "eu-1"), ("10.77.0.2", "eu-2"), ("10.77.1.1", "us-1"), ("10.77.1.2", "us-2")]
TOPOLOGY = ROOT / "perf" / "topologies" / "two_regions.toml"


class Failed(Exception):
    pass


class Runner:
    def __init__(self, build, seconds):
        self.build = Path(build).resolve()
        self.seconds = seconds

    def environment(self):
        paths = [str(self.build / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
        # Gradients that malloc maps anew in every step would cost more in page faults than the model computes.
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "1",
            "MALLOC_MMAP_THRESHOLD_": "1073741824",
            "MALLOC_TRIM_THRESHOLD_": "4294967296",
        }

    def call(self, command, environment=None):
        try:
            return subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=self.seconds + 30,
                env=environment or self.environment(),
            )
        except subprocess.TimeoutExpired as late:
            raise Failed(f"did not end: {' '.join(command)}") from late

    def on_lab(self, command, backend):
        """(what rank 0 printed, what the lab says of the run); `command` runs on each of four hosts."""
        folder = Path(tempfile.mkdtemp(prefix="longspan-torch-"))
        try:
            # Hosts of one machine share its name: Gloo would listen at an address outside of the lab.
            (folder / "nsswitch.conf").write_text("hosts: files\npasswd: files\ngroup: files\n")
            (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{a} {n}\n" for a, n in HOSTS))
            inside = (
                command
                if backend != "gloo"
                else [str(ROOT / "perf" / "compare" / "wan_rank.sh"), str(folder), "default", "gloo", *command]
            )
            done = self.call(
                [
                    str(self.build / "bin" / "longspan-lab"),
                    "run",
                    "--topology",
                    str(TOPOLOGY),
                    "--prefix",
                    "others",
                    "--grace",
                    "5s",
                    "--timeout",
                    f"{self.seconds}s",
                    "--allow-invalid",
                    "--quiet",
                    "--json",
                    str(folder / "lab.json"),
                    "--",
                    *inside,
                ]
            )
            if done.returncode != 0:
                raise Failed(f"exit code {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
            report = json.loads((folder / "lab.json").read_text())
            lab = {
                "valid": report["valid"],
                "reasons_invalid": report["reasons_invalid"],
                "stolen_share": report["stolen_share"],
                "dropped_packets": sum(link["dropped_packets"] for link in report["links"]),
            }
            return printed_by(done.stdout), lab
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def on_host(self, command, ranks):
        """The same with `ranks` processes of this host."""
        with socket.socket() as taken:  # a port that nobody has: rank 0 listens on it at once
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        environment = {
            **self.environment(),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(ranks),
        }
        launch = [sys.executable, str(Path(__file__).resolve()), str(ranks), str(self.seconds), *command]
        done = self.call(launch, environment)
        if done.returncode != 0:
            raise Failed(f"exit code {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
        return printed_by(done.stdout)

    def bound_us(self, size):
        done = subprocess.run(
            [
                str(self.build / "bin" / "longspan"),
                "explain",
                "--topology",
                str(TOPOLOGY),
                "--size",
                str(size),
                "--json",
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return json.loads(done.stdout)["bound_us"]


def printed_by(text):
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    raise Failed(f"rank 0 printed no result: {text[-1500:]}")


def main():
    """RANKS SECONDS COMMAND...: the processes of on_host."""
    ranks, seconds, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    processes = [
        subprocess.Popen(command, env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(ranks)
    ]
    try:
        codes = [process.wait(seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(main())
