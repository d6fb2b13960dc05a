#!/usr/bin/env python3
"""train.py over two emulated regions, on longspan and on Gloo: the losses must be the same, the steps need not take as
long.

  cmake --preset release -DLONGSPAN_TORCH=ON -DPython3_EXECUTABLE=PYTHON && cmake --build --preset release
  PYTHON bindings/torch/examples/gpt/side_by_side.py          # PYTHON has torch and matplotlib; about two minutes

Writes gpt.json and gpt.png to --out.
"""

import argparse
import datetime
import json
import statistics
import sys
import tempfile
from itertools import accumulate
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
sys.path.insert(0, str(ROOT / "perf" / "torch"))
from ranks import Runner  # noqa: E402

# Sums in another order round otherwise, and training magnifies that step by step: with bf16 it tells of the sums only
# at first.
ALLOWED = {False: 2e-3, True: 5e-3}
COMPARED_STEPS = {False: 1000, True: 20}
COLOURS = {"longspan": "#0a7d5a", "gloo": "#c4622d"}
NAMES = {"longspan": "longspan", "gloo": "Gloo"}


def run(runner, backend, options):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "out.json"
        command = [
            sys.executable,
            str(HERE / "train.py"),
            "--backend",
            backend,
            "--steps",
            str(options.steps),
            "--json",
            str(file),
        ]
        # ranks.py looks for a line of JSON, which train.py writes to a file.
        _, lab = runner.on_lab(
            ["sh", "-c", 'echo "{}"; exec "$@"', "sh", *command, *(["--bf16"] if options.bf16 else [])], backend
        )
        return {**json.loads(file.read_text()), "lab": lab}


def draw(runs, file):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), dpi=110)
    for backend, each in runs.items():
        style = {"color": COLOURS[backend], "label": NAMES[backend]}
        left.plot(list(accumulate(each["seconds"])), each["losses"], **style)
        right.plot(each["seconds"], **{**style, "label": f"{NAMES[backend]}: median {each['median_step_s']:.2f} s"})
    left.set(xlabel="seconds of training", ylabel="loss (nats per character)", title="The same losses, sooner")
    right.set(xlabel="step", ylabel="seconds", title="Time of a step", ylim=(0, None))
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    first = next(iter(runs.values()))
    figure.suptitle(
        f"GPT of {first['parameters'] / 1e6:.1f} M parameters, DDP, {first['ranks']} ranks in two regions "
        f"(1 Gbit/s, 40 ms RTT), {'bf16' if first['bf16'] else 'fp32'}"
    )
    figure.tight_layout()
    figure.savefig(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--only", choices=list(NAMES), help="run this one; the other is in --out already")
    parser.add_argument("--build", default=str(ROOT / "build" / "release"))
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpt")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    runner = Runner(options.build, seconds=300)
    runs = {}
    for backend in NAMES:
        part = options.out / f"{backend}.json"
        if options.only in (None, backend):
            part.write_text(json.dumps(run(runner, backend, options)))
        elif not part.exists():
            print(f"{part} is not there yet")
            return 0
        runs[backend] = json.loads(part.read_text())
        # The first steps make DDP's buckets, and fill the pages of their memory.
        runs[backend]["median_step_s"] = statistics.median(runs[backend]["seconds"][5:])
    pairs = list(zip(runs["longspan"]["losses"], runs["gloo"]["losses"], strict=True))[: COMPARED_STEPS[options.bf16]]
    difference = max(abs(a - b) for a, b in pairs)
    result = {
        "what": "a small GPT, DDP over two regions on the lab",
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
        "largest_difference_of_losses": difference,
        "allowed_difference": ALLOWED[options.bf16],
        "compared_steps": len(pairs),
        "times_as_fast": runs["gloo"]["median_step_s"] / runs["longspan"]["median_step_s"],
        "runs": runs,
    }
    (options.out / "gpt.json").write_text(json.dumps(result) + "\n")
    draw(runs, options.out / "gpt.png")
    for backend, each in runs.items():
        print(
            f"{NAMES[backend]:9} step {each['median_step_s']:.3f} s (median), loss {each['losses'][0]:.3f} -> "
            f"{each['losses'][-1]:.3f}"
            + ("" if each["lab"]["valid"] else ", run invalid: the lab was late by itself")
        )
    print(
        f"longspan is {result['times_as_fast']:.2f} x as fast; losses differ by at most {difference:.1e}; see "
        f"{options.out}/gpt.png"
    )
    if difference > ALLOWED[options.bf16]:
        print(f"the losses differ by more than {ALLOWED[options.bf16]}: one of the two sums wrongly", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
