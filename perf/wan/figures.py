#!/usr/bin/env python3
"""The figures that longspan promises over a WAN: 2 regions x 2 hosts, 1 Gbit/s, MTU 9000, on the lab. Writes the
topology of each row from its parameters, runs all_reduce_perf on it, prints a table and writes figures.json.

  cmake --preset release && cmake --build --preset release
  perf/wan/figures.py                            # all rows: about 6 minutes
  perf/wan/figures.py --rows lossy,1M-lossy --rounds 3
  perf/wan/figures.py --report-only              # the table of what was measured last

A row that is measured again replaces what the file has of it. Exit code 1: a row missed its goal.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MEGA, KILO = 1_000_000, 1_000
HOSTS = [("eu-1", "eu", "10.77.0.1"), ("eu-2", "eu", "10.77.0.2"),
         ("us-1", "us", "10.77.1.1"), ("us-2", "us", "10.77.1.2")]


def row(name, size, rtt_ms, goal, buffer=8 * MEGA, loss=0.0, iterations=11, warmup=3, **more):
    """`goal`: least % of the bound; None: only told. `spread`: most p90 / median; `options`: more for the program;
    `like`: a row whose median is beside."""
    return {
        "name": name, "size": size, "rtt_ms": rtt_ms, "goal": goal, "buffer": buffer, "loss": loss,
        "iterations": iterations, "warmup": warmup, "spread": None if loss else 1.1, "options": [], "env": {}, **more,
    }


ROWS = [
    row("clean-40", "64M", 40, 97, no_drops=True),
    row("clean-150", "64M", 150, 95),
    row("buffer-1M", "64M", 60, 95, buffer=1 * MEGA),
    row("buffer-250K", "64M", 60, 85, buffer=250 * KILO),
    row("loss-1e-3", "64M", 60, 88, loss=1e-3, iterations=21),
    row("loss-1e-2", "64M", 60, 80, loss=1e-2, iterations=21),
    row("1M", "1M", 40, 90, iterations=100),
    row("4K", "4K", 40, None, iterations=100, delays=1.1),
    row("1M-tiny", "1M", 40, None, loss=2e-5, iterations=200),
    # Told beside them, without a goal of their own.
    row("1M-loss-1e-3", "1M", 40, None, loss=1e-3, iterations=200),
    row("1M-loss-1e-2", "1M", 40, None, loss=1e-2, iterations=200),
    row("4K-loss-1e-3", "4K", 40, None, loss=1e-3, iterations=200),
    row("64M-40-loss-1e-3", "64M", 40, None, loss=1e-3, iterations=21),
    # The first iterations, without any before them: what a new connection costs.
    row("first-40", "64M", 40, None, iterations=10, warmup=0, first=1.1),
    row("first-150", "64M", 150, None, iterations=10, warmup=0, first=1.1),
    # 30 s of silence before each iteration: as fast as without.
    row("idle-30s", "64M", 40, None, iterations=1, warmup=1, like="clean-40", options=["--gap", "30", "-c", "0"]),
    # As on a kernel without BBR.
    row("cubic-clean", "64M", 60, None, env={"LONGSPAN_CONGESTION_CONTROL": "cubic"}),
    row("cubic-loss-1e-3", "64M", 60, None, loss=1e-3, env={"LONGSPAN_CONGESTION_CONTROL": "cubic"}),
]


def topology(case):
    text = "version = 1\n"
    for name, region, address in HOSTS:
        text += f'[[host]]\nname = "{name}"\nregion = "{region}"\naddress = "{address}"\nnic = "5 Gbit/s"\n'
    return text + (f'[[wan]]\nfrom = "eu"\nto = "us"\nbandwidth = "1 Gbit/s"\nlatency = "{case["rtt_ms"] / 2:g} ms"\n'
                   f'buffer = "{case["buffer"] / KILO:g} KB"\nloss = {case["loss"]:f}\n')


def run(case, seed, options):
    """One run of the lab. The result, or a text that says why there is none."""
    with tempfile.TemporaryDirectory(prefix="longspan-figures-") as folder:
        folder = Path(folder)
        (folder / "topology.toml").write_text(topology(case))
        command = [
            str(options.bin / "longspan-lab"), "run", "--topology", str(folder / "topology.toml"), "--seed", str(seed),
            "--quiet", "--allow-invalid", "--prefix", "others", "--timeout", f"{options.box}s", "--grace", "5s",
            "--json", str(folder / "lab.json"), "--", str(options.bin / "all_reduce_perf"), "-b", case["size"],
            "-e", case["size"], "-n", str(case["iterations"]), "-w", str(case["warmup"]), "--links",
            "-J", str(folder / "result.json"), *case["options"],
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=options.box + 20, check=False,
                                  env={**os.environ, **case["env"]})
        except subprocess.TimeoutExpired:
            return "the lab itself did not end in time"
        try:
            program = json.loads((folder / "result.json").read_text())
            lab = json.loads((folder / "lab.json").read_text())
        except (OSError, ValueError):
            words = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            return f"exit code {done.returncode}: {words[-1] if words else 'no output'}"
    result = program["results"][0]
    both = result["samples_us"] + (result["in_place"]["samples_us"] if not case.get("first") else [])
    return {"bound_us": result["bound_us"], "samples_us": both, "wrong": result["wrong"] or 0,
            "algorithm": result["algorithm"], "dropped": sum(link["dropped_packets"] for link in lab["links"]),
            "lost": sum(link["lost_packets"] for link in lab["links"]),
            "queue_share": max(link["largest_queue_bytes"] / link["buffer_bytes"] for link in lab["links"]),
            "retransmits": sum(link["retransmits"] for link in program.get("links", [])),
            "late_share": lab["late_share"], "valid": lab["valid"], "stolen_share": lab["stolen_share"],
            "stalls": lab["stalls"]}


def quantile(values, q):
    values = sorted(values)
    at = q * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


def summary(case, runs):
    samples = [sample for each in runs for sample in each["samples_us"]]
    median = statistics.median(samples)
    told = {
        "case": case, "runs": runs, "iterations": len(samples), "median_us": median, "p90_us": quantile(samples, 0.9),
        "p99_us": quantile(samples, 0.99), "percent": 100 * runs[0]["bound_us"] / median,
        "spread": quantile(samples, 0.9) / median, "dropped": sum(each["dropped"] for each in runs),
        "queue_share": max(each["queue_share"] for each in runs), "wrong": sum(each["wrong"] for each in runs),
    }
    misses = []
    if case["goal"] is not None and told["percent"] < case["goal"]:
        misses.append(f"{told['percent']:.1f} % < {case['goal']} %")
    if case.get("delays"):
        told["delays"] = median / (case["rtt_ms"] * 500)
        if told["delays"] > case["delays"]:
            misses.append(f"{told['delays']:.2f} x the delay")
    if case.get("first"):
        told["first"] = max(each["samples_us"][0] / statistics.median(each["samples_us"]) for each in runs)
        if told["first"] > case["first"]:
            misses.append(f"first {told['first']:.2f} x the median")
    elif case["spread"] is not None and told["spread"] > case["spread"]:
        misses.append(f"p90 {told['spread']:.2f} x the median")
    if case.get("no_drops") and told["dropped"]:
        misses.append(f"{told['dropped']} drops")
    if told["wrong"]:
        misses.append(f"{told['wrong']} wrong")
    told["misses"] = misses
    return told


def table(results):
    head = ["row", "size", "RTT", "buffer", "loss", "median", "% of bound", "goal", "p90/med", "p99/med", "first/med",
            "drops", "queue", "n", ""]
    rows = [head]
    for told in results["rows"].values():
        case = told["case"]
        goal = (
            f">= {case['goal']} %"
            if case["goal"] is not None
            else f"<= {case['delays']} delays" if case.get("delays") else ""
        )
        late = "*" if any(not each["valid"] for each in told["runs"]) else ""
        rows.append([case["name"], case["size"], f"{case['rtt_ms']} ms",
                     f"{case['buffer'] / MEGA:g} MB", f"{case['loss']:g}", f"{told['median_us'] / 1e3:.1f} ms{late}",
                     f"{told['percent']:.1f}" + (f" ({told['delays']:.2f} delays)" if case.get("delays") else "") +
                     (f" ({told['of_like']:.2f} x {case['like']})" if told.get("of_like") else ""), goal,
                     f"{told['spread']:.2f}", f"{told['p99_us'] / told['median_us']:.2f}",
                     f"{told['first']:.2f}" if case.get("first") else "", str(told["dropped"]),
                     f"{100 * told['queue_share']:.0f} %", str(told["iterations"]),
                     "missed: " + ", ".join(told["misses"]) if told["misses"] else "ok"])
    widths = [max(len(each[i]) for each in rows) for i in range(len(head))]
    rows.insert(1, ["-" * width for width in widths])
    lines = ["| " + " | ".join(word.ljust(width) for word, width in zip(each, widths)) + " |" for each in rows]
    if any(not each["valid"] for told in results["rows"].values() for each in told["runs"]):
        lines.append("* at least one of the lab's runs was invalid: the emulator itself was late (docs/lab.md)")
    lines += [f"{name}: {why}" for name, why in results.get("failed", {}).items()]
    return "\n".join(lines)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", help="names, with commas between them (all): " + ", ".join(each["name"] for each in ROWS)
    )
    parser.add_argument("--rounds", type=int, default=1, help="runs of each row, one after the other over all rows (1)")
    parser.add_argument("--iterations", type=int, help="timed iterations of a run, out of place and again in place")
    parser.add_argument("--box", type=int, default=70, help="seconds that one run may take (70)")
    parser.add_argument("--seed", type=int, default=1, help="of the first round's random loss (1)")
    parser.add_argument("--bin", type=Path, default=ROOT / "build" / "release" / "bin", help="where the programs are")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "figures", help="folder of figures.json (build/figures)"
    )
    parser.add_argument("--report-only", action="store_true")
    return parser.parse_args()


def main():
    options = parse_options()
    names = options.rows.split(",") if options.rows else [each["name"] for each in ROWS]
    known = {each["name"]: each for each in ROWS}
    for name in names:
        if name not in known:
            sys.exit(f"figures.py: '{name}' is none of {', '.join(known)}")
    file = options.out / "figures.json"
    results = json.loads(file.read_text()) if file.exists() else {"rows": {}, "failed": {}}
    runs = {name: [] for name in names}
    for turn in range(0 if options.report_only else options.rounds):
        for name in names:
            case = known[name] if options.iterations is None else {**known[name], "iterations": options.iterations}
            result = run(case, options.seed + turn, options)
            if isinstance(result, str):
                results["failed"][name] = result
                print(f"{name}: {result}", flush=True)
                continue
            results["failed"].pop(name, None)
            runs[name].append(result)
            results["rows"][name] = summary(case, runs[name])
            if like := results["rows"].get(case.get("like")):
                results["rows"][name]["of_like"] = results["rows"][name]["median_us"] / like["median_us"]
            results["rows"] = {each: results["rows"][each] for each in known if each in results["rows"]}
            options.out.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))
    return 1 if results["failed"] or any(told["misses"] for told in results["rows"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
