"""What torch calls while it is imported (entry point "torch.backends"): init_process_group("longspan") then works
without an import.

A module of its own that imports nothing of longspan: whatever is wrong with the rest, a missing library or one built
for another torch, is said when a process group is made, and `import torch` goes on.
"""


def _create(seat, options):
    import longspan

    return longspan._create(seat, options)


def autoload():
    try:
        import torch.distributed as dist

        if dist.is_available() and "longspan" not in dist.Backend.backend_list:
            dist.Backend.register_backend("longspan", _create, extended_api=True, devices=["cpu", "cuda"])
    except Exception:
        pass  # this runs inside `import torch`; who wants longspan hears of it by `import longspan`
