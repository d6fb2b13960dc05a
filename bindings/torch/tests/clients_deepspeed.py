"""DeepSpeed on the host: ZeRO over the process group that is there already."""

import os

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import clients  # noqa: E402
import deepspeed  # noqa: E402
import deepspeed.comm.torch  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import nn  # noqa: E402


deepspeed.comm.torch.build_shm_op = lambda: None  # an operation for inference, which takes a minute to compile


def train(stage):
    os.environ.update(RANK=str(dist.get_rank()), WORLD_SIZE=str(dist.get_world_size()), LOCAL_RANK="0")
    deepspeed.init_distributed(dist_backend="longspan", dist_init_required=False, auto_mpi_discovery=False)
    net = clients.model()
    engine, _, _, _ = deepspeed.initialize(
        model=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        config={
            "train_micro_batch_size_per_gpu": 8,
            "gradient_accumulation_steps": 1,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "zero_optimization": {
                "stage": stage,
                "overlap_comm": stage == 2,
                "reduce_bucket_size": 3000,
                "allgather_bucket_size": 3000,
            },
        },
    )
    for x, y in clients.batches(dist.get_rank()):
        engine.backward(nn.functional.mse_loss(engine(x), y))
        engine.step()
    assert dist.get_backend() == "longspan"
    clients.close({name: value.detach() for name, value in engine.module.state_dict().items()}, clients.reference())


def check_zero_1_trains_as_one_process():
    train(1)


def check_zero_2_trains_as_one_process():
    train(2)
