#!/usr/bin/env python3
"""Runs a command in a virtual machine: another kernel, this machine's files.

    tests/rdma_vm/vm.py [--check] [--kernel DIR] [--cpus N] [--memory MiB] [--timeout S] [--out DIR] -- COMMAND...

QEMU boots the kernel that fetch_kernel.sh unpacked. This machine's root file system is the machine's root, shared
read-only; what the command writes is gone afterwards, except under /run/out, which is DIR. The command's output streams
to standard output, and its exit code is that of this program. 124: the deadline passed; 125: the machine did not come
up (the end of its kernel's log is printed then). With /dev/kvm it boots in seconds; without, QEMU emulates the
processor.
"""

import argparse
import gzip
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
# Before the root file system is there; everything else is loaded by modprobe from the kernel's folder.
FIRST_MODULES = ["virtio_pci", "9p", "9pnet_virtio", "overlay", "virtio_console"]


def arguments():
    parser = argparse.ArgumentParser(
        description="Runs a command in a virtual machine that shares this machine's files."
    )
    parser.add_argument("--kernel", type=pathlib.Path, default=HERE.parent.parent / "build" / "rdma_vm" / "kernel")
    parser.add_argument("--cpus", type=int, default=max(2, min(4, os.cpu_count() or 2)))
    parser.add_argument("--memory", type=int, default=3072, help="MiB")
    parser.add_argument("--timeout", type=float, default=300, help="seconds, boot included")
    parser.add_argument("--out", type=pathlib.Path, help="folder that the command sees, writable, as /run/out")
    parser.add_argument("--check", action="store_true", help="only say whether a machine can be started here")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.command[:1] == ["--"]:
        given.command = given.command[1:]
    if not given.command and not given.check:
        parser.error("what is to run? vm.py [options] -- COMMAND...")
    return given


def missing(kernel):
    """Why no machine can be started here; None: one can."""
    for program in ("qemu-system-x86_64", "busybox"):
        if shutil.which(program) is None:
            return f"there is no {program} (cmake/setup.sh --vm)"
    if not (kernel / "vmlinuz").exists():
        return f"there is no kernel in {kernel} (cmake/setup.sh --vm)"
    return None


def module_files(kernel, release):
    """The modules that are needed first, each after those that it depends on."""
    files = []
    for name in FIRST_MODULES:
        listed = subprocess.run(["/sbin/modprobe", "-d", kernel, "-S", release, "--show-depends", name],
                                check=True, capture_output=True, text=True).stdout
        for line in listed.splitlines():
            words = line.split()
            if words and words[0] == "insmod" and words[1] not in files:
                files.append(words[1])
    return files


def command_script(given):
    """What runs inside, in the same folder and environment as here."""
    lines = ["set +e", f"cd {shlex.quote(os.getcwd())}", "export OUT=/run/out"]
    for name in ("PATH", "HOME", "LANG"):
        if name in os.environ:
            lines.append(f"export {name}={shlex.quote(os.environ[name])}")
    lines += [
        f"export {name}={shlex.quote(value)}" for name, value in os.environ.items() if name.startswith("LONGSPAN_")
    ]
    lines.append("ulimit -n 65536 -l unlimited")
    lines.append(shlex.join(given.command))
    return "\n".join(lines) + "\n"


def initial_file_system(given, folder):
    """The archive that the kernel unpacks into its first root: busybox, the first modules, init, the command."""
    release = (given.kernel / "release").read_text().strip()
    root = folder / "initial"
    for name in ("bin", "proc", "sys", "dev", "modules"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), root / "bin" / "busybox")
    shutil.copy(HERE / "init.sh", root / "init")
    (root / "init").chmod(0o755)
    order = []
    for path in module_files(given.kernel, release):
        shutil.copy(path, root / "modules")
        order.append(os.path.basename(path))
    (root / "modules" / "order").write_text("".join(name + "\n" for name in order))
    (root / "modules" / "folder").write_text(f"{given.kernel}/lib/modules/{release}\n")
    (root / "command.sh").write_text(command_script(given))
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    archive = subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], cwd=root, input=names.encode(), check=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    packed = folder / "initial.cpio.gz"
    packed.write_bytes(gzip.compress(archive, 1))
    return packed


def can_virtualise():
    """A machine that is itself virtual may have /dev/kvm without what it needs of the processor; QEMU then hangs."""
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    return ("vmx" in flags or "svm" in flags) and os.access("/dev/kvm", os.R_OK | os.W_OK)


def qemu_command(given, folder, initial):
    accelerators = ["-accel", "kvm"] if can_virtualise() else []
    command = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", *accelerators,
        "-accel", "tcg,thread=multi", "-cpu", "max,arch-capabilities=off", "-smp", str(given.cpus),
        "-m", str(given.memory), "-kernel", str(given.kernel / "vmlinuz"), "-initrd", str(initial),
        "-append", "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable",
        "-serial", f"file:{folder / 'kernel.log'}",
        "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=host,mount_tag=host", "-device", "virtio-serial-pci",
        "-chardev", "stdio,id=output,signal=off", "-device", "virtserialport,chardev=output,name=output",
        "-chardev", f"file,id=status,path={folder / 'status'}", "-device", "virtserialport,chardev=status,name=status",
        "-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random",
    ]
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        command += ["-fsdev", f"local,id=out,path={given.out.resolve()},security_model=none",
                    "-device", "virtio-9p-pci,fsdev=out,mount_tag=out"]
    return command


def main():
    given = arguments()
    given.kernel = given.kernel.resolve()
    why_not = missing(given.kernel)
    if given.check:
        print(why_not or "a machine can be started")
        return 1 if why_not else 0
    if why_not:
        print(f"vm: {why_not}", file=sys.stderr)
        return 125
    with tempfile.TemporaryDirectory(prefix="longspan-vm-") as name:
        folder = pathlib.Path(name)
        command = qemu_command(given, folder, initial_file_system(given, folder))
        deadline = time.monotonic() + given.timeout
        # Whose input ends, ends QEMU's end of the line that the output comes by: this one stays open.
        machine = subprocess.Popen(command, stdin=subprocess.PIPE)
        for caught in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(caught, lambda number, _frame: sys.exit(128 + number))
        try:
            machine.wait(timeout=max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"vm: the deadline of {given.timeout:g} s passed", file=sys.stderr)
            print_kernel_log(folder)
            return 124
        finally:
            if machine.poll() is None:
                machine.kill()
                machine.wait()
        status = (folder / "status").read_text().split() if (folder / "status").exists() else []
        if len(status) == 2 and status[0] == "exit":
            if int(status[1]) != 0:
                print_kernel_log(folder)
            return int(status[1])
        print("vm: the machine ended without saying how the command ended", file=sys.stderr)
        print_kernel_log(folder)
        return 125


def print_kernel_log(folder):
    log = folder / "kernel.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    for line in lines[-30:]:
        print(f"vm: kernel: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
