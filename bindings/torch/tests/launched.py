"""What launch.py starts: as a program of somebody who does not care which launcher it is."""

import torch
import torch.distributed as dist

import longspan

longspan.init_from_launcher()
rank, ranks = dist.get_rank(), dist.get_world_size()
tensor = torch.full((1000,), float(rank + 1))
dist.all_reduce(tensor)
assert ranks == 4 and torch.equal(tensor, torch.full((1000,), 10.0)), tensor[:4]
print(f"rank {rank} of {ranks}: all_reduce is right", flush=True)
dist.barrier()
dist.destroy_process_group()
