"""What a call costs: python cost.py [BACKEND...]; two ranks of this host, blocking and asynchronous all_reduce of small
tensors.

For each size: time of a blocking call in a chain of them, and, of an asynchronous one, the time until it returns and
the time until wait() has returned. Medians over the calls of rank 0, in microseconds.
"""

import os
import statistics
import sys
import time

SIZES = [4, 4096, 65536]
CALLS = 2000


def measure(dist, torch, size):
    tensor = torch.ones(size // 4)
    blocking, returned, waited = [], [], []
    for i in range(CALLS + 200):
        tensor.fill_(1)
        start = time.perf_counter()
        dist.all_reduce(tensor)
        if i >= 200:
            blocking.append(time.perf_counter() - start)
    for i in range(CALLS + 200):
        tensor.fill_(1)
        start = time.perf_counter()
        work = dist.all_reduce(tensor, async_op=True)
        back = time.perf_counter()
        work.wait()
        if i >= 200:
            returned.append(back - start)
            waited.append(time.perf_counter() - start)
    return [statistics.median(each) * 1e6 for each in (blocking, returned, waited)]


def worker(rank, port, backend):
    import torch
    import torch.distributed as dist

    if backend == "longspan":
        import longspan  # noqa: F401
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    os.environ.setdefault("LONGSPAN_LOG", "error")
    dist.init_process_group(backend, store=store, rank=rank, world_size=2)
    for size in SIZES:
        found = measure(dist, torch, size)
        if rank == 0:
            blocking, returned, waited = found
            print(
                f"{backend:9} {size:7} bytes: blocking {blocking:7.1f} us, asynchronous: returns in {returned:6.1f} "
                f"us, "
                f"over in {waited:7.1f} us",
                flush=True,
            )
    dist.barrier()
    dist.destroy_process_group()


def main(backends):
    import torch.multiprocessing as multiprocessing
    from torch.distributed import TCPStore

    context = multiprocessing.get_context("spawn")
    for backend in backends or ["longspan", "gloo"]:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        processes = [context.Process(target=worker, args=(rank, store.port, backend), daemon=True) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()


if __name__ == "__main__":
    main(sys.argv[1:])
