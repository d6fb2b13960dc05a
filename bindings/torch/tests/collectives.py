"""What torch.distributed promises of every call, against results worked out on each rank."""

import torch
import torch.distributed as dist

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTEGERS = [torch.int8, torch.uint8, torch.int32, torch.int64]
COMPLEX = [torch.complex64, torch.complex128]
SHAPES = [(), (0,), (1,), (7,), (33, 5), (1000, 3)]


def of_rank(rank, shape, dtype):
    """What rank `rank` contributes: small numbers, exact in every type."""
    n = torch.Size(shape).numel()
    values = (torch.arange(n) % 5 + rank + 1).to(torch.float64)
    if dtype.is_complex:
        values = torch.complex(values, -values)
    return values.reshape(shape).to(dtype)


def everyone(shape, dtype):
    return [of_rank(r, shape, dtype) for r in range(dist.get_world_size())]


def same(found, expected, what):
    assert found.shape == expected.shape and found.dtype == expected.dtype, f"{what}: {found.dtype} {found.shape}"
    assert torch.equal(found, expected), f"{what}: found {found.flatten()[:8]}, expected {expected.flatten()[:8]}"


def raises(call, *words):
    try:
        call()
    except (RuntimeError, ValueError, TypeError) as error:
        for word in words:
            assert word in str(error), f"says {error}, not {word!r}"
        return
    raise AssertionError("no error")


def check_all_reduce_of_every_type_operation_and_shape():
    reduced = {
        dist.ReduceOp.SUM: lambda all: torch.stack(all).sum(0, dtype=all[0].dtype),
        dist.ReduceOp.PRODUCT: lambda all: torch.stack(all).prod(0, dtype=all[0].dtype),
        dist.ReduceOp.MIN: lambda all: torch.stack(all).amin(0),
        dist.ReduceOp.MAX: lambda all: torch.stack(all).amax(0),
    }
    for shape in SHAPES:
        for dtype in FLOATS + INTEGERS + COMPLEX:
            for op, expected in reduced.items():
                if dtype.is_complex and op != dist.ReduceOp.SUM:
                    continue
                if dtype == torch.int8 and op == dist.ReduceOp.PRODUCT:
                    continue  # wraps, as torch's own does, but in another order of types
                tensor = of_rank(dist.get_rank(), shape, dtype)
                dist.all_reduce(tensor, op)
                same(tensor, expected(everyone(shape, dtype)), f"{op} of {dtype} {shape}")


def check_average_divides_and_premultiplied_sum_multiplies():
    n = dist.get_world_size()
    tensor = of_rank(dist.get_rank(), (100,), torch.float32)
    dist.all_reduce(tensor, dist.ReduceOp.AVG)
    same(tensor, torch.stack(everyone((100,), torch.float32)).sum(0) / n, "average")
    tensor = of_rank(dist.get_rank(), (100,), torch.float32)
    dist.all_reduce(tensor, dist._make_nccl_premul_sum(0.5))
    same(tensor, torch.stack(everyone((100,), torch.float32)).sum(0) * 0.5, "premultiplied")


def check_bitwise_operations_and_booleans():
    rank, n = dist.get_rank(), dist.get_world_size()
    for op, expected in ((dist.ReduceOp.BAND, 0), (dist.ReduceOp.BOR, 15), (dist.ReduceOp.BXOR, 15)):
        tensor = torch.tensor([1 << rank], dtype=torch.int32)
        dist.all_reduce(tensor, op)
        assert tensor.item() == expected & ((1 << n) - 1), op
    tensor = torch.tensor([rank == 0, False, True])
    dist.all_reduce(tensor)
    assert tensor.tolist() == [True, False, True], "the sum of Booleans is or"
    tensor = torch.tensor([rank == 0, True])
    dist.all_reduce(tensor, dist.ReduceOp.PRODUCT)
    assert tensor.tolist() == [False, True], "the product of Booleans is and"


def check_tensors_that_do_not_lie_in_one_piece():
    rank, n = dist.get_rank(), dist.get_world_size()
    total = n * (n + 1) // 2
    base = torch.zeros(6, 8)
    view = base.t()[::2]
    view.fill_(rank + 1)
    dist.all_reduce(view)
    assert torch.equal(view, torch.full_like(view, total)) and base[:, 1].sum() == 0, "only the view is written"
    outputs = [torch.zeros(4, 3).t() for _ in range(n)]
    dist.all_gather(outputs, torch.full((4, 3), float(rank)).t())
    assert [int(o[0, 0]) for o in outputs] == list(range(n))
    target = torch.zeros(3, 4).t()
    if rank == 0:
        target.copy_(torch.arange(12.0).reshape(4, 3))
    dist.broadcast(target, 0)
    assert torch.equal(target, torch.arange(12.0).reshape(4, 3))


def check_broadcast_and_reduce_from_and_to_every_rank():
    rank, n = dist.get_rank(), dist.get_world_size()
    for root in range(n):
        for dtype in FLOATS + INTEGERS + COMPLEX + [torch.bool, torch.int16]:
            tensor = of_rank(rank, (10,), dtype)
            dist.broadcast(tensor, root)
            same(tensor, of_rank(root, (10,), dtype), f"broadcast of {dtype}")
        tensor = of_rank(rank, (10,), torch.float32)
        dist.reduce(tensor, root)
        if rank == root:
            same(tensor, torch.stack(everyone((10,), torch.float32)).sum(0), "reduce")


def check_all_gather_in_all_its_forms():
    rank, n = dist.get_rank(), dist.get_world_size()
    for shape in SHAPES:
        outputs = [torch.zeros(shape) for _ in range(n)]
        dist.all_gather(outputs, of_rank(rank, shape, torch.float32))
        for r in range(n):
            same(outputs[r], of_rank(r, shape, torch.float32), f"all_gather {shape}")
    flat = torch.zeros(n * 6)
    dist.all_gather_into_tensor(flat, of_rank(rank, (6,), torch.float32))
    same(flat, torch.cat(everyone((6,), torch.float32)), "all_gather_into_tensor")
    uneven = [torch.zeros(r + 1) for r in range(n)]
    dist.all_gather(uneven, torch.full((rank + 1,), float(rank)))
    for r in range(n):
        same(uneven[r], torch.full((r + 1,), float(r)), "all_gather of different lengths")
    objects = [None] * n
    dist.all_gather_object(objects, {"rank": rank, "text": "x" * rank * 1000})
    assert objects == [{"rank": r, "text": "x" * r * 1000} for r in range(n)]


def check_reduce_scatter_in_all_its_forms():
    rank, n = dist.get_rank(), dist.get_world_size()
    output = torch.zeros(5)
    dist.reduce_scatter(output, [torch.full((5,), float(10 * r + rank)) for r in range(n)])
    same(output, torch.full((5,), float(10 * rank * n + n * (n - 1) // 2)), "reduce_scatter")
    output = torch.zeros(3, dtype=torch.bfloat16)
    dist.reduce_scatter_tensor(output, torch.arange(3 * n, dtype=torch.bfloat16))
    same(output, (torch.arange(3 * n)[3 * rank : 3 * rank + 3] * n).to(torch.bfloat16), "reduce_scatter_tensor")
    output = torch.zeros(rank + 2)
    dist.reduce_scatter(output, [torch.full((r + 2,), 1.0) for r in range(n)])
    same(output, torch.full((rank + 2,), float(n)), "reduce_scatter of different lengths")


def check_gather_and_scatter():
    rank, n = dist.get_rank(), dist.get_world_size()
    for root in range(n):
        outputs = [torch.zeros(4) for _ in range(n)] if rank == root else None
        dist.gather(torch.full((4,), float(rank)), outputs, dst=root)
        if rank == root:
            assert [int(o[0]) for o in outputs] == list(range(n))
        output = torch.zeros(4)
        dist.scatter(output, [torch.full((4,), float(r)) for r in range(n)] if rank == root else None, src=root)
        same(output, torch.full((4,), float(rank)), "scatter")


def check_all_to_all():
    rank, n = dist.get_rank(), dist.get_world_size()
    output = torch.zeros(n)
    dist.all_to_all_single(output, torch.arange(n, dtype=torch.float32) + 10 * rank)
    same(output, torch.tensor([10.0 * r + rank for r in range(n)]), "all_to_all_single")
    send = [rank + r + 1 for r in range(n)]
    output = torch.zeros(sum(send), 2)
    dist.all_to_all_single(output, torch.full((sum(send), 2), float(rank)), send, send)
    same(
        output,
        torch.cat([torch.full((send[r], 2), float(r)) for r in range(n)]),
        "all_to_all_single of different lengths",
    )
    outputs = [torch.zeros(rank + r + 1) for r in range(n)]
    dist.all_to_all(outputs, [torch.full((rank + r + 1,), float(rank)) for r in range(n)])
    for r in range(n):
        same(outputs[r], torch.full((rank + r + 1,), float(r)), "all_to_all")


def check_messages_between_two_ranks():
    rank, n = dist.get_rank(), dist.get_world_size()
    right, left = (rank + 1) % n, (rank - 1) % n
    requests = dist.batch_isend_irecv([
        dist.P2POp(dist.isend, torch.full((1000,), float(rank)), right),
        dist.P2POp(dist.irecv, received := torch.zeros(1000), left),
    ])
    for request in requests:
        request.wait()
    same(received, torch.full((1000,), float(left)), "batch_isend_irecv")
    if rank == 0:
        first, second = torch.zeros(2), torch.zeros(2)
        late = dist.irecv(second, src=1, tag=2)
        dist.recv(first, src=1, tag=1)
        late.wait()
        assert first[0] == 1 and second[0] == 2, "tags keep messages apart"
        sources = sorted(dist.recv(torch.zeros(1)) for _ in range(n - 1))
        assert sources == list(range(1, n)), "from any source"
    elif rank == 1:
        dist.send(torch.full((2,), 2.0), 0, tag=2)
        dist.send(torch.full((2,), 1.0), 0, tag=1)
    if rank > 0:
        dist.send(torch.zeros(1), 0)


def check_works_and_futures():
    rank, n = dist.get_rank(), dist.get_world_size()
    tensors = [torch.full((1000 * (i + 1),), float(rank + i)) for i in range(10)]
    works = [dist.all_reduce(t, async_op=True) for t in tensors]
    for i, work in enumerate(works):
        assert work.wait()
        assert work.is_completed() and work.is_success()
        assert tensors[i][0] == sum(r + i for r in range(n))
    seen = []
    tensor = torch.ones(3)
    future = dist.all_reduce(tensor, async_op=True).get_future().then(lambda f: seen.append(f.value()[0]))
    future.wait()
    assert torch.equal(seen[0], torch.full((3,), float(n)))


def check_groups_of_some_ranks():
    rank, n = dist.get_rank(), dist.get_world_size()
    halves = [dist.new_group([r for r in range(n) if r % 2 == half]) for half in (0, 1)]
    tensor = torch.tensor([rank])
    dist.all_reduce(tensor, group=halves[rank % 2])
    assert tensor.item() == sum(r for r in range(n) if r % 2 == rank % 2)
    again = dist.new_group(list(range(n)))
    dist.all_reduce(tensor.fill_(1), group=again)
    assert tensor.item() == n
    for group in [halves[rank % 2], again]:
        dist.destroy_process_group(group)


def check_wrong_calls_are_refused_before_anything_is_sent():
    n = dist.get_world_size()
    raises(lambda: dist.all_gather([torch.zeros(2)] * (n + 1), torch.zeros(2)), "ranks")
    raises(lambda: dist.all_gather_into_tensor(torch.zeros(2 * n + 1), torch.zeros(2)), "world_size times")
    raises(lambda: dist.reduce_scatter_tensor(torch.zeros(2), torch.zeros(2 * n + 1)), "world size")
    raises(lambda: dist.all_reduce(torch.zeros(2, dtype=torch.int16)), "invalid scalar type")
    raises(lambda: dist.all_reduce(torch.zeros(2, dtype=torch.complex64), dist.ReduceOp.MAX), "complex")
    raises(lambda: dist.all_reduce(torch.zeros(2), dist.ReduceOp.BAND), "integers")
    raises(lambda: dist.all_to_all_single(torch.zeros(n + 1), torch.zeros(n)), "divide")
    dist.barrier()
    tensor = torch.ones(1)
    dist.all_reduce(tensor)
    assert tensor.item() == n, "and the group still works"


def check_the_plan_can_be_asked_for():
    import longspan

    plan = longspan.explain(size=64 << 20)
    assert plan["algorithm"] and plan["bound_seconds"] > 0
    assert {link["name"] for link in longspan.links()} == {"eu -> us", "us -> eu"}


def check_bitwise_operations_in_reduce_scatter():
    rank, n = dist.get_rank(), dist.get_world_size()
    every = (1 << n) - 1
    for op, expected in ((dist.ReduceOp.BAND, 0), (dist.ReduceOp.BOR, every), (dist.ReduceOp.BXOR, every)):
        for dtype in (torch.int32, torch.uint8, torch.int16):
            output = torch.zeros(3, dtype=dtype)
            dist.reduce_scatter(output, [torch.full((3,), 1 << rank, dtype=dtype) for _ in range(n)], op)
            same(output, torch.full((3,), expected, dtype=dtype), f"reduce_scatter {op}")
            output = torch.zeros(rank + 1, dtype=dtype)
            dist.reduce_scatter(output, [torch.full((r + 1,), 1 << rank, dtype=dtype) for r in range(n)], op)
            same(output, torch.full((rank + 1,), expected, dtype=dtype), f"reduce_scatter of different lengths {op}")
            output = torch.zeros(2, 2, dtype=dtype)
            dist.reduce_scatter_tensor(output, torch.full((2 * n, 2), 1 << rank, dtype=dtype), op)
            same(output, torch.full((2, 2), expected, dtype=dtype), f"reduce_scatter_tensor {op}")
    view = torch.zeros(2, 3, dtype=torch.int32).t()
    dist.reduce_scatter(view, [torch.full((2, 3), r + 8, dtype=torch.int32).t() for r in range(n)], dist.ReduceOp.BAND)
    same(view, torch.full((3, 2), rank + 8, dtype=torch.int32), "reduce_scatter of views")
    tensor = torch.tensor([1 << rank], dtype=torch.int64)
    dist.reduce(tensor, 1, dist.ReduceOp.BOR)
    assert tensor.item() == (every if rank == 1 else 1 << rank), "reduce, bitwise"


def check_sparse_tensors_are_summed():
    rank, n = dist.get_rank(), dist.get_world_size()
    torch.sparse.check_sparse_tensor_invariants.enable()
    for dtype in (torch.float32, torch.float64, torch.int64):
        for dense in ((), (3,)):
            # Every rank has row 0 twice and a row of its own; rank 1 has none.
            rows = [] if rank == 1 else [0, rank, 0]
            values = torch.full((len(rows),) + dense, float(rank + 1)).to(dtype)
            tensor = torch.sparse_coo_tensor(torch.tensor([rows], dtype=torch.int64), values, (n + 1,) + dense)
            expected = torch.zeros((n + 1,) + dense, dtype=dtype)
            for r in [r for r in range(n) if r != 1]:
                expected[0] += 2 * (r + 1)
                expected[r] += r + 1
            work = dist.all_reduce(tensor, async_op=True)
            work.wait()
            same(tensor.to_dense(), expected, f"sparse sum of {dtype}")
            assert tensor.is_sparse and work.result()[0] is tensor
    empty = torch.sparse_coo_tensor(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0), (4, 4))
    dist.all_reduce(empty)
    assert empty._nnz() == 0 and empty.shape == (4, 4)
    raises(lambda: dist.all_reduce(empty, dist.ReduceOp.MAX), "only works with ReduceOp.SUM")
    raises(lambda: dist.all_reduce(torch.zeros(3 + (rank == 2)).to_sparse()), "differ")
    raises(lambda: dist.broadcast(empty, 0), "")


def check_wrong_arguments_are_refused_as_torch_does():
    rank, n = dist.get_rank(), dist.get_world_size()
    one, two = torch.zeros(2), torch.zeros(3)
    half = torch.zeros(2, dtype=torch.float16)
    raises(lambda: dist.all_gather([half] * n, one), "type")
    raises(lambda: dist.all_gather([two] * n, one), "elements")
    raises(lambda: dist.all_gather([one] * (n - 1), one), "ranks")
    raises(lambda: dist.all_gather_into_tensor(torch.zeros(2 * n, dtype=torch.float64), one), "type")
    raises(lambda: dist.reduce_scatter(one, [half] * n), "type")
    raises(lambda: dist.reduce_scatter(one, [two] * n), "elements")
    raises(lambda: dist.reduce_scatter_tensor(one, torch.zeros(2 * n, dtype=torch.int32)), "type")
    raises(lambda: dist.all_to_all([one] * n, [one] * (n + 1)), "ranks")
    raises(lambda: dist.all_to_all([half] * n, [one] * n), "type")
    raises(lambda: dist.all_to_all_single(torch.zeros(n), torch.zeros(n), [1] * n, [2] * n), "split")
    raises(lambda: dist.all_to_all_single(torch.zeros(n), torch.zeros(n), [1] * (n - 1), [1] * n), "splits")
    raises(
        lambda: dist.all_to_all_single(torch.zeros(n), torch.zeros(n), [-1, n + 1] + [0] * (n - 2), [1] * n), "negative"
    )
    if rank == 0 and dist.get_debug_level() != dist.DebugLevel.DETAIL:  # which compares with what the others call
        raises(lambda: dist.gather(one, [two] * n), "elements")
        raises(lambda: dist.gather(one, [one] * n, dst=1), "")
        raises(lambda: dist.scatter(one, [half] * n, src=0), "type")
        raises(lambda: dist.scatter(one, [one] * (n + 1), src=0), "ranks")
    for root in (-1, n, 99):
        raises(lambda: dist.group.WORLD.broadcast(one, root), "root")
        raises(lambda: dist.group.WORLD.reduce(one, root), "root")
    raises(lambda: dist.broadcast(one, n), "")
    raises(lambda: dist.send(one, rank), "")
    raises(lambda: dist.send(one, (rank + 1) % n, tag=-1), "nonnegative")
    raises(lambda: dist.group.WORLD.allreduce([one, two]), "one tensor")
    raises(lambda: dist.group.WORLD.allreduce([]), "")
    raises(lambda: dist.all_reduce("not a tensor"), "")
    raises(lambda: dist.all_reduce(torch.zeros(2, dtype=torch.bool), dist.ReduceOp.AVG), "Boolean")
    dist.all_reduce(one)
    dist.barrier()


def check_tensors_of_no_elements_and_of_no_dimensions_pass_every_call():
    rank, n = dist.get_rank(), dist.get_world_size()
    for shape in ((0,), (3, 0), ()):
        tensor = torch.full(shape, float(rank))
        dist.broadcast(tensor, n - 1)
        same(tensor, torch.full(shape, float(n - 1)), "broadcast")
        dist.reduce(tensor, 0)
        outputs = [torch.zeros(shape) for _ in range(n)]
        dist.gather(torch.full(shape, float(rank)), outputs if rank == 1 else None, dst=1)
        dist.scatter(tensor, outputs if rank == 1 else None, src=1)
        same(tensor, torch.full(shape, float(rank)), "scatter")
        dist.reduce_scatter(tensor, [torch.ones(shape) for _ in range(n)])
        same(tensor, torch.full(shape, float(n)), "reduce_scatter")
        dist.all_to_all(outputs, [torch.full(shape, float(rank)) for _ in range(n)])
        for r in range(n):
            same(outputs[r], torch.full(shape, float(r)), "all_to_all")
        if rank < 2:
            dist.send(tensor, 1) if rank == 0 else dist.recv(tensor, 0)
    counts = [0] * n
    dist.all_to_all_single(torch.zeros(0, 2), torch.zeros(0, 2), counts, counts)
