"""What torch.distributed promises of groups: barriers that name who is missing, timeouts, abort, errors, options.

What ends a group is done to a group made for it: the world that runs the checks goes on.
"""

import contextlib
import copy
import os
import threading
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from collectives import raises
from late import tell, wait_for_others
from torch.distributed import distributed_c10d as c10d


@contextlib.contextmanager
def group_of_all(**settings):
    """A group of all ranks of its own, left together."""
    group = dist.new_group(list(range(dist.get_world_size())), **settings)
    yield group
    dist.destroy_process_group(group)
    dist.barrier()


def backend_of(group):
    backend = group._get_backend(torch.device("cpu"))
    while hasattr(backend, "wrapped_pg"):  # TORCH_DISTRIBUTED_DEBUG=DETAIL
        backend = backend.wrapped_pg
    return backend


def failing(call, seconds, *words):
    """The error that `call` raises, within `seconds`."""
    start = time.monotonic()
    try:
        call()
    except dist.DistBackendError as error:
        assert time.monotonic() - start < seconds, f"after {time.monotonic() - start:.1f} s: {error}"
        for word in words:
            assert word in str(error), f"says {error}, not {word!r}"
        return str(error)
    raise AssertionError("no error")


def check_monitored_barrier_lets_all_pass_and_names_who_is_missing():
    rank, n = dist.get_rank(), dist.get_world_size()
    for _ in range(3):
        dist.monitored_barrier(timeout=timedelta(seconds=30))
    with group_of_all() as group:
        absences = (
            (False, {1}, "Rank 1 failed"),
            (True, {1, 2}, "Ranks 1, 2 failed"),
            (False, {1, 2}, "Rank 1 failed"),
        )
        for wait_all, absent, names in absences:
            if rank not in absent:
                who = "[Rank 0]" if rank == 0 else f"Rank {rank} successfully reached monitoredBarrier"
                raises(
                    lambda: dist.monitored_barrier(group, timedelta(milliseconds=300), wait_all), names, who, "300 ms"
                )
            dist.barrier()
        if rank > 0:
            raises(lambda: dist.monitored_barrier(group, timedelta(milliseconds=200)), "rank 0")
        dist.barrier()
        tensor = torch.ones(2)
        dist.all_reduce(tensor, group=group)
        assert tensor[0] == n, "the group still works"
    raises(lambda: dist.monitored_barrier(group="not a group"), "")


def check_the_timeout_of_a_running_group_can_be_set():
    rank = dist.get_rank()
    for set_timeout in (c10d._set_pg_timeout, lambda timeout, group: group.set_timeout(timeout)):
        with group_of_all(timeout=timedelta(seconds=100)) as group:
            dist.all_reduce(torch.ones(1), group=group)
            set_timeout(timedelta(seconds=1), group)
            assert backend_of(group).options._timeout == timedelta(seconds=1)
            if rank > 0:
                failing(lambda: dist.all_reduce(torch.ones(1), group=group), 5, "did not finish", "rank 0")
            dist.barrier()


def check_a_group_has_the_timeout_it_was_made_with():
    with group_of_all(timeout=timedelta(seconds=1)) as group:
        assert backend_of(group).options._timeout == timedelta(seconds=1)
        if dist.get_rank() > 0:
            failing(lambda: dist.broadcast(torch.ones(1), 0, group=group), 5, "did not finish")
        dist.barrier()


def check_the_timeout_of_the_environment_holds_where_the_program_gives_none():
    os.environ["LONGSPAN_TIMEOUT"] = "1s"
    try:
        with group_of_all() as group:
            assert backend_of(group).options._timeout == timedelta(seconds=1)
            if dist.get_rank() > 0:
                failing(lambda: dist.broadcast(torch.ones(1), 0, group=group), 5, "did not finish")
            dist.barrier()
        with group_of_all(timeout=timedelta(seconds=70)) as group:
            assert backend_of(group).options._timeout == timedelta(seconds=70)
        os.environ["LONGSPAN_TIMEOUT"] = "soon"
        raises(dist.new_group, "LONGSPAN_TIMEOUT", "soon")
    finally:
        del os.environ["LONGSPAN_TIMEOUT"]
    with group_of_all() as group:
        assert backend_of(group).options._timeout == c10d.default_pg_timeout


def check_a_call_can_have_a_timeout_of_its_own():
    with group_of_all() as group:
        options = dist.AllreduceOptions()
        options.timeout = timedelta(seconds=30)
        group.allreduce([torch.ones(1)], options).wait()
        options.timeout = timedelta(seconds=1)
        if dist.get_rank() > 0:
            failing(lambda: group.allreduce([torch.ones(1)], options).wait(), 5, "did not finish")
        dist.barrier()


def check_wait_gives_up_after_its_timeout_and_the_operation_goes_on():
    rank, n = dist.get_rank(), dist.get_world_size()
    tensor = torch.ones(5)
    if rank == 0:
        wait_for_others("waits give up")
    work = dist.all_reduce(tensor, async_op=True)
    if rank > 0:
        failing(lambda: work.wait(timedelta(milliseconds=100)), 5, "Timed out", "100ms")
        tell("waits give up")
    work.wait(timedelta(seconds=30))
    work.wait()
    assert tensor[0] == n and work.is_completed()


def check_works_tell_how_they_ended():
    rank, n = dist.get_rank(), dist.get_world_size()
    tensor = torch.ones(1000)
    work = dist.all_reduce(tensor, async_op=True)
    ended = work.get_future_result()
    assert ended.wait() == 0, "WorkResult.SUCCESS"
    assert work.get_future().wait()[0] is work.result()[0] and work.result()[0][0] == n
    assert work.exception() is None and work.is_completed() and work._get_duration() > 0
    assert work.boxed() is not None and type(work).unbox(work.boxed()) is not None
    with group_of_all() as group:
        if rank > 0:
            options = dist.AllreduceOptions()
            options.timeout = timedelta(milliseconds=500)
            work = group.allreduce([torch.ones(1)], options)
            assert work.get_future_result().wait() != 0
            assert work.is_completed() and "did not finish" in str(work.exception())
            raises(lambda: work.get_future().wait(), "did not finish")
        dist.barrier()


def check_the_sequence_number_counts_collectives():
    with group_of_all() as group:
        backend = backend_of(group)
        before = backend._get_sequence_number_for_group()
        dist.all_reduce(torch.ones(1), group=group)
        if dist.get_rank() < 2:  # messages between some ranks do not count: they are not everyone's
            if dist.get_rank() == 0:
                dist.send(torch.ones(1), 1, group=group)
            else:
                dist.recv(torch.ones(1), 0, group=group)
        raises(lambda: dist.all_reduce(torch.ones(1, dtype=torch.int16), group=group), "")
        dist.barrier(group)
        assert backend._get_sequence_number_for_group() == before + 2


def check_abort_ends_what_runs_promptly_on_all_ranks():
    with group_of_all() as group:
        dist.barrier(group)
        assert backend_of(group).get_error() == torch._C._distributed_c10d.ErrorType.SUCCESS
        if dist.get_rank() == 0:
            threading.Timer(0.3, lambda: backend_of(group).abort()).start()
        # Rank 0 waits itself, in another thread than the one that aborts; nobody sends what is received here.
        failing(lambda: dist.recv(torch.ones(1), (dist.get_rank() + 1) % 4, group=group), 3, "abort")
        assert backend_of(group).get_error() == torch._C._distributed_c10d.ErrorType.COMM_ERROR
        failing(lambda: dist.all_reduce(torch.ones(1), group=group), 1, "abort")


def check_a_shut_down_group_refuses_calls():
    with group_of_all() as group:
        dist.barrier(group)
        pending = dist.irecv(torch.ones(1), (dist.get_rank() + 1) % 4, group=group)
        backend_of(group).shutdown()
        failing(pending.wait, 3)
        failing(lambda: dist.all_reduce(torch.ones(1), group=group), 1, "shut down")


def check_ranks_that_disagree_are_told_so():
    rank = dist.get_rank()
    differing = {
        "count": lambda group: dist.all_reduce(torch.ones(2 if rank == 1 else 3), group=group),
        "type": lambda group: dist.all_reduce(
            torch.ones(4, dtype=torch.float64 if rank == 1 else torch.float32), group=group
        ),
        "operation": lambda group: dist.all_reduce(
            torch.ones(4), dist.ReduceOp.MAX if rank == 1 else dist.ReduceOp.SUM, group=group
        ),
        "collective": lambda group: (
            dist.broadcast(torch.ones(4), 0, group=group) if rank == 1 else dist.all_reduce(torch.ones(4), group=group)
        ),
        "root": lambda group: dist.broadcast(torch.ones(4), 1 if rank == 1 else 0, group=group),
    }
    for name, call in differing.items():
        with group_of_all() as group:

            def disagree():
                call(group)
                # A rank may be through before another one sees the difference; the group has ended then, for all.
                until = time.monotonic() + 5
                while time.monotonic() < until:
                    dist.barrier(group)
                raise AssertionError(f"nobody noticed that the ranks disagree about the {name}")

            failing(disagree, 5, "mismatch")


def check_names_and_options():
    import longspan

    with group_of_all(pg_options=longspan.Options(algorithm="ring"), group_desc="for a check") as group:
        backend = backend_of(group)
        assert type(backend).__name__ == "ProcessGroupLongspan" and backend.name() == "longspan"
        assert group.group_name and group.group_desc == "for a check"
        assert backend.options.algorithm == "ring" and backend.options.group_name == group.group_name
        assert backend.options.global_ranks_in_group == list(range(4))
        other = copy.deepcopy(backend.options)
        other.algorithm = "direct"
        other._timeout = timedelta(seconds=7)
        assert backend.options.algorithm == "ring" and backend.options._timeout != timedelta(seconds=7)
        assert copy.copy(other).algorithm == "direct" and other._timeout == timedelta(seconds=7)
        assert backend.supports_splitting and backend.supports_coalescing and not backend.supports_shrinking
    raises(lambda: longspan.Options(colour="red"), "colour")


def check_groups_are_split_by_their_members_alone():
    rank = dist.get_rank()
    world = dist.group.WORLD
    with group_of_all() as parent:
        ranks = [0, 3] if rank in (0, 3) else [1, 2]
        options = copy.deepcopy(backend_of(parent).options)
        part = parent.split_group(
            ranks, timeout=timedelta(seconds=50), opts=options, group_name=f"split-{ranks}", group_desc="half"
        )
        assert part.size() == 2 and part.rank() == ranks.index(rank) and part.group_desc == "half"
        tensor = torch.tensor([rank])
        part.allreduce([tensor]).wait()
        assert tensor.item() == 3
        assert backend_of(part).options._timeout == timedelta(seconds=50) != backend_of(parent).options._timeout
        part.shutdown()
        # What torch calls on ranks outside a new group, and on all when there is a device.
        backend_of(parent).perform_nocolor_split(torch.device("cpu"))
        backend_of(world).eager_connect_single_device(torch.device("cpu"))


def check_groups_can_be_merged():
    rank = dist.get_rank()
    halves = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    store = dist.PrefixStore("merge", c10d._get_default_store())
    merged = halves[rank // 2].merge_remote_group(store, 4, timedelta(seconds=60), "merged", "two halves")
    assert merged.size() == 4 and merged.group_desc == "two halves"
    tensor = torch.tensor([rank])
    merged.allreduce([tensor]).wait()
    assert tensor.item() == 6
    merged.shutdown()
    dist.destroy_process_group(halves[rank // 2])
    dist.barrier()
