"""Runs checks on 4 ranks: python run.py [--needs PACKAGE] MODULE... ; a check is a function `check_*` of the module,
called on every rank.

Every rank runs every check, in the same order, in one process group. A check that fails on some rank ends the run, with
what it said on which rank: the others may be inside a collective with it. Exit code 77: torch, the process group or
PACKAGE is missing.
"""

import importlib
import importlib.util
import os
import sys
import time
import traceback
import warnings

RANKS = 4
TOPOLOGY = """
version = 1
[[host]]
name = "a"
region = "eu"
[[host]]
name = "b"
region = "us"
[[wan]]
from = "eu"
to = "us"
bandwidth = "10 Gbit/s"
latency = "100 us"
"""


def worker(rank, port, modules, results):
    os.environ["LONGSPAN_HOST"] = "a" if rank < RANKS // 2 else "b"  # two regions, on the loopback
    import torch
    import torch.distributed as dist

    import longspan

    warnings.simplefilter("ignore", FutureWarning)  # names of calls that torch is about to change
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    name = "starting"
    try:
        dist.init_process_group(
            "longspan", store=store, rank=rank, world_size=RANKS, pg_options=longspan.Options(topology_text=TOPOLOGY)
        )
        for module_name in modules:
            module = importlib.import_module(module_name)
            for name in [n for n in vars(module) if n.startswith("check_")]:
                start = time.monotonic()
                getattr(module, name)()
                if rank == 0:
                    print(f"ok    {module_name}.{name} ({time.monotonic() - start:.2f} s)", flush=True)
        name = "leaving"
        dist.destroy_process_group()
        results.put((rank, None))
    except BaseException:  # whatever it is, the parent must hear of it
        results.put((rank, f"{name} on rank {rank}:\n{traceback.format_exc()}"))
        results.close()
        results.join_thread()
        os._exit(1)


def main(modules):
    try:
        import torch.multiprocessing as multiprocessing
        from torch.distributed import TCPStore

        import longspan  # noqa: F401
    except ImportError as missing:
        print(f"SKIP: torch is not installed, or the process group not built: {missing}")
        return 77
    if modules[0] == "--needs":
        package, modules = modules[1], modules[2:]
        if importlib.util.find_spec(package) is None:
            print(f"SKIP: {package} is not installed: pip install {package}")
            return 77
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=worker, args=(rank, store.port, modules, results), daemon=True) for rank in range(RANKS)
    ]
    for process in processes:
        process.start()
    deadline = time.monotonic() + float(os.environ.get("TEST_SECONDS", "240"))
    failed = None
    for _ in processes:
        try:
            _, failed = results.get(timeout=max(0.1, deadline - time.monotonic()))
        except Exception:
            failed = "not all ranks ended in time"
        if failed:
            break
    for process in processes:
        if failed:
            process.kill()
        process.join(10)
    print(f"FAILED {failed}" if failed else f"all checks passed on {RANKS} ranks")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.exit(main(sys.argv[1:]))
