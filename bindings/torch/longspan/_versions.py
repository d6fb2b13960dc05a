"""Which torch this package was built for."""

try:
    from ._built_for import TORCH_MINOR
except ImportError:  # the sources, not built
    TORCH_MINOR = None


def check_torch(version):
    """Raises ImportError when the module cannot work with this torch: C++ interfaces change with its minor version."""
    if TORCH_MINOR is None:
        raise ImportError(
            "longspan: this is the source folder; build it with `pip install --no-build-isolation ./bindings/torch`"
        )
    found = ".".join(version.split("+")[0].split(".")[:2])
    if found != TORCH_MINOR:
        raise ImportError(
            f"longspan was built for torch {TORCH_MINOR}.x and this is torch {version}: install the wheel of longspan "
            f"for torch {found}, "
            f"or build it here with `pip install --no-build-isolation ./bindings/torch`"
        )
