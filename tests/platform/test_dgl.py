"""DGL on any PyTorch: the placeholder for GraphBolt, its messages, and the functions that work with it."""

import importlib.machinery
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gnnlib._platform.dgl import _Placeholder, dgl

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
PLACEHOLDER = isinstance(sys.modules.get("dgl.graphbolt"), _Placeholder)
needs_placeholder = pytest.mark.skipif(not PLACEHOLDER, reason="this DGL has no GraphBolt, or a complete one")


def python(code: str, *flags: str, path: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a new interpreter, outside the repository."""
    environment = {k: v for k, v in os.environ.items() if k != "DGLBACKEND"}
    environment |= {"PYTHONPATH": str(path), **env}
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(command, env=environment, cwd=path.anchor, capture_output=True, text=True, timeout=120)


# ---- the real DGL of this environment


@needs_placeholder
def test_import_after_failed_import_of_dgl():
    done = python(
        """
import sys
try:
    import dgl
except Exception as error:
    print("plain import:", type(error).__name__)
import gnnlib
from gnnlib._platform.dgl import dgl
import dgl as again
assert again is dgl
lost = [name for name in sys.modules if name.startswith("dgl.")
        and not hasattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2])]
print("lost:", lost)
print(dgl.transforms.AddSelfLoop()(dgl.graph(([0], [1]))).num_edges())
""",
        DGLBACKEND="pytorch",
    )  # else a plain import, the first for a user, says which backend it took
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["plain import: ModuleNotFoundError", "lost: []", "3"]


def test_import_prints_and_writes_nothing(tmp_path):
    home = tmp_path / "absent"
    done = python("import gnnlib, dgl; print(dgl.__version__)", "-W", "error", HOME=str(home))
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, dgl.__version__, "")
    assert not home.exists()


def test_graph_to_cuda_says_what_to_write():
    graph = dgl.graph(([0], [1]))
    with pytest.raises(dgl.DGLError) as raised:
        graph.to("cuda:0")
    assert str(raised.value) == (
        "DGLGraph.to: expected a DGL with CUDA for 'cuda:0', got one for the CPU; "
        "leave the graph on the CPU and move the features, for which gnnlib copies the edges"
    )
    assert graph.to("cpu").num_edges() == 1
    assert "Move ndata" in dgl.DGLGraph.to.__doc__


@needs_placeholder
def test_placeholder_is_a_module():
    module = sys.modules["dgl.graphbolt"]
    assert dgl.graphbolt is module
    assert isinstance(module.__spec__, importlib.machinery.ModuleSpec)
    assert module.__spec__.name == module.__name__ == "dgl.graphbolt"
    assert importlib.util.find_spec("dgl.graphbolt") is module.__spec__
    assert importlib.import_module("dgl.graphbolt") is module
    assert not hasattr(module, "__path__")
    assert not hasattr(module, "_repr_html_")
    assert "placeholder" in repr(module)
    assert torch.__version__.split("+")[0] in inspect.getdoc(module)
    assert dict(inspect.getmembers(module))["FusedCSCSamplingGraph"] is module.FusedCSCSamplingGraph
    assert not isinstance(dgl.graph(([0], [1])), module.FusedCSCSamplingGraph)


def _attribute():
    return dgl.graphbolt.ItemSet


def _from_import():
    from dgl.graphbolt import ItemSet

    return ItemSet


def _call():
    return dgl.graphbolt.FusedCSCSamplingGraph(1, indices=2)


@needs_placeholder
@pytest.mark.parametrize(
    ("use", "name"), [(_attribute, "ItemSet"), (_from_import, "ItemSet"), (_call, "FusedCSCSamplingGraph")]
)
def test_placeholder_raises_with_reason(use, name):
    with pytest.raises(ImportError) as caught:
        use()
    message = str(caught.value)
    assert message.startswith(f"dgl.graphbolt.{name}: expected GraphBolt, but this DGL lacks ")
    assert f"its binary for PyTorch {torch.__version__.split('+')[0]}" in message
    assert "torchdata.datapipes" in message
    assert "GraphBolt itself needs PyTorch 2.0.0 to 2.2.1, 'torchdata<0.10'" in message
    assert caught.value.name == "dgl.graphbolt"


# ---- made-up packages: the interpreter sees no site-packages (-S), only these


def site(folder: Path, dgl: str | None = "2.1.0", built=("2.2.0", "2.2.1", "2.10.0"), needs=("datapipes", "rest")):
    """A directory with a small torch, DGL and torchdata, and this gnnlib._platform.dgl."""
    files = {
        "torch.py": "__version__ = '2.2.1+cpu'",
        "gnnlib/__init__.py": "",
        "torchdata/__init__.py": "raise RuntimeError('imported only to look')",
    }
    if dgl:
        files["dgl/_ffi/libinfo.py"] = f'__version__ = "{dgl}"'
        files["dgl/__init__.py"] = "from ._ffi.libinfo import __version__\nclass DGLGraph:\n    to = print"
    if dgl and dgl >= "2":
        files["dgl/__init__.py"] += "\nfrom . import graphbolt"
        files["dgl/graphbolt/__init__.py"] = "REAL = True"
        files |= {f"dgl/graphbolt/libgraphbolt_pytorch_{version}.so": "" for version in built}
    if "datapipes" in needs:
        files["torchdata/datapipes/__init__.py"] = ""
    if "rest" in needs:
        files |= {"pydantic.py": "", "yaml.py": ""}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    shutil.copytree(ROOT / "gnnlib" / "_platform", folder / "gnnlib" / "_platform")
    return folder


KIND = "from gnnlib._platform.dgl import dgl; "
KIND += "g = getattr(dgl, 'graphbolt', None); print(type(g).__name__, g and g.__doc__)"


@pytest.mark.parametrize("version", ["1.1.3", "2.1.0"])
def test_complete_dgl_has_no_placeholder(tmp_path, version):
    done = python(KIND, "-S", path=site(tmp_path, dgl=version))
    assert done.stdout.split() == ["NoneType" if version < "2" else "module", "None"], done.stderr


@pytest.mark.parametrize(
    ("lacking", "missing", "install"),
    [
        (dict(built=("2.2.0", "2.10.0")), "its binary for PyTorch 2.2.1", "PyTorch 2.2.0 to 2.10.0, 'torchdata<0.10'"),
        (dict(built=("2.2.0",)), "its binary for PyTorch 2.2.1", "PyTorch 2.2.0, 'torchdata<0.10'"),
        (dict(built=()), "its binary for PyTorch 2.2.1", "PyTorch as your DGL was built for, 'torchdata<0.10'"),
        (dict(needs=("rest",)), "torchdata.datapipes", "PyTorch 2.2.0 to 2.10.0, 'torchdata<0.10'"),
        (dict(needs=("datapipes",)), "pydantic, yaml", "pydantic, pyyaml."),
        (
            dict(built=("2.1.0",), needs=()),
            "its binary for PyTorch 2.2.1, torchdata.datapipes, pydantic, yaml",
            "PyTorch 2.1.0, 'torchdata<0.10', pydantic, pyyaml.",
        ),
    ],
)
def test_incomplete_dgl_has_placeholder(tmp_path, lacking, missing, install):
    done = python(KIND, "-S", path=site(tmp_path, **lacking))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"_Placeholder expected GraphBolt, but this DGL lacks {missing}, so")
    assert install in done.stdout


@pytest.mark.parametrize(("file", "warns"), [("backend/backend", False), ("other", True)])
def test_invalid_escape_sequences_of_dgl(tmp_path, file, warns):
    """The interpreter warns when it compiles such a file, at each import where bytecode is not written."""
    path = site(tmp_path)
    (path / "dgl" / "backend").mkdir()
    (path / "dgl" / f"{file}.py").write_text("text = '\\P'")
    done = python(f"{KIND}; import dgl.{file.replace('/', '.')}", "-S", "-B", "-W", "error", path=path)
    assert ("invalid escape sequence" in done.stderr, done.returncode) == (warns, warns), done.stderr


@pytest.mark.parametrize("first", ["", "import dgl; "])
def test_old_dgl_raises_with_both_versions(tmp_path, first):
    done = python(first + "import gnnlib._platform.dgl", "-S", path=site(tmp_path, dgl="0.1.3"))
    assert done.returncode == 1
    assert "ImportError: gnnlib: expected DGL 1.1.3 or newer, got 0.1.3, " in done.stderr
    assert "gnnlib install-dgl --upgrade" in done.stderr


@pytest.mark.parametrize("leftover", [False, True])
def test_missing_dgl_raises_with_command(tmp_path, leftover):
    path = site(tmp_path, dgl=None)
    if leftover:  # a folder that happens to be called dgl imports as an empty namespace
        (path / "dgl").mkdir()
    done = python(
        """
from gnnlib._platform.dgl import HAS_DGL, dgl
print(HAS_DGL, isinstance(None, dgl.DGLGraph))
for use in (lambda: dgl.graph(([0], [1])), dgl.DGLGraph):
    try:
        use()
    except ImportError as error:
        print(error)
""",
        "-S",
        path=path,
    )
    reason = "expected DGL, which is not installed; install it with pip install 'dgl>=1.1.3,<3' (Python 3.10 to 3.12)"
    lines = done.stdout.splitlines()
    assert lines[0] == "False False", done.stderr
    assert lines[1].startswith(f"dgl.graph: {reason}")
    assert lines[2].startswith(f"dgl.DGLGraph: {reason}")


def test_other_import_errors_are_raised_and_undone(tmp_path):
    path = site(tmp_path, built=())
    with (path / "dgl" / "__init__.py").open("a") as file:
        file.write("\nimport a_module_dgl_forgot_to_declare")
    done = python(
        """
import sys
try:
    import gnnlib._platform.dgl
except ModuleNotFoundError as error:
    print(error.name, "dgl.graphbolt" in sys.modules)
""",
        "-S",
        path=path,
    )
    assert done.stdout.split() == ["a_module_dgl_forgot_to_declare", "False"], done.stderr


# ---- what works behind the placeholder: the parts of DGL that gnnlib and its users lean on


@pytest.fixture
def ring():
    """50 nodes, each with an edge from the one before and the one after it, and 4 features."""
    nodes = torch.arange(50)
    graph = dgl.graph((torch.cat([nodes, nodes]), torch.cat([(nodes + 1) % 50, (nodes - 1) % 50])))
    graph.ndata["x"] = torch.arange(200.0).reshape(50, 4) / 64  # exact in float32
    return graph


def test_message_passing(ring):
    ring.update_all(dgl.function.copy_u("x", "m"), dgl.function.sum("m", "y"))
    x = ring.ndata["x"]
    assert torch.equal(ring.ndata["y"], x.roll(1, 0) + x.roll(-1, 0))


def test_layers_of_dgl(ring):
    from dgl.nn import GraphConv

    layer = GraphConv(4, 3)
    x = ring.ndata["x"]
    expected = (x.roll(1, 0) + x.roll(-1, 0)) / 2 @ layer.weight
    torch.testing.assert_close(layer(ring, x), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_sampling_and_loading(ring, workers):
    sampler = dgl.dataloading.NeighborSampler([2, 2])
    loader = dgl.dataloading.DataLoader(ring, torch.arange(50), sampler, batch_size=20, num_workers=workers)
    seen = []
    for inputs, outputs, blocks in loader:
        assert torch.equal(blocks[0].srcdata["x"], ring.ndata["x"][inputs])
        assert blocks[1].in_degrees().tolist() == [2] * len(outputs)
        seen += outputs.tolist()
    assert sorted(seen) == list(range(50))  # workers take turns, so batches come in another order


def test_batching_and_files(ring, tmp_path):
    other = dgl.graph(([0, 1], [1, 1]))
    other.ndata["x"] = torch.ones(2, 4)
    first, second = dgl.unbatch(dgl.batch([ring, other]))
    assert (first.num_edges(), second.num_edges()) == (100, 2)

    file = str(tmp_path / "graphs.bin")
    dgl.save_graphs(file, [ring, other])
    (first, second), _ = dgl.load_graphs(file)
    assert torch.equal(first.ndata["x"], ring.ndata["x"])
    assert second.edges()[0].tolist() == [0, 1]


@pytest.mark.filterwarnings("ignore:unclosed file .*/proc/self/status:ResourceWarning")  # DGL reads its peak memory
def test_partitioning(ring):
    parts = dgl.metis_partition_assignment(ring, 2)
    assert parts.bincount(minlength=2).min() >= 20


def test_spawned_workers_receive_graphs(tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text("""
import multiprocessing
import gnnlib  # before dgl; a spawned worker runs this file's imports before it unpickles a graph
import dgl

def edges(graph):
    return graph.num_edges()

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(edges, [dgl.graph(([0, 1], [1, 2])), dgl.graph(([], []), num_nodes=1)]))
""")
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "[2, 0]", done.stderr
