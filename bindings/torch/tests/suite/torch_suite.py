"""PyTorch's own suite (torch.testing._internal.distributed.distributed_test), for the backend that BACKEND names.

The suite knows its backends by name: a test for "gloo" is skipped for every name it has not heard of. So its source is
loaded with the gates of WIDENINGS opened for longspan, each of which must be found as often as it says, and
DistTestCases' tables get the name. The tests themselves stay as they are.

The environment that the suite reads when it is imported (BACKEND, WORLD_SIZE, TEMP_DIR, INIT_METHOD) is set by run.py.
"""

import importlib.util
import logging
import os
import sys

import torch

import longspan  # noqa: F401  registers the backend, in this process and in every rank, which imports this module too

from torch.testing._internal import common_distributed

SUITE = "torch.testing._internal.distributed.distributed_test"
NAME = "longspan"

# What is replaced, by what, how often it is in torch 2.13.
WIDENINGS = [
    # Only Gloo: barriers that time out, batches of sends and receives, sparse tensors, futures, profiles of broadcasts.
    ('BACKEND != "gloo"', f'BACKEND not in ("gloo", "{NAME}")', 19),
    ('BACKEND == "gloo"', f'BACKEND in ("gloo", "{NAME}")', 1),
    ('require_backend_is_available({"gloo"})', f'require_backend_is_available({{"gloo", "{NAME}"}})', 19),
    # Only MPI: all-to-all on the host, which Gloo's run skips.
    ('BACKEND != "mpi"', f'BACKEND not in ("mpi", "{NAME}")', 17),
    # Profiles must have an event for each call. One line stays one line: tracebacks quote the source.
    ("    dist.Backend.GLOO,\n", f'    dist.Backend.GLOO, "{NAME}",\n', 3),
]
FEATURES = ("gpu", "cuda", "ddp", "subgroup", "plugin")


def widened(source):
    for gate, wider, times in WIDENINGS:
        found = source.count(gate)
        if found != times:
            raise RuntimeError(
                f"{SUITE} of torch {torch.__version__}: {gate!r} is there {found} times, expected {times}; look at "
                f"what changed"
            )
        source = source.replace(gate, wider)
    return source


def load():
    for feature in FEATURES:
        common_distributed.DistTestCases.backend_feature[feature].add(NAME)
    spec = importlib.util.find_spec(SUITE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[SUITE] = module
    source = spec.loader.get_source(SUITE)
    exec(compile(widened(source), spec.origin, "exec"), module.__dict__)
    return module


suite = load()


def rank_main(environment, target, arguments, options):
    """What a rank runs: as after a spawn, the environment is the parent's of now, whenever the fork server was
    started."""
    os.environ.clear()
    os.environ.update(environment)
    suite.INIT_METHOD = environment["INIT_METHOD"]
    log = os.open(environment["SUITE_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if environment.get("SUITE_REGIONS"):
        os.environ["LONGSPAN_HOST"] = "a" if arguments[0] < int(environment["WORLD_SIZE"]) // 2 else "b"
    target(*arguments, **options)


# Their timeouts for single tests are longer than the runner's box.
common_distributed.TIMEOUT_OVERRIDE.clear()
common_distributed.logger.setLevel(logging.WARNING)


class TorchSuite(suite.TestDistBackend, suite.DistributedTest._DistTestBase):
    def setUp(self):
        super().setUp()
        self._spawn_processes()

    def tearDown(self):
        self.ended = self.processes  # terminated, perhaps not gone yet: the runner sees to it
        super().tearDown()

    def _spawn_processes(self):
        context = torch.multiprocessing.get_context(os.environ["SUITE_START"])
        environment = dict(os.environ)
        self._start_processes(
            lambda target, name, args, kwargs: context.Process(
                target=rank_main, name=name, args=(environment, target, args, kwargs)
            )
        )
