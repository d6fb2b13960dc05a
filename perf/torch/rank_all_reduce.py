"""Chains of blocking all_reduce calls, as a program makes them: no barrier between, the next begins when this rank's
last ended. Prints, for each size, what a call takes on the slowest rank: the chain's time over its calls.

  rank_all_reduce.py BACKEND BYTES:CALLS:WARMUP...        (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT are set)
"""

import json
import statistics
import sys
import time

import torch
import torch.distributed as dist


def chain(size, calls, warmup):
    data = torch.ones(size // 4)
    assert calls + warmup <= 60, "each call multiplies by the number of ranks: the check stays exact up to there"
    for _ in range(warmup):
        dist.all_reduce(data)
    ends = [time.perf_counter()]
    for _ in range(calls):
        dist.all_reduce(data)
        ends.append(time.perf_counter())
    expected = float(dist.get_world_size()) ** (calls + warmup)
    assert torch.equal(data, torch.full_like(data, expected)), f"wrong sums: {data[:4]}, not {expected}"
    each = [after - before for before, after in zip(ends, ends[1:])]
    slowest = torch.tensor([(ends[-1] - ends[0]) / calls, statistics.median(each), min(each)], dtype=torch.float64)
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    return {
        "calls": calls,
        "mean_us": slowest[0].item() * 1e6,
        "median_us": slowest[1].item() * 1e6,
        "min_us": slowest[2].item() * 1e6,
        "rank_0_us": [round(t * 1e6, 1) for t in each],
    }


def main():
    backend, sizes = sys.argv[1], [tuple(map(int, word.split(":"))) for word in sys.argv[2:]]
    torch.set_num_threads(1)
    if backend == "longspan":
        import longspan  # noqa: F401
    dist.init_process_group(backend)
    found = {size: chain(size, calls, warmup) for size, calls, warmup in sizes}
    if dist.get_rank() == 0:
        print(json.dumps(found), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
