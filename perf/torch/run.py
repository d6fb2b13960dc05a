#!/usr/bin/env python3
"""What torch.distributed reaches on longspan: beside all_reduce_perf, beside Gloo, and beside what the links allow.
Rounds are interleaved. Prints a table and writes one JSON file for each part into --out.

  cmake --preset release -DLONGSPAN_TORCH=ON -DPython3_EXECUTABLE=PYTHON && cmake --build --preset release
  PYTHON perf/torch/run.py                 # all parts, about ten minutes on an idle machine; PYTHON has torch
  PYTHON perf/torch/run.py --only ddp --rounds 3

The lab is perf/topologies/two_regions.toml: 2 regions x 2 hosts, 1 Gbit/s, 40 ms RTT, one rank a host.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from ranks import ROOT, TOPOLOGY, Failed, Runner

HERE = Path(__file__).resolve().parent
KB4, MB1, MB64 = 4 << 10, 1 << 20, 64 << 20
PARTS = ["all_reduce", "ddp", "one_host", "start"]


def program(name, *words):
    return [sys.executable, str(HERE / name), *map(str, words)]


def median(values):
    values = list(values)
    return statistics.median(values) if values else None


def rounds_of(part, options, cases):
    """{case: [what each round gave]}, with --add after those of the file; each round begins with another case, and one
    that fails is told and left out."""
    file = options.out / f"torch_{part}.json"
    found = json.loads(file.read_text())["runs"] if options.add and file.exists() else {}
    first = max((run["round"] + 1 for each in found.values() for run in each), default=0)
    names = list(cases)
    for number in range(first, first + options.rounds):
        for i in range(len(names)):
            name = names[(i + number) % len(names)]
            try:
                said = cases[name]()
            except Failed as failure:
                print(f"round {number + 1}: {name} FAILED: {failure}", file=sys.stderr, flush=True)
                continue
            said["round"] = number
            found.setdefault(name, []).append(said)
            print(f"round {number + 1}: {name} done", file=sys.stderr, flush=True)
    return {name: found.get(name, []) for name in [*names, *(n for n in found if n not in cases)]}


def with_lab(said, lab):
    return {**said, "lab": lab}


# --- all_reduce on the lab --------------------------------------------------------------------------------------

SIZES = (KB4, MB64)


def perf_program(runner):
    """all_reduce_perf, in place as torch's call is: every call starts at an agreed instant, and ends with the last
    rank."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "out.json"
        command = [
            str(runner.build / "bin" / "all_reduce_perf"),
            "-b",
            str(KB4),
            "-e",
            str(MB64),
            "-f",
            str(MB64 // KB4),
            "-n",
            "10",
            "-w",
            "4",
            "-c",
            "0",
            "--memory",
            "heap",
            "-J",
            str(file),
        ]
        _, lab = runner.on_lab(["sh", "-c", 'echo "{}"; exec "$@"', "sh", *command], "longspan")
        said = {}
        for row in json.loads(file.read_text())["results"]:
            samples = row["in_place"]["samples_us"]
            said[str(row["size"])] = {
                "mean_us": statistics.mean(samples),
                "median_us": row["in_place"]["time_us"],
                "samples_us": samples,
            }
    return with_lab(said, lab)


def all_reduce(runner, options):
    def chain(backend, *words):
        return with_lab(*runner.on_lab(program("rank_all_reduce.py", backend, *words), backend))

    runs = rounds_of(
        "all_reduce",
        options,
        {
            "all_reduce_perf": lambda: perf_program(runner),
            "longspan": lambda: chain("longspan", f"{KB4}:40:10", f"{MB64}:12:4"),
            "gloo": lambda: chain("gloo", f"{KB4}:10:2", f"{MB64}:3:1"),
        },
    )
    rows, lines = [], []
    for size in SIZES:
        row = {"bytes": size, "bound_us": runner.bound_us(size)}
        for who, each in runs.items():
            row[who] = {key: median(run[str(size)][key] for run in each) for key in ("mean_us", "median_us")}
        rows.append(row)
        if all(runs.values()):
            ours, program_s = row["longspan"]["mean_us"], row["all_reduce_perf"]["median_us"]
            lines.append(
                f"all_reduce of {size >> 10} KiB on the lab, a call of a chain: {in_ms(ours)}; all_reduce_perf "
                f"{in_ms(program_s)} "
                f"({ours - program_s:+.0f} us, {100 * (ours / program_s - 1):+.1f} %; of its mean "
                f"{100 * (ours / row['all_reduce_perf']['mean_us'] - 1):+.1f} %); Gloo "
                f"{in_ms(row['gloo']['mean_us'])}; bound {in_ms(row['bound_us'])}"
            )
    return {"runs": runs, "rows": rows, "lines": lines}


def in_ms(us):
    return "-" if us is None else f"{us / 1e3:.4g} ms"


# --- DDP on the lab ---------------------------------------------------------------------------------------------


def ddp(runner, options):
    def step(backend, buckets, count, warmup):
        said, lab = runner.on_lab(program("rank_ddp.py", backend, count, warmup, buckets), backend)
        return with_lab(said, lab)

    cases = {
        f"longspan, buckets {sizes}": lambda sizes=sizes: step("longspan", sizes, 6, 3) for sizes in options.buckets
    }
    cases["gloo"] = lambda: step("gloo", "default", 3, 2)
    cases["compute, 4 at once"] = lambda: runner.on_host(program("rank_ddp.py", "none", 10, 3, "default"), 4)
    cases["compute, 1 process"] = lambda: runner.on_host(program("rank_ddp.py", "none", 10, 3, "default"), 1)
    runs = rounds_of("ddp", options, cases)
    parameters = next(run["parameters"] for each in runs.values() for run in each)
    row = {
        "parameters": parameters,
        "wire_bound_s": runner.bound_us(4 * parameters) / 1e6,
        "step_s": {name: median(run["step_s"] for run in each) for name, each in runs.items()},
        "reduced_s": {name: median(run["reduced_s"] for run in each) for name, each in runs.items()},
    }
    steps = row["step_s"]
    row["bound_s"] = max(row["wire_bound_s"], steps["compute, 4 at once"] or 0)
    lines = [
        f"DDP, {parameters / 1e6:.1f} M fp32 parameters, 4 ranks on the lab; a step (and up to the end of backward), "
        f"wire bound {row['wire_bound_s']:.3f} s:"
    ]
    for name, value in steps.items():
        if value is not None:
            lines.append(
                f"  {name:25} {value:.3f} s ({row['reduced_s'][name]:.3f} s)"
                + (
                    f", {100 * row['bound_s'] / value:.1f} % ({100 * row['bound_s'] / row['reduced_s'][name]:.1f} %) "
                    f"of the bound, "
                    f"{(steps['gloo'] or 0) / value:.2f} x as fast as Gloo"
                    if name.startswith("longspan")
                    else ""
                )
            )
    return {"runs": runs, "rows": [row], "lines": lines}


# --- one host ---------------------------------------------------------------------------------------------------


def one_host(runner, options):
    cases = {}
    for backend in ("longspan", "gloo"):
        cases[f"all_reduce {backend}"] = lambda backend=backend: runner.on_host(
            program("rank_all_reduce.py", backend, f"{KB4}:40:20", f"{MB1}:40:20", f"{MB64}:20:5"), 2
        )
        cases[f"ddp {backend}"] = lambda backend=backend: runner.on_host(
            program("rank_ddp.py", backend, 20, 5, "default"), 2
        )
    cases["compute, 2 at once"] = lambda: runner.on_host(program("rank_ddp.py", "none", 20, 5, "default"), 2)
    runs = rounds_of("one_host", options, cases)
    row = {"ranks": 2}
    lines = []
    for size in (KB4, MB1, MB64):
        each = {b: median(run[str(size)]["median_us"] for run in runs[f"all_reduce {b}"]) for b in ("longspan", "gloo")}
        row[f"all_reduce_{size}_us"] = each
        if all(each.values()):
            lines.append(
                f"one host, 2 ranks, all_reduce of {size >> 10} KiB: {each['longspan']:.0f} us, Gloo "
                f"{each['gloo']:.0f} us "
                f"({each['gloo'] / each['longspan']:.2f} x as fast)"
            )
    each = {b: median(run["step_median_s"] for run in runs[f"ddp {b}"]) for b in ("longspan", "gloo")}
    row["ddp_step_s"] = {**each, "compute": median(run["step_median_s"] for run in runs["compute, 2 at once"])}
    if all(row["ddp_step_s"].values()):
        lines.append(
            f"one host, 2 ranks, DDP step: {each['longspan']:.3f} s, Gloo {each['gloo']:.3f} s "
            f"({each['gloo'] / each['longspan']:.2f} x as fast), compute alone {row['ddp_step_s']['compute']:.3f} s"
        )
    return {"runs": runs, "rows": [row], "lines": lines}


# --- starting ---------------------------------------------------------------------------------------------------


def start(runner, options):
    cases = {}
    for backend in ("longspan", "gloo"):
        cases[f"lab {backend}"] = lambda backend=backend: with_lab(
            *runner.on_lab(program("rank_start.py", backend), backend)
        )
        cases[f"one host {backend}"] = lambda backend=backend: runner.on_host(program("rank_start.py", backend), 4)
    runs = rounds_of("start", options, cases)
    rows = [
        {
            "where": name,
            **{
                key: median(run[key] for run in each)
                for key in ("torch_import_s", "package_import_s", "init_s", "init_and_barrier_s")
            },
        }
        for name, each in runs.items()
    ]
    return {
        "runs": runs,
        "rows": rows,
        "lines": [
            f"starting 4 ranks, {row['where']}: {row['init_s']:.2f} s beyond torch's import "
            f"({row['torch_import_s']:.2f} s), "
            f"{row['init_and_barrier_s']:.2f} s with a barrier"
            for row in rows
            if row["init_s"] is not None
        ],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=PARTS, help=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--buckets",
        type=lambda text: text.split(","),
        default=["default"],
        help="buckets of longspan's DDP runs: default (torch's own), MiB of each, or of each in turn with + "
        "(default,25,1+100)",
    )
    parser.add_argument("--build", default=str(ROOT / "build" / "release"), help="build folder (build/release)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "torch-figures")
    parser.add_argument("--add", action="store_true", help="to the rounds that the files of --out have")
    parser.add_argument("--seconds", type=int, default=80, help="a run's limit (80)")
    options = parser.parse_args()
    import torch

    runner = Runner(options.build, options.seconds)
    options.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for part in options.only:
        found = {"all_reduce": all_reduce, "ddp": ddp, "one_host": one_host, "start": start}[part](runner, options)
        whole = {
            "what": part,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
            "torch": torch.__version__,
            "cores": os.cpu_count(),
            "rounds": max(len(each) for each in found["runs"].values()),
            "topology": str(TOPOLOGY.relative_to(ROOT)),
            **found,
        }
        invalid = sum(not run["lab"]["valid"] for each in found["runs"].values() for run in each if "lab" in run)
        if invalid:
            whole["lines"].append(f"  {invalid} of these runs were invalid: the lab was late by itself (docs/lab.md)")
        (options.out / f"torch_{part}.json").write_text(json.dumps(whole, indent=1) + "\n")
        print("\n".join(whole["lines"]), flush=True)
        lines += whole["lines"]
    print(f"\nsaved in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
