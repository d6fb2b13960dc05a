"""What people run on torch.distributed, each for a few steps, compared with the same model in one process."""

import copy

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

STEPS = 4


def model():
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))


def batches(rank):
    generator = torch.Generator().manual_seed(100 + rank)
    return [(torch.randn(8, 16, generator=generator), torch.randn(8, 4, generator=generator)) for _ in range(STEPS)]


def reference():
    """The parameters after training on everybody's batches at once."""
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    everybody = [batches(r) for r in range(dist.get_world_size())]
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = sum(nn.functional.mse_loss(net(b[step][0]), b[step][1]) for b in everybody) / len(everybody)
        loss.backward()
        optimizer.step()
    return net.state_dict()


def train(net, wrapped, parameters):
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for x, y in batches(dist.get_rank()):
        optimizer.zero_grad()
        nn.functional.mse_loss(wrapped(x), y).backward()
        optimizer.step()
    return net


def close(found, expected, tolerance=1e-5):
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=tolerance), f"{name}: off by {(found[name] - value).abs().max()}"


def check_ddp_trains_as_one_process():
    net = model()
    wrapped = DistributedDataParallel(net, bucket_cap_mb=0.005)  # several buckets, so that they overlap
    close(train(net, wrapped, net.parameters()).state_dict(), reference())


def check_ddp_with_bf16_compression_and_power_sgd():
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

    net = model()
    wrapped = DistributedDataParallel(net)
    # DDP lets a hook of that name run on CUDA only, whatever the process group; under another name it may.
    wrapped.register_comm_hook(None, lambda state, bucket: default_hooks.bf16_compress_hook(state, bucket))
    close(train(net, wrapped, net.parameters()).state_dict(), reference(), tolerance=1e-2)
    net = model()
    wrapped = DistributedDataParallel(net)
    wrapped.register_comm_hook(
        powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=4, start_powerSGD_iter=2),
        powerSGD_hook.powerSGD_hook,
    )
    close(train(net, wrapped, net.parameters()).state_dict(), reference(), tolerance=0.1)


def full_state(net):
    return {
        name: value.full_tensor() if hasattr(value, "full_tensor") else value
        for name, value in net.state_dict().items()
    }


def check_fsdp2_trains_as_one_process():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    net = model()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in net:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)
    close(full_state(train(net, net, net.parameters())), reference())


def check_hsdp_shards_inside_the_region_and_replicates_across():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    net = model()
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("replicate", "shard"))
    fully_shard(net, mesh=mesh)
    close(full_state(train(net, net, net.parameters())), reference())


def check_tensor_parallel_gives_what_one_process_gives():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    net, alone = model(), model()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    parallelize_module(net, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    x = torch.ones(8, 16)
    assert torch.allclose(net(x), alone(x), atol=1e-5)


def check_differentiable_collectives():
    import torch.distributed.nn.functional as functional

    x = torch.full((3,), float(dist.get_rank() + 1), requires_grad=True)
    total = functional.all_reduce(x)
    total.sum().backward()
    assert torch.equal(x.grad, torch.full((3,), float(dist.get_world_size())))


def check_object_collectives():
    rank, n = dist.get_rank(), dist.get_world_size()
    objects = [{"from": rank}] if rank == 1 else [None]
    dist.broadcast_object_list(objects, src=1)
    assert objects == [{"from": 1}]
    gathered = [None] * n if rank == 0 else None
    dist.gather_object(rank, gathered, dst=0)
    assert rank != 0 or gathered == list(range(n))
    mine = [None]
    dist.scatter_object_list(mine, [f"for {r}" for r in range(n)] if rank == 0 else None, src=0)
    assert mine == [f"for {rank}"]


def check_distributed_checkpoint_saves_and_loads():
    import tempfile

    import torch.distributed.checkpoint as checkpoint
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    folder = [tempfile.mkdtemp()] if dist.get_rank() == 0 else [None]
    dist.broadcast_object_list(folder, src=0)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    saved, loaded = model(), copy.deepcopy(model())
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    fully_shard(saved, mesh=mesh)
    fully_shard(loaded, mesh=mesh)
    checkpoint.save(saved.state_dict(), checkpoint_id=folder[0])
    state = loaded.state_dict()
    checkpoint.load(state, checkpoint_id=folder[0])
    loaded.load_state_dict(state)
    close(full_state(loaded), full_state(saved), tolerance=0)
