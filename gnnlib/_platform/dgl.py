"""Import of DGL on any version of PyTorch. No other module depends on how DGL is packaged.

DGL 2.x imports ``dgl.graphbolt`` on the way to ``dgl.distributed``. GraphBolt needs a binary built
for one version of PyTorch and ``torchdata.datapipes``, which torchdata removed in 0.10; without them
``import dgl`` fails, although nothing else in DGL needs GraphBolt. If GraphBolt cannot load,
a placeholder module is registered under its name before DGL is imported. A DGL whose GraphBolt can load, or
one without GraphBolt (1.1.3), is not changed.

Import ``gnnlib`` before ``dgl``, also in spawned workers that unpickle a ``DGLGraph``.

Example:
    >>> from gnnlib._platform.dgl import dgl
    >>> dgl.graph(([0, 1], [1, 2])).num_edges()
    2
"""

import importlib
import importlib.util
import os
import re
import sys
import warnings
from functools import cache, wraps
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import torch

from gnnlib._platform.modules import module_as

__all__ = ["HAS_DGL", "check_dgl", "dgl", "has_graphs_on"]

NO_DGL = (
    "expected DGL, which is not installed; install it with pip install 'dgl>=1.1.3,<3' (Python 3.10 to 3.12), "
    "or gnnlib install-dgl"
)
NO_CUDA = "leave the graph on the CPU and move the features, for which gnnlib copies the edges"
OLDEST = (1, 1, 3)
NAME = "dgl.graphbolt"
# What GraphBolt imports beyond DGL's declared dependencies, and where to get it.
GRAPHBOLT_NEEDS = {"torchdata.datapipes": "'torchdata<0.10'", "pydantic": "pydantic", "yaml": "pyyaml"}


class _Placeholder(ModuleType):
    """A placeholder for a module that cannot load. Any use raises ImportError with the reason."""

    def __init__(self, name: str, reason: str, class_name: str):
        super().__init__(name, reason)
        self.__spec__ = ModuleSpec(name, loader=None, origin="placeholder made by gnnlib")
        self._reason = reason
        # A class for isinstance and annotations; nothing is an instance of it.
        options = {"__doc__": reason, "__new__": lambda cls, *args, **options: self._explain(class_name)}
        setattr(self, class_name, type(class_name, (), options))

    def _explain(self, name: str) -> NoReturn:
        raise ImportError(f"{self.__name__}.{name}: {self._reason}", name=self.__name__)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # import machinery, inspection and notebooks probe these
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self._explain(name)


def _findable(name: str) -> bool:
    """Whether a module, or a subpackage of a package, is installed; nothing is imported."""
    parent, _, child = name.partition(".")
    spec = importlib.util.find_spec(parent)
    if spec is None or not child:
        return spec is not None
    return any(Path(folder, child).is_dir() for folder in spec.submodule_search_locations or ())


def _why_graphbolt_cannot_load(package: Path, torch_version: str) -> str | None:
    """The reason as a paragraph for the user; None if GraphBolt is complete or not part of this DGL."""
    folder = package / "graphbolt"
    if not (folder / "__init__.py").exists():
        return None
    names = (re.search(r"graphbolt_pytorch_([\d.]+)\.(so|dylib|dll)$", f.name) for f in folder.glob("*graphbolt_*"))
    built = sorted((m[1] for m in names if m), key=_numbers)
    version = torch_version.split("+")[0]
    missing = [f"its binary for PyTorch {version}"] if version not in built else []
    missing += [name for name in GRAPHBOLT_NEEDS if not _findable(name)]
    if not missing:
        return None
    torches = " to ".join(dict.fromkeys([built[0], built[-1]])) if built else "as your DGL was built for"
    return (
        f"expected GraphBolt, but this DGL lacks {', '.join(missing)}, so gnnlib put a placeholder in its place. "
        "DGL graphs, message passing, samplers, loaders and distributed training work without it. "
        f"GraphBolt itself needs PyTorch {torches}, {', '.join(GRAPHBOLT_NEEDS.values())}."
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


def _check_version(version: str) -> None:
    if _numbers(version) < OLDEST:
        raise ImportError(
            f"gnnlib: expected DGL {'.'.join(map(str, OLDEST))} or newer, got {version}, which pip chooses where no "
            "wheel fits; replace it with gnnlib install-dgl --upgrade",
            name="dgl",
        )


def _version_on_disk(package: Path) -> str | None:
    """DGL's version, read without importing it: the import of one that is too old would fail."""
    try:
        match = re.search(r'^__version__ = "(.+)"', (package / "_ffi" / "libinfo.py").read_text("utf-8"), re.MULTILINE)
    except OSError:
        return None
    return match[1] if match else None


def _attach_submodules() -> None:
    """Sets DGL's submodules as attributes of their packages, which a failed ``import dgl`` before does not do."""
    for name, module in list(sys.modules.items()):
        parent, _, child = name.rpartition(".")
        if name.startswith("dgl.") and parent in sys.modules and child not in vars(sys.modules[parent]):
            setattr(sys.modules[parent], child, module)


def _import_dgl() -> None:
    """Imports DGL. Afterwards ``import dgl`` works everywhere in this process."""
    loaded = sys.modules.get("dgl")
    if loaded is not None:
        _check_version(loaded.__version__)
        return
    spec = _dgl_spec()
    if spec is None or spec.origin is None:
        return
    package = Path(spec.origin).parent
    _check_version(_version_on_disk(package) or "1.1.3")
    os.environ.setdefault("DGLBACKEND", "pytorch")  # else DGL writes a file into the home directory
    warnings.filterwarnings("ignore", "invalid escape sequence", module=r".*\bdgl\Wbackend\Wbackend$")
    reason = _why_graphbolt_cannot_load(package, torch.__version__)
    if reason:
        sys.modules[NAME] = _Placeholder(NAME, reason, "FusedCSCSamplingGraph")
    try:
        # DGL 2 imports ogb where it is installed, and ogb would ask the package index from a thread.
        with module_as("outdated", None):
            importlib.import_module("dgl")
    except BaseException:
        if reason:
            del sys.modules[NAME]
        raise
    _attach_submodules()


def _explain_to_cuda(graph: type) -> None:
    """Makes ``graph.to("cuda")`` on a DGL without CUDA say what to write, beside the error of DGL's library."""
    to = graph.to  # type: ignore[attr-defined]

    @wraps(to)
    def explained(self, device, **options):
        try:
            return to(self, device, **options)
        except Exception as error:
            if "is not enabled" not in str(error):
                raise
            message = f"DGLGraph.to: expected a DGL with CUDA for {str(device)!r}, got one for the CPU; {NO_CUDA}"
            raise type(error)(message) from error

    graph.to = explained  # type: ignore[attr-defined]


def _dgl_spec() -> ModuleSpec | None:
    """Where DGL is; None if it is not installed, or ``sys.modules["dgl"]`` is None, which blocks its import."""
    return None if sys.modules.get("dgl", "") is None else importlib.util.find_spec("dgl")


_import_dgl()
if sys.modules.get("dgl") is not None:
    import dgl

    _explain_to_cuda(dgl.DGLGraph)
    HAS_DGL = True
else:
    HAS_DGL = False
    dgl = _Placeholder("dgl", NO_DGL, "DGLGraph")


@cache
def has_graphs_on(kind: str) -> bool:
    """Whether this DGL has graphs on a type of device: on "cuda" only if it was built with CUDA."""
    return kind == "cpu" or (kind == "cuda" and bool(dgl.ndarray.gpu(0).exist))


def check_dgl(owner: str) -> None:
    """Whether DGL is installed, for what it alone can do.

    Raises:
        ImportError: if it is not, with what to install
    """
    if not HAS_DGL:
        raise ImportError(f"{owner}: {NO_DGL}", name="dgl")
