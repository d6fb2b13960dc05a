#!/usr/bin/env python3
"""What happens when a WAN link is not what the topology states. On the lab: 2 regions x 2 hosts, stated 1 Gbit/s, 40 ms
RTT, 8 MB buffer; allreduces of 64 MiB one after the other while the link really carries less, loses half its rate for a
while, or is shared with a TCP flow that knows nothing of us (iperf3). Prints every iteration against the bound of the
real link, how long it took to settle, and what was dropped.

  cmake --preset release && cmake --build --preset release
  perf/wan/mis_stated.py [--rows less,half,shared,truthful,lossy] [--bin build/release/bin] [--json FILE]
"""
import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
STATED = 1000.0  # Mbit/s
SIZE = 64 << 20
ONE_WAY = 0.020
SETTLED = 0.85   # of the real bound


def topology(rate, loss=0.0):
    text = "version = 1\n"
    for region, net in (("eu", 0), ("us", 1)):
        for host in (1, 2):
            text += f'[[host]]\nname = "{region}-{host}"\nregion = "{region}"\n'
            text += f'address = "10.77.{net}.{host}"\nnic = "5 Gbit/s"\n'
    return text + (
        f'[[wan]]\nfrom = "eu"\nto = "us"\nbandwidth = "{rate:g} Mbit/s"\nlatency = "20 ms"\nbuffer = "8 MB"\n'
        f"loss = {loss:g}\n"
    )


def bound(rate):
    return SIZE / (rate * 1e6 / 8) + ONE_WAY


def settle(samples, rate):
    """Seconds until iterations reach SETTLED of the bound at this rate and stay there but for single ones (BBR measures
    its round trip every 10 s, which takes 0.2 s)."""
    passed = 0.0
    for i, sample in enumerate(samples):
        if sum(bound(rate) / each >= SETTLED for each in samples[i:i + 2]) == len(samples[i:i + 2]):
            return passed
        passed += sample
    return None


class Run:
    def __init__(self, bin, real, iterations, faults=(), wrapper=None, loss=0.0):
        with tempfile.TemporaryDirectory() as work:
            work = Path(work)
            (work / "told.toml").write_text(topology(STATED))
            (work / "real.toml").write_text(topology(real, loss))
            perf = [
                str(bin / "all_reduce_perf"), "--topology", str(work / "told.toml"), "-b", "64M", "-e", "64M",
                "-w", "0", "-c", "1", "-n", str(iterations), "--links", "-J", str(work / "perf.json"),
            ]
            command = perf
            if wrapper:
                (work / "rank.sh").write_text(wrapper.format(work=work) + '\nexec "$@"\n')
                command = ["bash", str(work / "rank.sh")] + perf
            lab = [
                str(bin / "longspan-lab"), "run", "--topology", str(work / "real.toml"), "--prefix", "others",
                "--json", str(work / "lab.json"), "--timeout", "85s", "--allow-invalid",
            ]
            for fault in faults:
                lab += ["--fault", fault]
            done = subprocess.run(lab + ["--"] + command, capture_output=True, text=True, timeout=120)
            if done.returncode != 0:
                raise SystemExit(done.stdout + done.stderr)
            perf = json.loads((work / "perf.json").read_text())
            lab = json.loads((work / "lab.json").read_text())
            iperf = work / "iperf.json"
            self.competitor = json.loads(iperf.read_text()) if iperf.exists() else None
        result = perf["results"][0]
        self.samples = [us / 1e6 for us in result["samples_us"] + result["in_place"]["samples_us"]]
        self.wrong = result["wrong"] + result["in_place"]["wrong"]
        self.links = perf["links"]
        self.drops = sum(link["dropped_packets"] for link in lab["links"])
        self.packets = sum(link["delivered_packets"] for link in lab["links"])
        self.queue = max(link["largest_queue_bytes"] / link["buffer_bytes"] for link in lab["links"])
        self.valid = lab["valid"]

    def show(self, name, rates):
        print(f"{name}: " + " ".join(f"{sample * 1e3:.0f}" for sample in self.samples) + " ms")
        for rate in rates:
            print(f"  % of the bound at {rate:g} Mbit/s ({bound(rate) * 1e3:.0f} ms): " +
                  " ".join(f"{100 * bound(rate) / sample:.0f}" for sample in self.samples))
        carried = ", ".join(f"{link['link']} {link['capacity_bytes_per_second'] * 8e-6:.0f}" for link in self.links)
        print(f"  at the end a link was found to carry (Mbit/s): {carried}")
        print(
            f"  {self.drops} of {self.packets} packets dropped, largest queue {100 * self.queue:.0f} % of the buffer, "
            f"{self.wrong} wrong{'' if self.valid else '; INVALID RUN'}"
        )

    def summary(self):
        return {
            "samples_s": self.samples, "drops": self.drops, "packets": self.packets, "largest_queue_share": self.queue,
            "valid": self.valid, "wrong": self.wrong, "links": self.links,
        }


def less(bin):
    run = Run(bin, 600, 8)
    run.show("stated 1 Gbit/s, really 600 Mbit/s", [600])
    time = settle(run.samples, 600)
    print(f"  settled after {time:.1f} s" if time is not None else "  NOT settled")
    return dict(run.summary(), settled_s=time)


def half(bin):
    run = Run(bin, STATED, 14, faults=["at=6s wan=eu:us rate=500Mbit/s for=8s both"])
    run.show("500 Mbit/s for 8 s, from 6 s on", [STATED, 500])
    slow = [i for i, sample in enumerate(run.samples) if sample > 1.6 * bound(STATED)]
    first, last = slow[0], slow[-1]
    time = settle(run.samples[first:last + 1], 500)
    back = settle(run.samples[last:], STATED)
    print(f"  settled after {time:.1f} s" if time is not None else "  NOT settled", end="")
    print(f"; back within {back:.1f} s after the last slow iteration began" if back is not None else "; NOT back")
    return dict(run.summary(), settled_s=time, back_s=back)


def shared(bin):
    # The competitor's packets share the queue from its start to its end; its JSON says what it got.
    wrapper = """
if [ "$RANK" = 2 ]; then iperf3 -s -1 >/dev/null 2>&1 & fi
if [ "$RANK" = 0 ]; then (sleep 7; iperf3 -J -c 10.77.1.1 -C cubic -t 8 >{work}/iperf.json 2>/dev/null) & fi
"""
    run = Run(bin, STATED, 18, wrapper=wrapper)
    run.show("beside a CUBIC flow for 8 s, from 7 s on", [STATED, STATED / 2])
    theirs = run.competitor["end"]["sum_sent"]["bits_per_second"] / 1e6 if run.competitor else 0
    print(f"  the competitor got {theirs:.0f} Mbit/s")
    return dict(run.summary(), competitor_mbps=theirs)


def truthful(bin):
    run = Run(bin, STATED, 10)
    run.show("as stated", [STATED])
    return run.summary()


def lossy(bin):
    run = Run(bin, STATED, 8, loss=0.01)
    run.show("1 % random loss that nobody stated", [STATED])
    return run.summary()


ROWS = {"less": less, "half": half, "shared": shared, "truthful": truthful, "lossy": lossy}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help="of " + ",".join(ROWS))
    parser.add_argument("--bin", default=str(ROOT / "build/release/bin"))
    parser.add_argument("--json", help="write what was measured here")
    arguments = parser.parse_args()
    measured = {}
    for row in arguments.rows.split(","):
        measured[row] = ROWS[row](Path(arguments.bin).resolve())
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("LONGSPAN_LOG", "warn")
    main()
