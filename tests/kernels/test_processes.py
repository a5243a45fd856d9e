"""Kernels under forked and spawned workers, several threads, damaged and missing caches, and without OpenMP.

What may end a process runs in a process of its own, forked from one that has imported gnnlib and called no kernel.
"""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numba
import numpy as np
import pytest
import torch

import gnnlib
from gnnlib import kernels
from gnnlib.images import recipes, segment
from gnnlib.kernels import reference
from gnnlib.kernels.cpu.compile import jit
from gnnlib.testing.graphs import random_graph

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[2]

# A graph large enough for parallel launches, and all that a layer with attention does on it.
PRELUDE = """
import faulthandler
import os
import signal
import sys
import threading

faulthandler.dump_traceback_later(100, exit=True)  # a deadlock says where

import torch

import gnnlib
from gnnlib import kernels
from gnnlib.ops import message_passing as ops
from gnnlib._platform.dgl import dgl
from gnnlib.kernels import reference


def make(seed=0, num_nodes=400, num_edges=4000):
    random = torch.Generator().manual_seed(seed)
    return dgl.graph(tuple(torch.randint(num_nodes, (2, num_edges), generator=random)), num_nodes=num_nodes)


def work(graph, dtype=torch.float32):
    x = torch.randn(graph.num_nodes(), 16, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    y = ops.aggregate(graph, x, ops.edge_softmax(graph, ops.edge_dot(graph, x, x)))
    y = y + ops.aggregate(graph, x, reduce="max")
    y.square().sum().backward()
    return y.detach(), x.grad


def equals_reference(results, graph, dtype=torch.float32):
    with kernels.force(reference):
        want = work(graph, dtype)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(results, want, strict=True))


torch.set_num_threads(2)
"""


@pytest.fixture
def run(tmp_path, server):
    """Runs a script in a process of its own; returns what it printed."""

    def start(script: str, **env: str) -> str:
        return printed(server.start(write(tmp_path, script), env=env).wait())

    return start


def run_interpreter(folder: Path, script: str, **env: str) -> str:
    """The same in a new interpreter."""
    command, env = [sys.executable, write(folder, script)], {"PYTHONPATH": str(ROOT)} | env
    return printed(
        subprocess.run(command, cwd=folder, env=os.environ | env, capture_output=True, text=True, timeout=120)
    )


def write(folder: Path, script: str) -> Path:
    path = folder / "script.py"
    path.write_text(PRELUDE + script)
    return path


def printed(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


# ---------------------------------------------------------------- threads

THREADS = """
from gnnlib.kernels.cpu import team
if os.environ.get("WITHOUT_OPENMP"):
    team._RUNTIME = 0  # a PyTorch that is linked to no OpenMP runtime
graph, results = make(), []

def repeat():
    for _ in range(10):
        results.append(work(graph))

threads = [threading.Thread(target=repeat) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(results) == 30
assert equals_reference(results[0], graph)
assert all(torch.equal(a, b) for result in results for a, b in zip(result, results[0]))
for count in (1, 2, 64):
    torch.set_num_threads(count)
    assert all(torch.equal(a, b) for a, b in zip(work(graph), results[0]))
print(bool(team._RUNTIME))
"""


@pytest.mark.parametrize("env", [{}, {"WITHOUT_OPENMP": "1"}], ids=["openmp", "no openmp"])
def test_three_threads_at_once(run, env):
    assert run(THREADS, **env).split() == [str(not env)]


def test_three_threads_compile_at_once(run, tmp_path):
    """Each of them first needs another kernel of those that the cache lacks."""
    run(
        """
graph = make()
x, score, results = torch.rand(400, 2), torch.rand(4000, 1), []
operations = [lambda: ops.aggregate(graph, x, reduce="max"), lambda: ops.edge_softmax(graph, score)]

def repeat(number):
    for turn in range(number, number + 10):
        results.append((turn % 2, operations[turn % 2]()))

threads = [threading.Thread(target=repeat, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with kernels.force(reference):
    want = [operation() for operation in operations]
assert len(results) == 30
assert all(torch.allclose(result, want[number]) for number, result in results)
""",
        NUMBA_CACHE_DIR=str(tmp_path / "empty"),
    )


def test_threads_are_those_of_torch(run):
    """No second pool: kernels on both of torch's threads leave the process with as many threads as torch alone."""
    assert run("""
def count():
    return len(os.listdir("/proc/self/task"))

a = torch.rand(300, 300)
torch.mm(a, a), torch.rand(10**6).exp()
before = count()
graph = make(num_nodes=4000, num_edges=100_000)
work(graph)
loaded = [line.split()[-1] for line in open("/proc/self/maps") if "numba/np/ufunc" in line and "pool" in line]
print(count() - before, loaded)
""").split() == ["0", "[]"]


def test_bits_in_two_processes_and_with_any_number_of_threads(run, tmp_path):
    script = """
import hashlib
graph = make()
for threads in (1, 2):
    torch.set_num_threads(threads)
    print(hashlib.sha256(b"".join(t.numpy().tobytes() for t in work(graph))).hexdigest())
"""
    assert len(set((run(script) + run_interpreter(tmp_path, script, OMP_NUM_THREADS="1")).split())) == 1


def test_importing_gnnlib_does_not_import_numba(run):
    run("""
assert "numba" not in sys.modules
gnnlib.GCNConv(2, 2)
assert "numba" not in sys.modules
make(num_nodes=3, num_edges=2)
gnnlib.aggregate(make(num_nodes=3, num_edges=2), torch.ones(3, 1))
assert "numba" in sys.modules
""")


# ---------------------------------------------------------------- processes


def test_forked_children(run):
    """After a parallel launch in the parent, GNU OpenMP hangs in a child that launches too."""
    run("""
graph = make()
want = work(graph)
assert equals_reference(want, graph)

def child():
    assert torch.get_num_threads() == 2
    assert all(torch.equal(a, b) for a, b in zip(work(graph), want))
    torch.set_num_threads(1)  # torch's own operations hang in a forked child without; its DataLoader does so too
    assert all(torch.equal(a, b) for a, b in zip(work(make()), want))
    torch.set_num_threads(2)

for _ in range(2):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        try:
            child()
            again = os.fork()
            if again == 0:
                child()
                os._exit(0)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(again, 0)[1]))
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert all(torch.equal(a, b) for a, b in zip(work(graph), want))
""")


def test_forked_while_another_thread_compiles(run, tmp_path):
    """The child needs the compiler too, whose lock the other thread held."""
    run(
        """
from numba.core.compiler_lock import global_compiler_lock
from gnnlib.kernels import cpu

graph = make(num_nodes=5, num_edges=9)
csc, score = gnnlib.adjacency(graph).csc, torch.rand(9, 1)
other = threading.Thread(target=cpu.edge_softmax, args=(csc, score))
other.start()
while global_compiler_lock._lock.acquire(blocking=False):
    global_compiler_lock._lock.release()
pid = os.fork()
if pid == 0:
    signal.alarm(30)
    cpu.edge_softmax(csc, score.double())
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
other.join()
""",
        NUMBA_CACHE_DIR=str(tmp_path / "empty"),
    )


def test_forked_loader_workers(run):
    """Workers make their own graphs and return flat tensors."""
    run("""
class Graphs(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, i):
        return torch.stack(work(make(seed=i)))

assert equals_reference(work(make()), make())
loader = torch.utils.data.DataLoader(Graphs(), batch_size=1, num_workers=2, multiprocessing_context="fork")
for _ in range(2):
    batches = [batch[0] for batch in loader]
    assert len(batches) == 6
    for i, pair in enumerate(batches):
        assert all(torch.equal(a, b) for a, b in zip(pair, work(make(seed=i))))
""")


def test_spawned_workers(run):
    """They unpickle a graph that the parent has used; the script that they import has imported gnnlib."""
    run("""
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

def child(graph):
    assert getattr(graph._graph, "_gnnlib_adjacency", None) is None
    return [t.numpy() for t in work(graph)]

if __name__ == "__main__":
    graph = make()
    want = work(graph)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        got = pool.submit(child, graph).result()
    assert all(torch.equal(torch.from_numpy(a), b) for a, b in zip(got, want, strict=True))
""")


# ---------------------------------------------------------------- without the compiler


def layers_stores_and_images():
    """What needs kernels: layers and their gradients, batches of a store, connected superpixels."""
    graphs = [random_graph(20 + i, 60, seed=i) for i in range(3)]
    torch.manual_seed(0)
    x, weight, feature = torch.rand(20, 5, requires_grad=True), torch.rand(60), torch.rand(60, 3)
    results = []
    for conv, edge in (
        *((gnnlib.GCNConv(5, 4), weight), (gnnlib.GATConv(5, 4, 2), weight), (gnnlib.GatedGCNConv(5, 4), None)),
        *((gnnlib.PNAConv(5, 4, edge_feats=3), feature), (gnnlib.MessageConv(5, 4), None)),
        *((gnnlib.GINEConv(5, 4, 3), feature), (gnnlib.ECConv(5, 4, edge_feats=3), feature)),
        *((gnnlib.DropMessage(gnnlib.GCNConv(5, 4), 0.5), None), (gnnlib.SAGEConv(5, 4, reduce="max"), weight)),
    ):
        y = conv(graphs[0], x, edge)
        results += [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *conv.parameters()])]
    (batch, labels), *_ = gnnlib.GraphStore(graphs, labels=[5, 7, 9]).loader(2)
    results += [*batch.edges(), labels, gnnlib.aggregate(batch, torch.arange(41.0).unsqueeze(1))]
    image = torch.linspace(0, 1, 144).view(12, 12)
    return [*results, torch.from_numpy(segment(image, 9)), recipes.dwivedi(image).ndata["feat"]]


def test_without_the_compiler_the_reference_kernels_serve(run, tmp_path):
    """NUMBA_DISABLE_JIT=1, as debuggers and coverage need it."""
    script = """
from tests.kernels.test_processes import layers_stores_and_images
torch.save(layers_stores_and_images(), "results.pt")
print(kernels.choose(torch.zeros(1)).__name__)
"""
    assert run(script, NUMBA_DISABLE_JIT="1").split() == ["gnnlib.kernels.reference"]
    with kernels.force(reference):
        expected = layers_stores_and_images()
    for actual, value in zip(torch.load(tmp_path / "results.pt"), expected, strict=True):
        torch.testing.assert_close(actual, value, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- the cache on disk

LOGGED = """
import logging
logging.basicConfig(stream=sys.stdout, format="%(message)s")
graph = make()
score = torch.rand(graph.num_edges(), 2)
prob = ops.edge_softmax(graph, score)
with kernels.force(reference):
    assert torch.allclose(ops.edge_softmax(graph, score), prob)
"""


@pytest.fixture(scope="module")
def filled(server, tmp_path_factory) -> tuple[Path, str]:
    """A folder that was empty before a first process needed kernels, and what this process printed."""
    folder = tmp_path_factory.mktemp("cache")
    script = write(tmp_path_factory.mktemp("script"), LOGGED)
    return folder, printed(server.start(script, env={"NUMBA_CACHE_DIR": str(folder)}).wait())


def test_nowhere_to_cache(tmp_path):
    """A package and a home that cannot be written: compiled in memory, without a message."""
    package = tmp_path / "package"
    shutil.copytree(ROOT / "gnnlib", package / "gnnlib", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in filter(Path.is_dir, [*(package / "gnnlib").rglob("*")]):
        (folder / "__pycache__").write_text("a file: no directory can be made here, not even by root")
    where = str(package / "gnnlib" / "kernels" / "__pycache__" / "nowhere")
    env = {"HOME": where, "XDG_CACHE_HOME": where, "NUMBA_CACHE_DIR": where, "PYTHONPATH": str(package)}
    script = f"""{LOGGED}
from gnnlib.kernels.cpu import edges
assert edges.__file__.startswith({str(package)!r})
assert edges._edge_softmax.compiled.stats.cache_path is None
"""
    assert run_interpreter(tmp_path, script, **env) == ""


def test_compiling_is_announced_once(run, filled):
    folder, output = filled
    assert len(list(folder.rglob("*.nbc"))) > 1
    assert output.count("compiling kernels for this machine") == 1
    assert str(folder) in output
    assert run(LOGGED, NUMBA_CACHE_DIR=str(folder)) == ""


def test_two_processes_compile_a_kernel_once(server, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import sys, time
from pathlib import Path
import numpy as np
from gnnlib.kernels.cpu.compile import jit

def plus(x, y):
    for i in range(len(x)):
        y[i] = x[i] + 1

compiled = jit(plus)
Path(sys.argv[1]).touch()
while not (Path("first").exists() and Path("second").exists()):
    time.sleep(0.001)
compiled(np.zeros(3), np.zeros(3))
print(sum(compiled.stats.cache_misses.values()))
""")
    env = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    programs = [server.start(script, name, env=env) for name in ("first", "second")]
    assert sorted(printed(program.wait()).strip() for program in programs) == ["0", "1"]


def test_every_file_of_the_cache_damaged(run, filled, tmp_path):
    cache = shutil.copytree(filled[0], tmp_path / "cache")
    files = sorted(cache.rglob("*.nb[ic]"))
    assert len(files) > 3
    for i, file in enumerate(files):
        data = file.read_bytes()
        file.write_bytes([data[: len(data) // 2], b"", b"garbage" + data][i % 3])
    output = run(LOGGED, NUMBA_CACHE_DIR=str(cache))
    assert "compiling" in output
    assert "its cache is damaged" in output


def plus(x, y):  # any small loop will do below
    for i in range(len(x)):
        y[i] = x[i] + 1


class TestCache:
    """Each way in which a file of the cache can fail, in this process."""

    @pytest.fixture(autouse=True)
    def folder(self, monkeypatch, tmp_path) -> Path:
        monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
        return tmp_path / "cache"

    def call(self, dtype=numba.float32, compiled=None):
        compiled = compiled or jit(plus)
        x = np.arange(3, dtype=str(dtype))
        y = np.zeros_like(x)
        compiled(x, y)
        assert y.tolist() == [1, 2, 3]
        return compiled

    def hits(self, compiled) -> int:
        return sum(compiled.stats.cache_hits.values())

    def test_is_used(self, folder):
        assert self.hits(self.call()) == 0
        assert self.hits(self.call()) == 1
        assert len(list(folder.rglob("*.nbc"))) == 1

    @pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:20], lambda b: b"", lambda b: b"\0" * len(b)])
    @pytest.mark.parametrize("kind", ["nbi", "nbc"])
    def test_a_damaged_file_is_rebuilt(self, folder, kind, damage, caplog):
        self.call()
        (file,) = folder.rglob(f"*.{kind}")
        file.write_bytes(damage(file.read_bytes()))
        assert self.hits(self.call()) == 0
        assert "compiling <function plus" in caplog.text
        assert self.hits(self.call()) == 1

    def test_a_damaged_second_signature_is_rebuilt(self, folder):
        self.call(numba.float64, self.call(numba.float32))
        _, second = sorted(folder.rglob("*.nbc"))
        second.write_bytes(second.read_bytes()[:100])
        compiled = self.call(numba.float32)
        assert self.hits(compiled) == 1
        self.call(numba.float64, compiled)
        assert self.hits(compiled) == 1
        assert self.hits(self.call(numba.float64)) == 1

    def test_a_missing_file_is_rebuilt(self, folder):
        self.call()
        (file,) = folder.rglob("*.nbc")
        file.unlink()
        assert self.hits(self.call()) == 0
        assert self.hits(self.call()) == 1

    def test_files_exchanged_between_signatures(self, folder):
        """As by two processes that filled the cache at once."""
        self.call(numba.float64, self.call(numba.float32))
        first, second = sorted(folder.rglob("*.nbc"))
        second.write_bytes(first.read_bytes())
        compiled = self.call(numba.float64)
        assert self.hits(self.call(numba.float64)) == 1
        assert self.hits(compiled) == 0

    def test_the_disk_is_full(self, monkeypatch, folder, caplog):
        def full(*args):
            raise OSError(28, "No space left on device")

        compiled = jit(plus)
        monkeypatch.setattr(compiled._cache._cache_file, "_save_data", full)
        self.call(numba.float32, compiled)
        assert "No space left on device" in caplog.text
        assert self.hits(self.call()) == 0  # the index names a file that is not there
        assert self.hits(self.call()) == 1

    def test_the_directory_is_gone(self, folder, caplog):
        compiled = jit(plus)
        shutil.rmtree(folder)
        folder.write_text("a file")
        self.call(numba.float32, compiled)
        self.call(numba.float64, compiled)
        assert "cannot be cached" in caplog.text

    def test_damaged_and_not_writable(self, folder, monkeypatch, caplog):
        self.call()
        (file,) = folder.rglob("*.nbi")
        file.write_bytes(b"")
        compiled = jit(plus)

        def refused(*args):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(compiled._cache._cache_file, "_open_for_write", refused)
        self.call(numba.float32, compiled)
        assert "its cache is damaged" in caplog.text
        assert "cannot be cached" in caplog.text

    def test_edited_source_is_compiled_anew(self, folder, monkeypatch):
        self.call()
        compiled = jit(plus)
        monkeypatch.setattr(compiled._cache._cache_file, "_source_stamp", b"another text")
        assert self.hits(self.call(numba.float32, compiled)) == 0

    def test_several_threads_compile_at_once(self):
        compiled, failed = jit(plus), []

        def one(dtype):
            try:
                self.call(dtype, compiled)
            except BaseException as error:
                failed.append(error)

        kinds = [numba.float32, numba.float64, numba.int32, numba.int64]
        threads = [threading.Thread(target=one, args=(kind,)) for kind in kinds * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert len(compiled.signatures) == 4
