"""What starting costs beyond `import torch`:   rank_start.py BACKEND
From the instant at which the last rank has torch.distributed to that at which the last rank has its process group, and
has made one barrier. One clock: the ranks are on one machine."""

import sys
import time

BEGIN = time.clock_gettime(time.CLOCK_MONOTONIC)
import json  # noqa: E402

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402


def now():
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def main():
    backend = sys.argv[1]
    have_torch = now()
    if backend == "longspan":
        import longspan  # noqa: F401
    have_package = now()
    dist.init_process_group(backend)
    have_group = now()
    dist.barrier()
    told = torch.tensor([BEGIN, have_torch, have_package, have_group, now()], dtype=torch.float64)
    all_told = [torch.zeros_like(told) for _ in range(dist.get_world_size())]
    dist.all_gather(all_told, told)
    if dist.get_rank() == 0:
        times = torch.stack(all_told)
        last = times.max(0).values.tolist()
        print(
            json.dumps(
                {
                    "torch_import_s": last[1] - times[:, 0].min().item(),
                    "package_import_s": (times[:, 2] - times[:, 1]).max().item(),
                    "init_s": last[3] - last[1],
                    "init_and_barrier_s": last[4] - last[1],
                }
            ),
            flush=True,
        )
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
