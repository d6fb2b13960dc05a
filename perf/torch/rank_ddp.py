"""DDP steps of a model of 26 M fp32 parameters whose compute is tiny: what is left is the communication of its
gradients.

  rank_ddp.py BACKEND STEPS WARMUP BUCKETS   BACKEND none: the same steps on every rank at once, without communication

BUCKETS is what DDP gathers gradients in: "default" (torch's own: first 1 MiB, then 25 MiB each), a number of MiB for
every bucket, or one for each bucket with "+" between them ("1+100": the first goes out early, and the rest in one).

A step is zero_grad, forward, backward with all gradients summed, and an SGD update. Steps follow one another without a
barrier.
"""

import json
import os
import statistics
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

WIDTH, LAYERS, BATCH = 1000, 26, 1


def steps(model, parameters, count):
    """Seconds of each step, and of its part up to the end of backward."""
    generator = torch.Generator().manual_seed(dist.get_rank() if dist.is_initialized() else 0)
    x = torch.randn(BATCH, WIDTH, generator=generator)
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    whole, reduced = [], []
    for _ in range(count):
        begin = time.perf_counter()
        optimizer.zero_grad()
        model(x).square().mean().backward()
        reduced.append(time.perf_counter() - begin)
        optimizer.step()
        whole.append(time.perf_counter() - begin)
    return whole, reduced


def bucket_sizes(text):
    if text == "default":
        return {}
    sizes = [float(word) for word in text.split("+")]
    return {"bucket_cap_mb": sizes[0]} if len(sizes) == 1 else {"bucket_cap_mb_list": sizes}


def main():
    backend, count, warmup, buckets = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = nn.Sequential(*[nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)])
    parameters = list(model.parameters())
    said = {"parameters": sum(p.numel() for p in parameters)}
    if backend == "none":
        if "RANK" in os.environ:  # ranks share cores: they must compute at the same time here too
            dist.init_process_group("gloo")
            dist.barrier()
        whole, reduced = steps(model, parameters, count + warmup)
    else:
        if backend == "longspan":
            import longspan  # noqa: F401
        dist.init_process_group(backend)
        model = DistributedDataParallel(model, gradient_as_bucket_view=True, **bucket_sizes(buckets))
        whole, reduced = steps(model, parameters, count + warmup)
        mine = torch.stack([p.detach().double().sum() for p in parameters])
        least, most = mine.clone(), mine.clone()
        dist.all_reduce(least, dist.ReduceOp.MIN)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        assert torch.equal(least, most), "ranks have different parameters"
        said["checksum"] = mine.sum().item()
    whole, reduced = whole[warmup:], reduced[warmup:]
    said.update(
        step_s=statistics.mean(whole),
        step_median_s=statistics.median(whole),
        reduced_s=statistics.mean(reduced),
        reduced_median_s=statistics.median(reduced),
        steps_s=[round(t, 4) for t in whole],
    )
    if not dist.is_initialized() or dist.get_rank() == 0:
        print(json.dumps(said), flush=True)
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
