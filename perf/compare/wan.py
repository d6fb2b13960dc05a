#!/usr/bin/env python3
"""Allreduce over an emulated WAN: longspan, Gloo, Open MPI and MPICH on the same lab topologies in turn, several rounds
interleaved. Prints a table (median time and % of longspan's bound), writes JSON and an SVG. See docs/compare.md.

  cmake/setup.sh --compare && cmake --preset release && cmake --build --preset release
  perf/compare/wan.py                                   # a representative set, under 10 minutes
  perf/compare/wan.py --rtts 60 --losses 0,1e-2 --sizes 1K,64M --buffers 250K,8M
  perf/compare/wan.py --full                            # everything: hours

Runs that a results file has already are not run again, so an interrupted comparison goes on where it stopped.
"""
import argparse
import datetime
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wan_plot

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "release" / "bin"
VENV_PYTHON = ROOT / "build" / "compare-venv" / "bin" / "python"

DEFAULTS = {"sizes": "1K,1M,64M", "rtts": "40", "losses": "0,1e-3", "buffers": "8M", "rounds": 1}
FULL = {"sizes": "1K,16K,256K,4M,64M,256M", "rtts": "2,20,60,150", "losses": "0,1e-4,1e-3,1e-2", "buffers": "250K,8M",
        "rounds": 3}
HOSTS = [("10.77.0.1", "eu-1", "eu"), ("10.77.0.2", "eu-2", "eu"),
         ("10.77.1.1", "us-1", "us"), ("10.77.1.2", "us-2", "us")]
NAMES = {"longspan": "longspan", "gloo": "Gloo", "open_mpi": "Open MPI", "mpich": "MPICH"}
START_S = 15  # what a launcher may need before the first iteration, in a box of time


def read_size(text):
    """A message size; K, M, G are powers of 1024."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text.upper())
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 1K, 64M")
    return int(match[1]) * 1024 ** " KMG".index(match[2] or " ")


def read_buffer(text):
    """A buffer; K, M are powers of 1000, as in topology files."""
    match = re.fullmatch(r"(\d+)([KM]?)", text.upper())
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is not a buffer such as 250K, 8M")
    return int(match[1]) * 1000 ** " KM".index(match[2] or " ")


def list_of(read):
    def parse(text):
        try:
            return [read(word) for word in text.split(",")]
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text}': {error}") from error
    return parse


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=list_of(read_size), help=f"bytes, K M G of 1024 ({DEFAULTS['sizes']})")
    parser.add_argument("--rtts", type=list_of(float), help=f"ms ({DEFAULTS['rtts']})")
    parser.add_argument("--losses", type=list_of(float), help=f"share of packets, each way ({DEFAULTS['losses']})")
    parser.add_argument("--buffers", type=list_of(read_buffer), help=f"bytes, K M of 1000 ({DEFAULTS['buffers']})")
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(NAMES), help=",".join(NAMES))
    parser.add_argument("--rounds", type=int, help=f"({DEFAULTS['rounds']})")
    parser.add_argument("--full", action="store_true",
                        help="; ".join(f"{key} {value}" for key, value in FULL.items()))
    parser.add_argument("--rate", default="1 Gbit/s", help="of the WAN link, each way (1 Gbit/s)")
    parser.add_argument("--nic", default="5 Gbit/s", help="of each host (5 Gbit/s)")
    parser.add_argument("--iterations", type=int, default=15, help="most timed iterations of a size in a run (15)")
    parser.add_argument("--budget", type=float, default=6,
                        help="seconds after which no iteration of a size begins (6)")
    parser.add_argument("--box", type=float, default=45,
                        help="seconds that a size may take, then its run is ended (45)")
    parser.add_argument("--peer-cc", default="default", help="the peers' congestion control (the kernel's default)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "compare",
                        help="folder: wan.json, wan.svg (build/compare)")
    parser.add_argument("--again", default="", help="peers whose runs in the results file are to be made anew")
    parser.add_argument("--stop-after", type=float, default=math.inf,
                        help="seconds: begin no run that would not end within (a guess from what such runs took)")
    parser.add_argument("--report-only", action="store_true", help="table and plot of the results file, no runs")
    options = parser.parse_args()
    chosen = FULL if options.full else DEFAULTS
    readers = {"sizes": list_of(read_size), "rtts": list_of(float), "losses": list_of(float),
               "buffers": list_of(read_buffer), "rounds": int}
    for name, read in readers.items():
        if getattr(options, name) is None:
            setattr(options, name, read(str(chosen[name])))
    options.sizes.sort()
    for peer in options.peers:
        if peer not in NAMES:
            parser.error(f"--peers: '{peer}' is none of {', '.join(NAMES)}")
    return options


# --- what is installed ------------------------------------------------------------------------------------------------

def output_of(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip() if done.returncode == 0 else ""


def first_match(pattern, text):
    match = re.search(pattern, text)
    return match[1] if match else None


def longspan_version():
    """The commit of the sources, and when the program was built: they may differ."""
    program = BUILD / "all_reduce_perf"
    if not program.exists() or not (BUILD / "longspan").exists():
        return None
    commit = output_of("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD") or "unknown"
    built = datetime.datetime.fromtimestamp(program.stat().st_mtime, datetime.timezone.utc)
    return f"{commit}, built {built:%Y-%m-%dT%H:%MZ}"


def find_peers():
    """Per peer: its version, or how to install it."""
    release = "cmake --preset release && cmake --build --preset release"
    peers = {}
    python = os.environ.get("LONGSPAN_COMPARE_PYTHON") or (str(VENV_PYTHON) if VENV_PYTHON.exists() else sys.executable)
    peers["longspan"] = {"version": longspan_version(), "install": release}
    torch = output_of(python, "-c", "import torch, torch.distributed as d\n"
                                    "print(torch.__version__ if d.is_gloo_available() else '')")
    peers["gloo"] = {"version": f"torch {torch}" if torch else None, "python": python,
                     "install": "cmake/setup.sh --compare, or set LONGSPAN_COMPARE_PYTHON to a Python that has torch"}
    mpi = first_match(r"([0-9][\w.]+)\s*\n", output_of("mpirun.openmpi", "--version") + "\n")
    peers["open_mpi"] = {"version": mpi if (BUILD / "mpi_all_reduce").exists() else None,
                         "install": f"apt-get install openmpi-bin libopenmpi-dev, then {release}"}
    mpich = output_of("mpiexec.mpich", "--version")
    version = first_match(r"Version:\s*(\S+)", mpich)
    device = first_match(r"--with-device=([\w:]+)", mpich)
    built = (BUILD / "mpich_all_reduce").exists()
    peers["mpich"] = {"version": f"{version} ({device})" if version and built else None,
                      "install": f"apt-get install mpich libmpich-dev, then {release}"}
    return peers


def machine():
    cpu = first_match(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text()) or "unknown"
    control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": os.uname().release.split("-")[0],
            "default_congestion_control": control}


# --- one run ----------------------------------------------------------------------------------------------------------

def topology_text(case, options):
    text = "# Written by perf/compare/wan.py.\nversion = 1\n"
    for address, name, region in HOSTS:
        text += f'\n[[host]]\nname = "{name}"\nregion = "{region}"\naddress = "{address}"\nnic = "{options.nic}"\n'
    text += f'\n[[wan]]\nfrom = "eu"\nto = "us"\nbandwidth = "{options.rate}"\nlatency = "{case["rtt_ms"] / 2:g} ms"\n'
    return text + f'buffer = "{case["buffer"] // 1000} KB"\nloss = {case["loss"]:f}\n'


def bound_us(topology, size):
    command = [str(BUILD / "longspan"), "explain", "--topology", str(topology), "--size", str(size), "--json"]
    text = output_of(*command)
    try:
        return json.loads(text)["bound_us"]
    except (ValueError, KeyError):
        sys.exit(f"wan.py: `{' '.join(command)}` gave no bound: {text[:300]}")


def iterations_of(bound, case, options):
    one = bound / 1e6 + 1.5 * case["rtt_ms"] / 1e3 + 1e-3  # with the margin before the next
    timed = max(3, min(options.iterations, int(options.budget / one / 2)))
    return timed, max(1, min(3, timed // 2))


def command_of(peer, peers, case, sizes, folder, bounds, options):
    if peer == "longspan":
        timed, warm = iterations_of(bounds[sizes[0]], case, options)
        size = str(sizes[0])
        return [str(BUILD / "all_reduce_perf"), "-b", size, "-e", size, "-n", str(timed), "-w", str(warm), "-c", "1",
                "-J", str(folder / "result.json")]
    # How many of which size: the budget ends those that take long.
    timed, warm = iterations_of(bounds[sizes[0]], case, options)
    rules = ["--margin-us", f"{1500 * case['rtt_ms'] + 1000:.0f}", "--warmup", str(warm),
             "--budget-s", str(options.budget)]
    programs = {"gloo": [peers["gloo"]["python"], str(HERE / "gloo_all_reduce.py")],
                "open_mpi": [str(BUILD / "mpi_all_reduce")], "mpich": [str(BUILD / "mpich_all_reduce")]}
    return [str(HERE / "wan_rank.sh"), str(folder), options.peer_cc, peer, *programs[peer], *rules, str(timed),
            *map(str, sizes)]


def results_of(peer, folder, printed):
    """Size -> times, as far as the run got."""
    found = {}
    if peer == "longspan":
        try:
            rows = json.loads((folder / "result.json").read_text())
        except (OSError, ValueError):
            return found
        for row in rows["results"]:
            found[row["size"]] = {"time_us": row["time_us"], "min_us": row["min_us"], "p90_us": row["p90_us"],
                                  "algorithm": row.get("algorithm"), "wrong": row["wrong"]}
        return found
    for line in printed.splitlines():
        match = re.fullmatch(r"(\d+) ([\d.]+) (\d+) ([\d.]+) ([\d.]+)", line.strip())
        if match:
            found[int(match[1])] = {"time_us": float(match[2]), "iterations": int(match[3]),
                                    "min_us": float(match[4]), "max_us": float(match[5])}
    return found


def lab_of(folder):
    try:
        report = json.loads((folder / "lab.json").read_text())
    except (OSError, ValueError):
        return None
    links = report["links"]
    return {"valid": report["valid"], "reasons_invalid": report["reasons_invalid"],
            "dropped_packets": sum(link["dropped_packets"] for link in links),
            "lost_packets": sum(link["lost_packets"] for link in links),
            "largest_queue_bytes": max(link["largest_queue_bytes"] for link in links),
            "stolen_share": report["stolen_share"]}


def last_words(text):
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("lab:")]
    telling = [line for line in lines if re.search(r"error|fail|abort|unable|refused|wrong", line, re.IGNORECASE)]
    return (telling or lines or ["no output"])[-1][:200]


def run_once(peer, peers, case, sizes, bounds, round_number, options):
    """One run of the lab: a record for each of `sizes`."""
    folder = Path(tempfile.mkdtemp(prefix="longspan-wan-"))
    try:
        (folder / "topology.toml").write_text(topology_text(case, options))
        (folder / "nsswitch.conf").write_text("hosts: files\npasswd: files\ngroup: files\n")
        names = "".join(f"{address} {name}\n" for address, name, _ in HOSTS)
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + names)
        for rank in range(1, len(HOSTS)):
            os.mkfifo(folder / f"end.{rank}")
        box = START_S + options.box * len(sizes)
        command = [str(BUILD / "longspan-lab"), "run", "--topology", str(folder / "topology.toml"),
                   "--prefix", "others", "--grace", "5s", "--timeout", f"{box:.0f}s", "--seed", str(round_number + 1),
                   "--allow-invalid", "--json", str(folder / "lab.json"), "--quiet", "--",
                   *command_of(peer, peers, case, sizes, folder, bounds, options)]
        began = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=box + 20, check=False)
            code, printed, errors = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as late:
            code, printed, errors = 124, (late.stdout or b"").decode(), "the lab itself did not end"
        wall = time.monotonic() - began
        found = results_of(peer, folder, printed)
        lab = lab_of(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    records = []
    ended = False
    for size in sizes:
        record = {"peer": peer, "round": round_number, **case, "size": size, "status": "ok", **found.get(size, {}),
                  "lab": lab, "lab_covers_sizes": sizes,
                  "budget_s": options.budget, "wall_s": round(wall, 2)}
        if record.get("wrong"):
            record.update(status="failed", message=f"{record['wrong']} wrong elements")
        if size not in found:
            status = "not reached" if ended else "timeout" if code == 124 else "failed"
            record.update(status=status, message={"failed": f"exit code {code}: {last_words(printed + errors)}",
                                                  "timeout": f"the run's {box:.0f} s were up",
                                                  "not reached": "a smaller size did not end"}[status])
            ended = True
        elif code != 0:
            record["message"] = f"measured, then the run ended with {code}: {last_words(printed + errors)}"
        records.append(record)
    return records


# --- the whole comparison ---------------------------------------------------------------------------------------------

def key_of(record):
    return record["peer"], record["round"], record["rtt_ms"], record["loss"], record["buffer"], record["size"]


def case_key(record):
    return record["rtt_ms"], record["loss"], record["buffer"], record["size"]


def cells_of(results):
    """Medians over rounds, one cell for each case, size and peer."""
    groups = {}
    for run in results["runs"]:
        groups.setdefault((case_key(run), run["peer"]), []).append(run)
    cells = []
    for (key, peer), runs in sorted(groups.items()):
        times = [run["time_us"] for run in runs if run["status"] == "ok"]
        bound = results["bounds_us"][json.dumps(key)]
        cell = dict(zip(("rtt_ms", "loss", "buffer", "size"), key))
        cell.update(peer=peer, rounds=len(runs), ok=len(times), bound_us=bound,
                    invalid=sum(1 for run in runs if run["lab"] and not run["lab"]["valid"]),
                    failures=sorted({f"{run['status']}: {run['message']}" for run in runs if run["status"] != "ok"}))
        if times:
            median = statistics.median(times)
            cell.update(time_us=median, best_us=min(times), worst_us=max(times), bound_percent=100 * bound / median)
        cells.append(cell)
    return cells


def size_name(size):
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


def case_name(cell):
    buffer = f"{cell['buffer'] / 1e6:g} MB" if cell["buffer"] >= 1e6 else f"{cell['buffer'] / 1e3:g} KB"
    return f"{cell['rtt_ms']:g} ms, {buffer}, loss {cell['loss']:g}"


def cell_text(cell, peer_found):
    if cell is None:
        return "not run" if peer_found else "not installed"
    if cell["ok"] == 0:
        return cell["failures"][0].split(":")[0]
    text = f"{cell['time_us'] / 1e3:.4g} ms {cell['bound_percent']:.1f} %"
    if cell["invalid"]:
        text += "*"
    return text if cell["ok"] == cell["rounds"] else f"{text} ({cell['ok']}/{cell['rounds']})"


def table(results):
    cells = cells_of(results)
    by_key = {(case_key(cell), cell["peer"]): cell for cell in cells}
    peers = list(results["peers"])
    rows = [["RTT, buffer, loss", "size", "bound", *(NAMES[peer] for peer in peers)]]
    for key in sorted({case_key(cell) for cell in cells}):
        any_cell = next(cell for cell in cells if case_key(cell) == key)
        rows.append([case_name(any_cell), size_name(key[3]), f"{any_cell['bound_us'] / 1e3:.4g} ms",
                     *(cell_text(by_key.get((key, peer)), results["peers"][peer]["version"]) for peer in peers)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    lines = ["| " + " | ".join(word.ljust(width) for word, width in zip(row, widths)) + " |" for row in rows]
    counts = sorted({cell["rounds"] for cell in cells})
    rounds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else counts[0] if counts else 0
    lines += ["", f"Medians over {rounds} round(s) of each run's median; % of longspan's bound."]
    if any(cell["invalid"] for cell in cells):
        lines.append("* at least one of the lab's runs was invalid: the emulator itself was late (docs/lab.md)")
    for cell in cells:
        for failure in cell["failures"]:
            lines.append(f"{NAMES[cell['peer']]}, {case_name(cell)}, {size_name(cell['size'])}: {failure}")
    return "\n".join(lines)


def save(results, options):
    options.out.mkdir(parents=True, exist_ok=True)
    results["cells"] = cells_of(results)
    text = json.dumps({**results, "runs": []}, indent=1)
    runs = ",\n".join("  " + json.dumps(run) for run in results["runs"])
    text = text.replace('"runs": []', f'"runs": [\n{runs}\n ]')  # a line for each run
    (options.out / "wan.json.new").write_text(text + "\n")
    (options.out / "wan.json.new").replace(options.out / "wan.json")
    if results["cells"]:
        (options.out / "wan.svg").write_text(wan_plot.draw(results, NAMES))


def load(options, peers):
    results = {"what": "allreduce fp32 sum, 2 regions x 2 hosts, one rank a host: longspan-lab, rounds interleaved"}
    file = options.out / "wan.json"
    if file.exists():
        results = json.loads(file.read_text())
        if not options.report_only and (results["rate"], results["nic"]) != (options.rate, options.nic):
            sys.exit(f"wan.py: {file} has results for {results['rate']}, NICs {results['nic']}; choose another --out")
    elif options.report_only:
        sys.exit(f"wan.py: --report-only, but there is no {file}")
    results.setdefault("bounds_us", {})
    results.setdefault("runs", [])
    if options.report_only:
        return results
    again = set(filter(None, options.again.split(",")))
    results["runs"] = [run for run in results["runs"] if run["peer"] not in again]
    results.update(date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ"), rate=options.rate,
                   nic=options.nic, rounds=max(options.rounds, results.get("rounds", 0)), machine=machine(),
                   peer_congestion_control=options.peer_cc)
    known = results.setdefault("peers", {})
    for peer in NAMES:
        if peer in options.peers or peer in known:
            known[peer] = {key: value for key, value in peers[peer].items() if key != "python"}
    return results


def plan_runs(results, peers, options):
    """(round, case, peer, sizes) still to do. longspan has a run for each size; a peer's launcher is slow, so it has
    one run for all. Each round begins with another peer: what drifts does not favour one."""
    done = {key_of(run) for run in results["runs"]}
    cases = [{"rtt_ms": rtt, "loss": loss, "buffer": buffer}
             for rtt in options.rtts for buffer in options.buffers for loss in options.losses]
    present = [peer for peer in options.peers if peers[peer]["version"]]
    for round_number in range(options.rounds):
        for case in cases:
            for i in range(len(present)):
                peer = present[(i + round_number) % len(present)]
                groups = [[size] for size in options.sizes] if peer == "longspan" else [options.sizes]
                for sizes in groups:
                    left = [size for size in sizes
                            if key_of({"peer": peer, "round": round_number, **case, "size": size}) not in done]
                    if left:
                        yield round_number, case, peer, left


def guess_seconds(peer, case, sizes, results, box):
    same = [run["wall_s"] for run in results["runs"] if run["peer"] == peer and run["lab_covers_sizes"] == sizes
            and all(run[name] == case[name] for name in case)]
    return max(same) * 1.1 if same else min(box, 30)


def compare(results, peers, options):
    began = time.monotonic()
    work = list(plan_runs(results, peers, options))
    for index, (round_number, case, peer, sizes) in enumerate(work):
        left = options.stop_after - (time.monotonic() - began)
        if guess_seconds(peer, case, sizes, results, START_S + options.box * len(sizes)) > left:
            print(f"--stop-after: {len(work) - index} of {len(work)} runs are left; the same command goes on with them")
            return False
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "topology.toml"
            file.write_text(topology_text(case, options))
            bounds = {size: bound_us(file, size) for size in sizes}
        for size, bound in bounds.items():
            results["bounds_us"][json.dumps((case["rtt_ms"], case["loss"], case["buffer"], size))] = bound
        records = run_once(peer, peers, case, sizes, bounds, round_number, options)
        results["runs"] += records
        save(results, options)
        told = "; ".join(f"{size_name(record['size'])} " + (
            f"{record['time_us'] / 1e3:.4g} ms" if record["status"] == "ok"
            else f"{record['status']}: {record['message']}") for record in records)
        print(f"{index + 1}/{len(work)} round {round_number + 1}, {case_name(case)}, {NAMES[peer]}: {told}"
              f"  ({records[0]['wall_s']:.1f} s)", flush=True)
    return True


def main():
    options = parse_options()
    if options.report_only:
        results = load(options, None)
        save(results, options)
        print(table(results))
        return 0
    if not (BUILD / "longspan-lab").exists():
        sys.exit("wan.py: no release build: cmake --preset release && cmake --build --preset release")
    peers = find_peers()
    for peer in options.peers:
        if not peers[peer]["version"]:
            print(f"{NAMES[peer]} is skipped, not installed: {peers[peer]['install']}")
    results = load(options, peers)
    complete = compare(results, peers, options)
    save(results, options)
    print("\n" + table(results))
    print(f"\nsaved in {options.out}: wan.json wan.svg")
    return 0 if complete else 75  # EX_TEMPFAIL: more to do


if __name__ == "__main__":
    sys.exit(main())
