"""longspan for PyTorch: collectives over racks, sites and far-apart regions.

    import torch.distributed as dist
    import longspan  # registers the backend "longspan"

    dist.init_process_group("longspan")

The topology comes from LONGSPAN_TOPOLOGY, or from `pg_options=longspan.Options(topology="file.toml")`.
"""

import os

import torch
import torch.distributed as dist
from torch.distributed.constants import default_pg_timeout

from ._versions import check_torch

check_torch(torch.__version__)

from . import _C, _gates  # noqa: E402

__all__ = ["Options", "explain", "init_from_launcher", "links"]

BACKEND = "longspan"


class Options(_C.Options):
    """Settings of a process group; what is not given comes from the environment (LONGSPAN_*), then from defaults.

    topology: file; topology_text: its text instead; host: which [[host]] of it this rank is on; algorithm, transports,
    nics, key, key_file, advertise, log_level: as the variables of the same names.
    """

    def __init__(self, **settings):
        super().__init__()
        for name, value in settings.items():
            if name.startswith("_") or not hasattr(type(self), name):
                raise TypeError(f"longspan.Options has no setting {name!r}")
            setattr(self, name, value)


def _backend_of(group):
    group = group if group is not None else dist.group.WORLD
    if group is None:
        raise ValueError("longspan: no process group; call torch.distributed.init_process_group first")
    for device in ("cpu", "cuda"):
        try:
            backend = _gates.unwrapped(group._get_backend(torch.device(device)))
        except RuntimeError:
            continue
        if isinstance(backend, _C.ProcessGroupLongspan):
            return backend
    raise ValueError("longspan: this process group does not use longspan")


def explain(group=None, collective="all_reduce", size=64 << 20):
    """The plan for `size` bytes: its algorithm, chunks, predicted time and the bound that the links set, in seconds."""
    return _C.explain(_backend_of(group), collective, size)


def links(group=None):
    """What this process has sent over every link between regions, and how it fares: a list of dictionaries."""
    return _C.links(_backend_of(group))


def init_from_launcher(**settings):
    """`init_process_group("longspan", **settings)` under torchrun, mpirun or srun: RANK, WORLD_SIZE and the rest are
    set from what the launcher says. Open MPI and MPICH do not say where rank 0 is: pass them
    `-x MASTER_ADDR=... -x MASTER_PORT=...`."""
    from . import launchers

    os.environ.update(launchers.environment())
    dist.init_process_group(BACKEND, **settings)


def _create(seat, options):
    if options is not None and not isinstance(options, _C.Options):
        options = None  # another backend's, or none: torch passes what the default group was given
    # torch always passes a timeout: its default where it was given none.
    own_timeout = bool(os.environ.get("LONGSPAN_TIMEOUT")) and seat.timeout == default_pg_timeout
    return _C.create_backend(seat, options, timeout_from_environment=own_timeout)


def _register():
    if BACKEND not in dist.Backend.backend_list:
        dist.Backend.register_backend(BACKEND, _create, extended_api=True, devices=["cpu", "cuda"])
    _gates.install(_C.ProcessGroupLongspan)


if dist.is_available():
    _register()
