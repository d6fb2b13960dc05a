"""What runs beside what: collectives beside each other and beside Python, without the caller's help."""

import threading
import time

import torch
import torch.distributed as dist
from late import tell, wait_for_others

LARGE = 16 << 20  # bytes: some milliseconds at least


class Counter:
    """A Python thread that counts while it gets the interpreter, and tells when it has come to 20."""

    def __init__(self, name=None):
        self._name = name

    def __enter__(self):
        self.count, self._on = 0, True
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self):
        while self._on:
            self.count += 1
            if self.count == 20 and self._name is not None:
                tell(self._name)
            time.sleep(0.001)

    def __exit__(self, *_):
        self._on = False
        self._thread.join()


def check_several_collectives_are_in_flight_at_once():
    rank, n = dist.get_rank(), dist.get_world_size()
    tensors = [torch.full((1000 + i,), float(rank + i)) for i in range(20)]
    if rank == 0:
        wait_for_others("several in flight")  # without this rank none of the others' can end
    works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
    if rank > 0:
        assert not any(work.is_completed() for work in works), "a call returns before the operation is over"
        tell("several in flight")
    for work in reversed(works):
        work.wait()
    for i, tensor in enumerate(tensors):
        assert tensor[-1] == sum(r + i for r in range(n))


def check_a_collective_ends_without_the_callers_help():
    rank, n = dist.get_rank(), dist.get_world_size()
    tensor = torch.ones(LARGE // 4)
    ended = threading.Event()
    work = dist.all_reduce(tensor, async_op=True)
    work.get_future().then(lambda _: ended.set())
    # This thread does nothing of longspan's meanwhile: is_completed() only looks at a flag.
    deadline = time.monotonic() + 30
    while not work.is_completed():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert tensor[0] == n and tensor[-1] == n, "results are there when it says so"
    assert ended.wait(30), "and so are callbacks"
    del work
    for _ in range(20):  # dropped works: nobody waits at all
        dist.all_reduce(torch.ones(100), async_op=True)
    dist.barrier()


def check_callbacks_run_in_threads_of_their_own():
    seen = []
    tensor = torch.ones(LARGE // 4)
    future = dist.all_reduce(tensor, async_op=True).get_future().then(lambda _: seen.append(threading.get_ident()))
    while not future.done():
        time.sleep(0.001)
    assert seen and seen[0] != threading.get_ident()


def check_a_callback_may_start_and_await_a_collective():
    n = dist.get_world_size()
    # In the order in which the first ones end, which is not the same on all ranks: one at a time here.
    for _ in range(5):
        def again(_):
            second = torch.ones(10)
            dist.all_reduce(second)
            return second

        future = dist.all_reduce(torch.ones(10), async_op=True).get_future().then(again)
        assert future.wait()[0] == n


def check_python_runs_while_a_thread_waits():
    rank = dist.get_rank()
    calls = (
        lambda: dist.all_reduce(torch.ones(10)),
        lambda: dist.all_reduce(torch.ones(10), async_op=True).wait(),
        lambda: dist.all_reduce(torch.ones(10), async_op=True).get_future().wait(),
        lambda: dist.barrier(),
        lambda: dist.all_reduce(torch.ones(10).to_sparse()),
        lambda: dist.monitored_barrier(),
        lambda: dist.new_group(list(range(dist.get_world_size()))),
    )
    for number, call in enumerate(calls):
        dist.barrier()
        if rank == 0:
            wait_for_others(f"python runs {number}")  # none of their calls can end before they have counted
            call()
            continue
        with Counter(f"python runs {number}"):
            call()
    dist.barrier()


def check_python_runs_while_a_group_is_destroyed():
    """The last reference goes while a callback still runs: destroying waits for it, and it needs the interpreter."""
    group = dist.new_group(list(range(dist.get_world_size())))
    turns = []

    def slow(_):
        for _ in range(50):
            turns.append(time.sleep(0.002))

    dist.all_reduce(torch.ones(10), group=group, async_op=True).get_future().then(slow)
    dist.all_reduce(torch.ones(LARGE // 4), group=group, async_op=True).get_future().then(slow)
    dist.barrier(group)
    with Counter() as counter:
        dist.destroy_process_group(group)
        del group
    assert counter.count >= 1
    dist.barrier()
    while len(turns) < 100:
        time.sleep(0.001)


def check_threads_use_groups_of_their_own_at_once():
    rank, n = dist.get_rank(), dist.get_world_size()
    groups = [dist.new_group(list(range(n))) for _ in range(4)]
    failures = []

    def use(group, seed):
        try:
            for i in range(50):
                tensor = torch.full((seed * 100 + 1,), float(rank * i))
                dist.all_reduce(tensor, group=group)
                assert tensor[0] == i * n * (n - 1) / 2
        except Exception as error:  # told to the thread that checks
            failures.append(error)

    threads = [threading.Thread(target=use, args=(group, seed)) for seed, group in enumerate(groups)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    for group in groups:
        dist.destroy_process_group(group)


def check_computing_and_communicating_take_less_than_their_sum():
    """With nothing to share: the other ranks sleep, as a GPU's host would."""
    tensor = torch.ones(LARGE)
    dist.all_reduce(tensor)
    dist.barrier()
    start = time.monotonic()
    dist.all_reduce(tensor)
    alone = time.monotonic() - start
    dist.barrier()
    start = time.monotonic()
    work = dist.all_reduce(tensor, async_op=True)
    time.sleep(2 * alone)
    work.wait()
    together = time.monotonic() - start
    assert together < 2.8 * alone + 0.05, f"{alone:.3f} s alone, {together:.3f} s beside a pause of {2 * alone:.3f} s"
