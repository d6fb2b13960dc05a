"""Which torch this package is built for: the one that is installed beside it, also where pip builds in an environment
of its own.

Run as a program it prints the folder of torch's CMake files and its minor version; scikit-build-core asks it for the
wheel's requirement, which names that minor.
"""

import importlib.util
import os
import re
import site
import sys
import sysconfig


def find():
    """Folder and version of torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None:  # pip's isolation hides the interpreter's own packages
        for scheme in ("purelib", "platlib"):
            site.addsitedir(sysconfig.get_paths()[scheme])
        if site.ENABLE_USER_SITE:
            site.addsitedir(site.getusersitepackages())
        importlib.invalidate_caches()
        spec = importlib.util.find_spec("torch")
    if spec is None:
        raise SystemExit(
            f"longspan's process group needs PyTorch in {sys.executable}, and is built for it: pip install torch, then "
            f"try again"
        )
    folder = os.path.dirname(spec.origin)
    with open(os.path.join(folder, "version.py"), encoding="utf-8") as file:
        version = re.search(r"""__version__ = ['"]([^'"]+)""", file.read()).group(1)
    return folder, version


def minor():
    return ".".join(find()[1].split("+")[0].split(".")[:2])


def dynamic_metadata(settings, project):
    return {"dependencies": [f"torch=={minor()}.*"]}


if __name__ == "__main__":
    print(os.path.join(find()[0], "share", "cmake"))
    print(minor())
