"""Pipelines over the ranks of two regions, and checkpoints that are written while training goes on."""

import tempfile

import clients
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as checkpoint
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe, ScheduleInterleaved1F1B

MICROBATCHES, WIDTH = 4, 16


def layers(count):
    torch.manual_seed(3)
    return [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(count)]


def batch():
    generator = torch.Generator().manual_seed(5)
    return torch.randn(8, WIDTH, generator=generator), torch.randn(8, WIDTH, generator=generator)


def expected(count):
    """Gradients of each layer and the loss of each microbatch, in one process."""
    whole = layers(count)
    x, y = batch()
    losses = []
    for part_x, part_y in zip(x.chunk(MICROBATCHES), y.chunk(MICROBATCHES)):
        losses.append(nn.functional.mse_loss(nn.Sequential(*whole)(part_x), part_y))
        (losses[-1] / MICROBATCHES).backward()  # what a schedule scales gradients by
    return [[p.grad for p in layer.parameters()] for layer in whole], torch.stack(losses).detach()


def run(schedule_of, stages_a_rank):
    rank, ranks = dist.get_rank(), dist.get_world_size()
    count = ranks * stages_a_rank
    gradients, losses = expected(count)
    mine = {index: layers(count)[index] for index in range(rank, count, ranks)}
    stages = [PipelineStage(layer, index, count, torch.device("cpu")) for index, layer in mine.items()]
    schedule = schedule_of(stages)
    x, y = batch()
    found = []
    # The first stage is on rank 0, the last on the last rank: between ranks 1 and 2, activations cross the WAN.
    arguments = (x,) if rank == 0 else ()
    if rank == ranks - 1:
        schedule.step(*arguments, target=y, losses=found)
        assert torch.allclose(torch.stack(found).detach(), losses, atol=1e-6), f"{found}, not {losses}"
    else:
        schedule.step(*arguments)
    for index, layer in mine.items():
        for parameter, gradient in zip(layer.parameters(), gradients[index]):
            assert torch.allclose(parameter.grad, gradient, atol=1e-6), (
                f"stage {index}: off by {(parameter.grad - gradient).abs().max()}"
            )


def check_gpipe_gives_the_gradients_of_one_process():
    run(lambda stages: ScheduleGPipe(stages[0], MICROBATCHES, loss_fn=nn.functional.mse_loss), 1)


def check_1f1b_gives_the_gradients_of_one_process():
    run(lambda stages: Schedule1F1B(stages[0], MICROBATCHES, loss_fn=nn.functional.mse_loss), 1)


def check_interleaved_1f1b_gives_the_gradients_of_one_process():
    run(lambda stages: ScheduleInterleaved1F1B(stages, MICROBATCHES, loss_fn=nn.functional.mse_loss), 2)


def check_an_asynchronous_checkpoint_holds_the_state_of_its_call():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    folder = [tempfile.mkdtemp()] if dist.get_rank() == 0 else [None]
    dist.broadcast_object_list(folder, src=0)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    net = clients.model()
    fully_shard(net, mesh=mesh)
    before = {name: value.clone() for name, value in clients.full_state(net).items()}
    # A group of its own: what it says to other ranks must not come between the collectives of training.
    saving = checkpoint.async_save(net.state_dict(), checkpoint_id=folder[0], process_group=dist.new_group())
    clients.train(net, net, net.parameters())  # goes on meanwhile, with collectives of its own
    saving.result(timeout=60)
    assert any(not torch.equal(value, before[name]) for name, value in clients.full_state(net).items()), (
        "training changed nothing"
    )
    state = net.state_dict()
    checkpoint.load(state, checkpoint_id=folder[0])
    net.load_state_dict(state)
    clients.close(clients.full_state(net), before, tolerance=0)
