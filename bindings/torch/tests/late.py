"""A rank that is late: it goes on when the others have done something, however long that takes them."""

from datetime import timedelta

import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d


def tell(what):
    """To the rank that waits for it in `wait_for_others`; from any thread."""
    # A connection of its own: another thread may be waiting in the store.
    c10d._get_default_store().clone().set(f"late/{what}/{dist.get_rank()}", "")


def wait_for_others(what):
    others = [rank for rank in range(dist.get_world_size()) if rank != dist.get_rank()]
    c10d._get_default_store().wait([f"late/{what}/{rank}" for rank in others], timedelta(seconds=60))
