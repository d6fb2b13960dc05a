#!/usr/bin/env python3
"""Runs PyTorch's own distributed suite over longspan on 4 ranks of this host, and compares with what Gloo passes there.

  PYTHONPATH=build/release/python bindings/torch/tests/suite/run.py --out longspan.json  # all; again: goes on
  ... run.py --backend gloo --out gloo.json                                              # what to compare with
  ... run.py --part                                                                      # what Gloo passes, as CI does
  ... run.py --only 'test_barrier.*'                                                     # one or some

Every test gets fresh ranks and a time box. Exit code 0: every test that Gloo passes passes here too, or is in
exceptions.toml with its reason, and what is listed there does not pass. 75: --stop-after ended the run early. 77:
torch, expecttest or the package is missing.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import sys
import tempfile
import time
import tomllib
import unittest

FOLDER = pathlib.Path(__file__).resolve().parent
RESULTS = FOLDER.parents[3] / "perf/results/2026-11-21"
NOT_FINISHED, MISSING = 75, 77


def arguments():
    parse = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parse.add_argument("--backend", default="longspan")
    parse.add_argument("--ranks", type=int, default=4)
    parse.add_argument("--only", metavar="REGEX", help="tests whose whole name matches")
    parse.add_argument("--part", action="store_true", help="only what Gloo passes")
    parse.add_argument("--out", metavar="FILE", help="write the results; tests that it has already are not run again")
    parse.add_argument("--again", choices=["failed", "all"], help="run these again, although --out has them")
    parse.add_argument("--box", type=int, default=60, help="seconds for one test")
    parse.add_argument("--stop-after", type=float, metavar="SECONDS", help="start no test after this")
    parse.add_argument(
        "--start",
        choices=["forkserver", "spawn"],
        default="forkserver",
        help="how ranks start: from a process that has imported torch, or each importing it anew, as PyTorch's CI does",
    )
    parse.add_argument(
        "--regions", action="store_true", help="two regions of two ranks, joined by TCP over the loopback"
    )
    parse.add_argument("--gloo-results", metavar="FILE", help="compare with these instead of those in perf/results")
    args = parse.parse_args()
    args.gloo_results = args.gloo_results or RESULTS / (
        "torch_suite_gloo.json" if args.ranks == 4 else f"torch_suite_gloo_{args.ranks}.json"
    )
    return args


def prepare(args, folder):
    """The environment that the suite reads when it is imported, here and in the ranks."""
    os.environ.update(
        BACKEND=args.backend,
        WORLD_SIZE=str(args.ranks),
        TEMP_DIR=folder,
        INIT_METHOD=f"file://{folder}/init",
        SUITE_START=args.start,
        SUITE_LOG=f"{folder}/ranks.log",
        DISTRIBUTED_TESTS_DEFAULT_TIMEOUT=str(args.box),
    )
    # One thread a rank: four ranks share the cores, and a fork server must not have others.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH")]))
    sys.path.insert(0, str(FOLDER))
    if args.regions:
        sys.path.insert(0, str(FOLDER.parent))
        from run import TOPOLOGY

        topology = pathlib.Path(folder, "topology.toml")
        topology.write_text(TOPOLOGY)
        os.environ.update(SUITE_REGIONS="1", LONGSPAN_TOPOLOGY=str(topology))


class Outcome(unittest.TestResult):
    """Of one test: `told` is ("passed" | "failed" | "skipped", why)."""

    told = ("passed", None)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.told = ("skipped", reason)

    def addError(self, test, err):
        super().addError(test, err)
        self.told = ("failed", self._exc_info_to_string(err, test))

    addFailure = addError


def last_words(text):
    """What an error says: the lines that torch's C++ stack traces hide."""
    lines = [line.strip() for line in text.splitlines() if re.match(r"[\w.]*(Error|Exception|Timeout)\b", line.strip())]
    said = [line for line in lines if not line.startswith("RuntimeError: Process")] or lines
    return (said[-1] if said else text.strip().splitlines()[-1])[:300]


def run_one(test_class, name):
    log = pathlib.Path(os.environ["SUITE_LOG"])
    log.write_bytes(b"")
    test = test_class(name)
    outcome = Outcome()
    start = time.monotonic()
    test.run(outcome)
    seconds = time.monotonic() - start
    for process in getattr(test, "ended", ()):
        process.join(5)
        if process.exitcode is None:
            process.kill()
            process.join()
    kind, why = outcome.told
    record = {"result": kind, "seconds": round(seconds, 1)}
    if kind == "skipped":
        record["reason"] = why
    elif kind == "failed":
        record["error"] = last_words(why)
        print(
            why,
            "what the ranks wrote, the end of it:",
            log.read_text(errors="replace")[-4000:],
            sep="\n",
            file=sys.stderr,
        )
    return record


def write(path, head, tests):
    lines = [f"  {json.dumps(name)}: {json.dumps(tests[name])}" for name in sorted(tests)]
    head = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
    new = pathlib.Path(f"{path}.new")
    new.write_text("{\n" + head + ' "tests": {\n' + ",\n".join(lines) + "\n }\n}\n")
    new.replace(path)


def known_exceptions():
    with open(FOLDER / "exceptions.toml", "rb") as file:
        return tomllib.load(file)


def judge(tests, gloo, exceptions):
    """What is wrong, as sentences. `tests`: what ran now; of the others nothing is said."""
    wrong = [
        f"exceptions.toml: {name}: Gloo does not pass it, it needs no exception"
        for name in exceptions
        if gloo.get(name) != "passed"
    ]
    for name, record in tests.items():
        passed = record["result"] == "passed"
        if name in exceptions and passed:
            wrong.append(f"{name} passes: take it out of exceptions.toml")
        elif record["result"] == "failed" and name not in exceptions:
            wrong.append(f"{name} failed: {record['error']}")
        elif gloo.get(name) == "passed" and not passed and name not in exceptions:
            wrong.append(f"{name} is {record['result']} ({record.get('reason')}), Gloo passes it")
    return wrong


def summary(args, tests):
    count = {
        kind: sum(record["result"] == kind for record in tests.values()) for kind in ("passed", "failed", "skipped")
    }
    print(
        f"{args.backend}: {count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped, of "
        f"{len(tests)}, "
        f"in {sum(record['seconds'] for record in tests.values()):.0f} s"
    )
    if args.backend == "gloo":
        return 0
    if not pathlib.Path(args.gloo_results).exists():
        print(f"{args.gloo_results} is missing: run with --backend gloo first")
        return 1
    gloo = of_gloo(args)
    exceptions = known_exceptions()
    shared = [name for name in tests if gloo.get(name) == "passed"]
    print(f"of {len(shared)} that Gloo passes, {sum(tests[name]['result'] == 'passed' for name in shared)} pass; "
          f"{sum(name in exceptions for name in shared)} are in exceptions.toml")
    wrong = judge(tests, gloo, exceptions)
    print("\n".join(wrong))
    return 1 if wrong else 0


def of_gloo(args):
    return {
        name: record["result"]
        for name, record in json.loads(pathlib.Path(args.gloo_results).read_text())["tests"].items()
    }


def chosen(args, every):
    if args.part:
        gloo = of_gloo(args)
        every = [name for name in every if gloo.get(name) == "passed"]
    return [name for name in every if args.only is None or re.fullmatch(args.only, name)]


def run_all(args, suite, names, head):
    known = (
        json.loads(pathlib.Path(args.out).read_text())["tests"] if args.out and pathlib.Path(args.out).exists() else {}
    )
    again = {"failed": ["failed"], "all": ["passed", "failed", "skipped"], None: []}[args.again]
    tests = {name: record for name, record in known.items() if record["result"] not in again}
    end = time.monotonic() + args.stop_after if args.stop_after else None
    for name in names:
        if name in tests:
            continue
        if end is not None and time.monotonic() > end:
            return tests, False
        tests[name] = run_one(suite, name)
        record = tests[name]
        print(
            f"{record['result']:8}{name} ({record['seconds']} s) {record.get('reason') or record.get('error') or ''}",
            flush=True,
        )
        if args.out:
            write(args.out, head, {**known, **tests})
    return tests, True


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        prepare(args, folder)
        try:
            import torch
            import torch_suite
        except ImportError as missing:
            print(
                f"SKIP: torch is not installed, or the process group not built, or what torch's suite needs: {missing}"
            )
            return MISSING
        if args.start == "forkserver":
            torch.multiprocessing.get_context("forkserver").set_forkserver_preload(["torch_suite"])
        head = {"backend": args.backend, "torch": torch.__version__, "ranks": args.ranks, "start": args.start,
                "regions": 2 if args.regions else 1, "date": datetime.date.today().isoformat()}
        names = chosen(args, unittest.defaultTestLoader.getTestCaseNames(torch_suite.TorchSuite))
        tests, finished = run_all(args, torch_suite.TorchSuite, names, head)
    return summary(args, tests) if finished else NOT_FINISHED


if __name__ == "__main__":
    sys.exit(main())
