"""What launchers say of a process, as torch.distributed wants to hear it."""

import os

# launcher: its names for RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE
_NAMES = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    "Open MPI": (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    "MPICH": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    "Slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"),
}


def first_host(node_list):
    """Of Slurm's list: "gpu[003-006,9],login" begins with gpu003."""
    prefix, bracket, rest = node_list.partition("[")
    if not bracket or "," in prefix:
        return prefix.split(",")[0]
    inside, _, suffix = rest.partition("]")
    return prefix + inside.split(",")[0].split("-")[0] + suffix.split(",")[0]


def environment(variables=None):
    """{"RANK": ..., "WORLD_SIZE": ..., ...} by the launcher that set both of its variables; torchrun's names come
    first."""
    variables = os.environ if variables is None else variables
    for launcher, names in _NAMES.items():
        if names[0] not in variables or names[1] not in variables:
            continue
        found = {
            ours: variables[name] for ours, name in zip(_NAMES["torchrun"], names) if variables.get(name, "").isdigit()
        }
        if launcher == "Slurm":
            if "SLURM_JOB_NODELIST" in variables:
                found["MASTER_ADDR"] = first_host(variables["SLURM_JOB_NODELIST"])
            if variables.get("SLURM_JOB_ID", "").isdigit():
                found["MASTER_PORT"] = str(
                    20000 + int(variables["SLURM_JOB_ID"]) % 10000
                )  # jobs that share a node differ
        for given in ("MASTER_ADDR", "MASTER_PORT"):
            if given in variables:
                found[given] = variables[given]
        if found["WORLD_SIZE"] == "1":
            found.setdefault("MASTER_ADDR", "127.0.0.1")
            found.setdefault("MASTER_PORT", "0")
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in found]
        if missing:
            raise ValueError(
                f"longspan: {launcher} started rank {found['RANK']} of {found['WORLD_SIZE']}, but not where rank 0 is: "
                f"set {' and '.join(missing)} for all ranks (mpirun: -x MASTER_ADDR=HOST -x MASTER_PORT=PORT)"
            )
        return found
    raise ValueError(
        "longspan: no launcher's variables here (RANK and WORLD_SIZE, OMPI_COMM_WORLD_*, PMI_*, SLURM_PROCID): start "
        "this program with torchrun, mpirun or srun"
    )
