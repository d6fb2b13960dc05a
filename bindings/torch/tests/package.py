"""The package as it is installed: what its metadata says, and that `import torch` never breaks by it.

python package.py BUILD_FOLDER: installs the built package into a folder of its own with the metadata of its wheel, and
imports it from there in other processes. Exit code 77: torch is missing.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = os.path.dirname(HERE)


def python(site, code, **environment):
    """What a process that finds the package in `site` prints; its exit code and errors too."""
    environment = {**os.environ, "PYTHONPATH": site, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, cwd=site
    )
    return done.returncode, done.stdout.strip(), done.stderr


def works(site, code, **environment):
    code, out, err = python(site, code, **environment)
    assert code == 0, f"{out}\n{err}"
    return out


def fails(site, code, *words, **environment):
    code, out, err = python(site, code, **environment)
    assert code != 0, f"no error: {out}"
    for word in words:
        assert word in err, f"says {err}, not {word!r}"


def install(build, site):
    subprocess.run(
        ["cmake", "--install", build, "--component", "python", "--prefix", site], check=True, stdout=subprocess.DEVNULL
    )
    code = (
        f"import os; os.chdir({SOURCES!r}); "
        f"from scikit_build_core.build import prepare_metadata_for_build_wheel as p; p({site!r})"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return made.returncode == 0 or print(f"no metadata, so without it: {made.stderr.strip().splitlines()[-1]}")


INIT = """
import torch.distributed as dist
dist.init_process_group("longspan", store=dist.HashStore(), rank=0, world_size=1)
tensor = torch.ones(2)
dist.all_reduce(tensor)
assert tensor.tolist() == [1, 1]
dist.destroy_process_group()
"""


def check_one_library(site):
    found = [name for name in os.listdir(os.path.join(site, "longspan")) if name.startswith("liblongspan")]
    assert len(found) == 1, f"a wheel has no links, so each of {found} would be a copy"


def check_metadata(site):
    folder = next(entry for entry in os.listdir(site) if entry.endswith(".dist-info"))
    with open(os.path.join(site, folder, "METADATA"), encoding="utf-8") as file:
        requirement = re.search(r"^Requires-Dist: (.*)$", file.read(), re.MULTILINE).group(1)
    minor = works(site, "import torch; print('.'.join(torch.__version__.split('+')[0].split('.')[:2]))")
    assert requirement.replace(" ", "") == f"torch=={minor}.*", requirement
    with open(os.path.join(site, folder, "entry_points.txt"), encoding="utf-8") as file:
        text = file.read()
    assert "[torch.backends]" in text and "[torch.distributed.backends]" in text


def check_autoload(site):
    loaded = "import torch, sys; print('longspan' in torch.distributed.Backend.backend_list, 'longspan' in sys.modules)"
    assert works(site, loaded) == "True False", "known to torch without an import, and not imported before it is used"
    assert works(site, loaded, TORCH_DEVICE_BACKEND_AUTOLOAD="0") == "False False"
    works(site, "import torch" + INIT)


def check_imports(site):
    works(site, "import longspan, torch" + INIT)
    works(
        site,
        "import importlib, longspan, longspan_autoload, torch; importlib.reload(longspan); longspan._register(); "
        "longspan_autoload.autoload(); import torch.distributed as d; assert d.Backend.backend_list.count('longspan') "
        "== 1" + INIT,
    )


def check_broken_packages(site):
    with open(os.path.join(site, "longspan", "_built_for.py"), "w", encoding="utf-8") as file:
        file.write('TORCH_MINOR = "2.99"\n')
    assert works(site, "import torch; print(torch.ones(1).item())") == "1.0"
    fails(site, "import longspan", "built for torch 2.99", "wheel of longspan for torch", "ImportError")
    os.remove(os.path.join(site, "longspan", "_built_for.py"))
    fails(site, "import longspan", "source folder")
    with open(os.path.join(site, "longspan", "_built_for.py"), "w", encoding="utf-8") as file:
        file.write(
            works(
                site,
                "import torch; print('TORCH_MINOR = %r' % '.'.join(torch.__version__.split('+')[0].split('.')[:2]))",
            )
        )
    for name in os.listdir(os.path.join(site, "longspan")):
        if name.startswith("liblongspan"):
            os.remove(os.path.join(site, "longspan", name))
    assert works(site, "import torch; print(torch.ones(1).item())") == "1.0"
    fails(site, "import longspan", "liblongspan", "ImportError")
    shutil.rmtree(os.path.join(site, "longspan"))
    assert works(site, "import torch; print(torch.ones(1).item())") == "1.0"


def main(build):
    if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode != 0:
        print("SKIP: torch is not installed")
        return 77
    with tempfile.TemporaryDirectory() as site:
        with_metadata = install(build, site)
        checks = [check_one_library, check_imports, check_broken_packages]
        for check in [check_metadata, check_autoload, *checks] if with_metadata else checks:
            check(site)
            print(f"ok    {check.__name__}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
