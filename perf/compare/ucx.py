#!/usr/bin/env python3
"""Messages of 4 MiB over our ucx transport beside UCX's own ucx_perftest, over the same UCX transports, two processes
of this host, in turn, since machines have moods. Prints each pair and the medians; -o FILE keeps them as JSON.

    perf/compare/ucx.py build/release/bin [-o FILE] [--rounds 7] [--tls tcp,self --tls posix,cma,self]
"""
import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time

BYTES = 4 << 20
COUNT = 512


def ours(programs, tls):
    """GB/s, and microseconds of 1 KiB one way."""
    run = subprocess.run(
        [f"{programs}/transport_bench", "ucx", "0", str(BYTES), str(COUNT), "20000", "spin"],
        env={**os.environ, "UCX_TLS": tls}, capture_output=True, text=True, timeout=60, check=True,
    )
    found = re.search(r"^ucx .* messages +([\d.]+) GB/s; 1 KiB one way +([\d.]+) us", run.stdout, re.M)
    if not found:
        sys.exit(f"transport_bench said nothing of ucx: was it built with UCX?\n{run.stdout}")
    return float(found[1]), float(found[2])


def theirs(tls, test, size, count):
    """The average of all messages: MB/s (of 2^20 bytes), microseconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    env = {**os.environ, "UCX_TLS": tls}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(["ucx_perftest", "-p", port], env=env, **quiet)
    try:
        for _ in range(100):
            client = subprocess.run(
                ["ucx_perftest", "-p", port, "127.0.0.1", "-t", test, "-s", str(size), "-n", str(count), "-w", "20"],
                env=env, capture_output=True, text=True, timeout=60,
            )
            final = re.search(r"^Final:\s+(.*)$", client.stdout, re.M)
            if final:
                columns = [float(each) for each in final[1].split()]
                return columns[5], columns[3]
            time.sleep(0.05)  # it does not listen yet
    finally:
        server.kill()
        server.wait()
    sys.exit(f"ucx_perftest -t {test} did not run with UCX_TLS={tls}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", help="the folder of transport_bench (a release build)")
    parser.add_argument("-o", "--output")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tls", action="append", help="UCX_TLS to compare over")
    arguments = parser.parse_args()
    if shutil.which("ucx_perftest") is None:
        sys.exit("SKIP: ucx_perftest is not installed (Debian: ucx-utils)")
    rows = []
    for tls in arguments.tls or ["tcp,self", "posix,self", "posix,cma,self"]:
        pairs = []
        for _ in range(arguments.rounds):
            rate, latency = ours(arguments.programs, tls)
            peer_rate = theirs(tls, "ucp_am_bw", BYTES, COUNT)[0] * (1 << 20) / 1e9
            peer_latency = theirs(tls, "ucp_am_lat", 1024, 20_000)[1]
            pairs.append(
                {
                    "ours_GBps": rate,
                    "ucx_perftest_GBps": round(peer_rate, 2),
                    "ours_1KiB_us": latency,
                    "ucx_perftest_1KiB_us": peer_latency,
                }
            )
            print(
                f"{tls:16} ours {rate:6.2f} GB/s {latency:6.2f} us; ucx_perftest {peer_rate:6.2f} GB/s "
                f"{peer_latency:6.2f} us",
                flush=True,
            )
        median = {key: statistics.median(pair[key] for pair in pairs) for key in pairs[0]}
        percent = round(100 * median["ours_GBps"] / median["ucx_perftest_GBps"], 1)
        print(
            f"{tls:16} median {median['ours_GBps']:.2f} beside {median['ucx_perftest_GBps']:.2f} GB/s: {percent} %",
            flush=True,
        )
        rows.append({"UCX_TLS": tls, "bytes": BYTES, "median": median, "percent": percent, "pairs": pairs})
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as file:
            json.dump({"program": "perf/compare/ucx.py", "cores": os.cpu_count(), "rows": rows}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
