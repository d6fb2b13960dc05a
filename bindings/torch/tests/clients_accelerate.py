"""Hugging Face Accelerate. It knows no other process groups for the host than its own list; one that is there already
it takes."""

import os

import clients
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def accelerator():
    os.environ.update(
        RANK=str(dist.get_rank()),
        WORLD_SIZE=str(dist.get_world_size()),
        LOCAL_RANK=str(dist.get_rank() % 2),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT="0",
    )  # it wants to know them, and does not use them
    made = Accelerator(cpu=True)
    assert made.num_processes == dist.get_world_size() and made.process_index == dist.get_rank()
    assert dist.get_backend() == "longspan", "still the group that was there"
    return made


def check_prepare_trains_as_one_process():
    made = accelerator()
    net = clients.model()
    wrapped, optimizer = made.prepare(net, torch.optim.SGD(net.parameters(), lr=0.1))
    for x, y in clients.batches(dist.get_rank()):
        optimizer.zero_grad()
        made.backward(nn.functional.mse_loss(wrapped(x), y))
        optimizer.step()
    clients.close(made.unwrap_model(wrapped).state_dict(), clients.reference())


def check_a_prepared_loader_deals_out_and_gather_brings_back():
    made = accelerator()
    loader = made.prepare(DataLoader(TensorDataset(torch.arange(32.0)), batch_size=2))
    seen = [made.gather_for_metrics(x) for (x,) in loader]
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(32.0))
    assert made.reduce(torch.ones(3), "sum").tolist() == [dist.get_world_size()] * 3
    made.wait_for_everyone()
