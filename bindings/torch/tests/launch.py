"""The launchers that people use, each with four real processes on this host: torchrun, mpirun, Slurm's environment, the
lab.

launch.py torchrun|mpirun|slurm|lab      exit code 77: the launcher is not installed
"""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RANKS = 4
SECONDS = 120
PROGRAM = [sys.executable, str(HERE / "launched.py")]


def environment(**more):
    """Without what another launcher may have left."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("SLURM_", "OMPI_", "PMI", "RANK", "WORLD_SIZE", "MASTER_", "LOCAL_"))
    }
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


def torchrun():
    return [
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nnodes",
            "1",
            "--nproc-per-node",
            str(RANKS),
            "--rdzv-backend",
            "c10d",
            "--rdzv-endpoint",
            "127.0.0.1:0",
            PROGRAM[1],
        ]
    ], [environment()]


def mpirun():
    program = shutil.which("mpirun.openmpi") or shutil.which("mpirun")
    if program is None:
        return None
    root = ["--allow-run-as-root"] if os.getuid() == 0 else []
    return [[program, *root, "--oversubscribe", "--bind-to", "none", "-n", str(RANKS), *PROGRAM]], [
        environment(MASTER_ADDR="127.0.0.1", MASTER_PORT=free_port())
    ]


def slurm():
    """What srun sets for two nodes of two tasks; there is no Slurm here."""
    from longspan import launchers

    for nodes, first in (
        ("localhost", "localhost"),
        ("gpu[003-006,9],login", "gpu003"),
        ("a1,b[2-3]", "a1"),
        ("n[7]-ib", "n7-ib"),
    ):
        assert launchers.first_host(nodes) == first, f"{nodes} begins with {first}, not {launchers.first_host(nodes)}"
    port = free_port()
    return [PROGRAM] * RANKS, [
        environment(
            SLURM_PROCID=str(rank),
            SLURM_NTASKS=str(RANKS),
            SLURM_LOCALID=str(rank % 2),
            SLURM_NODEID=str(rank // 2),
            SLURM_JOB_ID="4711",
            SLURM_JOB_NODELIST="localhost",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for rank in range(RANKS)
    ]


def lab():
    """torchrun on every host of an emulated network, as on real ones: the first host is the meeting place."""
    program = os.environ.get("LONGSPAN_LAB") or shutil.which("longspan-lab")
    if program is None or not Path(program).exists():
        return None
    topology = HERE.parents[2] / "perf" / "topologies" / "two_regions.toml"
    each = (
        'exec "$0" -m torch.distributed.run --nnodes 4 --node-rank "$RANK" --nproc-per-node 1 --rdzv-backend static '
        '--master-addr "$MASTER_ADDR" --master-port "$MASTER_PORT" "$1"'
    )
    return [
        [
            program,
            "run",
            "--topology",
            str(topology),
            "--allow-invalid",
            "--timeout",
            f"{SECONDS}s",
            "--prefix",
            "others",
            "--",
            "sh",
            "-c",
            each,
            *PROGRAM,
        ]
    ], [environment()]


def main(launcher):
    try:
        import torch  # noqa: F401

        import longspan  # noqa: F401
    except ImportError as missing:
        print(f"SKIP: torch is not installed, or the process group not built: {missing}")
        return 77
    found = {"torchrun": torchrun, "mpirun": mpirun, "slurm": slurm, "lab": lab}[launcher]()
    if found is None:
        print(f"SKIP: launcher is not installed: {launcher}")
        return 77
    processes = [
        subprocess.Popen(command, env=each, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command, each in zip(*found, strict=True)
    ]
    said, codes = "", []
    try:
        for process in processes:
            said += process.communicate(timeout=SECONDS)[0]
            codes.append(process.returncode)
    except subprocess.TimeoutExpired:
        said += f"not ended after {SECONDS} s\n"
    finally:
        for process in processes:
            process.kill()
    if codes != [0] * len(processes) or said.count("all_reduce is right") != RANKS:
        print(f"FAILED: {launcher}, exit codes {codes}:\n{said}")
        return 1
    print(f"{launcher}: {RANKS} ranks met")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
