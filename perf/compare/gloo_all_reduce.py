#!/usr/bin/env python3
"""PyTorch's Gloo allreduce, timed by the rules of mpi_all_reduce.cpp (and so of all_reduce_perf): every iteration
starts at an instant agreed on the shared monotonic clock and lasts until the last rank's end; the median counts.

Run by torchrun or longspan-lab, which set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT:
  gloo_all_reduce.py [--margin-us N] [--warmup N] [--budget-s N] ITERATIONS BYTES...
Prints BYTES MEDIAN_US ITERATIONS MIN_US MAX_US for each size.
"""
import argparse
import datetime
import sys
import time

import torch
import torch.distributed as dist

LATE_NS = 1_000_000
SPIN_NS = 500_000


def wait_until(instant):
    ahead = instant - SPIN_NS - time.monotonic_ns()
    if ahead > 0:
        time.sleep(ahead / 1e9)
    while time.monotonic_ns() < instant:
        time.sleep(0)


def time_size(rules, size, ranks):
    """Sorted times in microseconds; empty when a result was wrong."""
    ones = torch.ones(size // 4, dtype=torch.float32)
    data = torch.ones_like(ones)
    margin = int(rules.margin_us * 1e3)
    budget = int(rules.budget_s * 1e9)
    agreed = torch.tensor([time.monotonic_ns() + margin])
    dist.broadcast(agreed, 0)
    start = first = int(agreed[0])
    elapsed = 0
    times = []
    i = -rules.warmup
    while i < rules.iterations:
        if i < 0 and elapsed > budget / 2:
            i = 0
        if i > 0 and elapsed > budget:
            break
        data.copy_(ones)  # in place is all that torch offers
        wait_until(start)
        begin = time.monotonic_ns()
        dist.all_reduce(data)
        end = time.monotonic_ns()
        wrong = size >= 4 and (data[0] != ranks or data[-1] != ranks)
        last = torch.tensor([begin, end, int(wrong)])
        dist.all_reduce(last, op=dist.ReduceOp.MAX)
        last_begin, last_end, any_wrong = (int(value) for value in last)
        if any_wrong:
            return []
        if i >= 0:
            times.append((last_end - (last_begin if last_begin > start + LATE_NS else start)) / 1e3)
        elapsed = last_end - first  # the same on every rank, so all agree on when to stop
        start = last_end + margin
        i += 1
    return sorted(times)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--margin-us", type=float, default=300)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--budget-s", type=float, default=3600)
    parser.add_argument("iterations", type=int)
    parser.add_argument("bytes", type=int, nargs="+")
    rules = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(minutes=10))
    code = 0
    for size in rules.bytes:
        times = time_size(rules, size, dist.get_world_size())
        if not times:
            code = 1
        if dist.get_rank() != 0:
            continue
        if times:
            print(f"{size} {times[len(times) // 2]:.2f} {len(times)} {times[0]:.2f} {times[-1]:.2f}", flush=True)
        else:
            print(f"gloo_all_reduce: {size} bytes: wrong result, or no iterations asked for", file=sys.stderr)
    dist.barrier()
    dist.destroy_process_group()
    return code


if __name__ == "__main__":
    sys.exit(main())
