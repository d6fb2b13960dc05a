"""Calls of torch.distributed that ask for other backends by name, widened to longspan's groups.

Each is replaced by a function that serves longspan's backends and leaves all others to torch's own. `install` may be
called any number of times.
"""

import functools
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d


def unwrapped(backend):
    """The backend, without what TORCH_DISTRIBUTED_DEBUG=DETAIL wraps it in."""
    while hasattr(backend, "wrapped_pg"):
        backend = backend.wrapped_pg
    return backend


def backends_by_device(group):
    if not isinstance(group, dist.ProcessGroup):
        return {}  # torch's own function says what is wrong
    return {
        torch.device(device).type: unwrapped(group._get_backend(torch.device(device))) for device in group._device_types
    }


def _monitored_barrier(torchs, kind):
    @functools.wraps(torchs)
    def monitored_barrier(group=dist.GroupMember.WORLD, timeout=None, wait_all_ranks=False):
        if c10d._rank_not_in_group(group):
            return torchs(group, timeout, wait_all_ranks)
        used = group if group is not None else c10d._get_default_group()
        backend = backends_by_device(used).get("cpu")  # the device that torch sends this call to
        if not isinstance(backend, kind):
            return torchs(group, timeout, wait_all_ranks)
        if timeout is None:
            timeout = backend.options._timeout
        elif not isinstance(timeout, timedelta):
            timeout = timedelta(seconds=timeout)
        return used.monitored_barrier(timeout, wait_all_ranks=wait_all_ranks)

    return monitored_barrier


def _set_pg_timeout(torchs, kind):
    @functools.wraps(torchs)
    def _set_pg_timeout(timeout, group=None):
        if c10d._rank_not_in_group(group):
            return torchs(timeout, group)
        backends = backends_by_device(group if group is not None else c10d._get_default_group()).values()
        ours = [backend for backend in backends if isinstance(backend, kind)]
        for backend in ours:
            backend._set_default_timeout(timeout)
        if len(ours) < len(backends) or not backends:
            torchs(timeout, group)  # which passes over ours

    return _set_pg_timeout


def install(kind):
    """`kind`: the class of longspan's backends."""
    for name, widened in (("monitored_barrier", _monitored_barrier), ("_set_pg_timeout", _set_pg_timeout)):
        torchs = getattr(c10d, name, None)
        if torchs is None or hasattr(torchs, "_longspan"):
            continue
        ours = widened(torchs, kind)
        ours._longspan = True
        setattr(c10d, name, ours)
        if getattr(dist, name, None) is torchs:
            setattr(dist, name, ours)
