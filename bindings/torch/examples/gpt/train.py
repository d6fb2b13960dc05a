#!/usr/bin/env python3
"""A small GPT that learns to write like Ambrose Bierce, on any torch.distributed backend, with DistributedDataParallel.

  torchrun --nproc-per-node 2 train.py --backend longspan  # or any launcher that sets RANK, WORLD_SIZE, MASTER_ADDR
  train.py --backend none                                  # one process

Rank 0 prints the loss (the mean over all ranks) and each step's time, writes --json, and at the end a few words of its
own.
"""

import argparse
import json
import re
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

TEXT = Path(__file__).resolve().parent / "devils_dictionary.txt"
CONTEXT, WIDTH, HEADS, LAYERS, SYMBOLS = 64, 256, 4, 6, 128


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = (
            self.qkv(self.before_attention(x)).view(batch, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        return x + self.mlp(self.before_mlp(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.symbols, self.places = nn.Embedding(SYMBOLS, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.last, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, SYMBOLS)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, symbols):
        x = self.symbols(symbols) + self.places(torch.arange(symbols.shape[1]))
        return self.head(self.last(self.blocks(x)))

    @torch.no_grad()
    def write(self, prompt, length):
        symbols = list(prompt.encode())
        for _ in range(length):
            scores = self(torch.tensor([symbols[-CONTEXT:]]))[0, -1].float()
            symbols.append(int(torch.multinomial(functional.softmax(scores / 0.8, 0), 1)))
        return bytes(symbols).decode("ascii", "replace")


def batch_of(text, step, rank, ranks, size):
    """The same for every backend: what a rank learns from in a step follows from both numbers alone."""
    generator = torch.Generator().manual_seed(step * ranks + rank)
    starts = torch.randint(len(text) - CONTEXT - 1, (size,), generator=generator)
    pieces = torch.stack([text[s : s + CONTEXT + 1] for s in starts])
    return pieces[:, :-1], pieces[:, 1:]


def bf16_gradients(state, bucket):
    """DDP's hook under a name of its own: under torch's, DDP lets it run on CUDA only, whatever the process group."""
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    return default_hooks.bf16_compress_hook(state, bucket)


def train(model, options, rank, ranks):
    letters = re.sub(rb"[ \t]{2,}", b" ", TEXT.read_bytes())  # the printer's indents are not Bierce
    text = torch.frombuffer(bytearray(letters), dtype=torch.uint8).long().clamp_(max=SYMBOLS - 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    losses, seconds = [], []
    for step in range(options.steps):
        begin = time.perf_counter()
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 10)
        x, y = batch_of(text, step, rank, ranks, options.batch)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            loss = functional.cross_entropy(model(x).float().flatten(0, 1), y.flatten())
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
        mean = loss.detach().clone()  # for the log: not a part of the step, nor of its time
        if ranks > 1:
            dist.all_reduce(mean)
        losses.append(mean.item() / ranks)
        if rank == 0 and (step % 10 == 0 or step == options.steps - 1):
            print(f"step {step:4}  loss {losses[-1]:.4f}  {seconds[-1]:.3f} s", flush=True)
    return losses, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="longspan", help="longspan, gloo, ... or none")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=1, help=f"sequences of {CONTEXT} symbols for each rank and step")
    parser.add_argument("--bf16", action="store_true", help="compute under autocast, and send gradients as bfloat16")
    parser.add_argument("--bucket-mb", type=float, default=25)
    parser.add_argument("--write", type=int, default=0, help="symbols to write at the end")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rank, ranks = 0, 1
    if options.backend != "none":
        if options.backend == "longspan":
            import longspan  # noqa: F401 -- registers the backend
        dist.init_process_group(options.backend)
        rank, ranks = dist.get_rank(), dist.get_world_size()
    net = model = GPT()
    if ranks > 1:
        model = DistributedDataParallel(net, bucket_cap_mb=options.bucket_mb, gradient_as_bucket_view=True)
        if options.bf16:
            model.register_comm_hook(None, bf16_gradients)
    losses, seconds = train(model, options, rank, ranks)
    if rank == 0:
        said = {
            "backend": options.backend,
            "ranks": ranks,
            "bf16": options.bf16,
            "parameters": sum(p.numel() for p in net.parameters()),
            "batch": options.batch,
            "losses": [round(x, 6) for x in losses],
            "seconds": [round(x, 4) for x in seconds],
        }
        if options.json:
            options.json.write_text(json.dumps(said) + "\n")
        if options.write:
            print(net.write("LOVE, n.  ", options.write))
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
