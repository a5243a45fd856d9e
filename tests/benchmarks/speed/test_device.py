"""Workloads on a GPU, on the CPU: contenders that agree, figures, and contenders without figures."""

import pytest
import torch

from gnnlib import adjacency
from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.speed import device, measure, single
from gnnlib.benchmarks.speed.command import SpeedRequest
from gnnlib.benchmarks.speed.measure import Case, CUDAClock, Effort, differences, times
from gnnlib.benchmarks.speed.show import tables
from gnnlib.benchmarks.speed.worker import TimingJob, measure_rows
from gnnlib.graph import Graph
from tests.benchmarks.speed.test_speed import make_row, text_of

SHRINK = 2000
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def compiler(monkeypatch):
    """Compiles to eager mode, in place of C++ or Triton."""
    monkeypatch.setattr(single, "COMPILER", "eager")


def test_names_are_unique():
    names = [workload.name for workload in device.workloads(CPU)]
    assert len(names) == len(set(names)) == 23


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weighted-bfloat16", "gat-tf32", "messages"])
def test_contenders_agree(name):
    pytest.importorskip("torch_geometric", reason="PyG is a peer")
    (workload,) = (workload for workload in device.workloads(CPU) if workload.name == name)
    (row,) = measure_rows([workload], TimingJob([name], SHRINK, repeats=1, budget=0.0))
    assert {"gnnlib", "pyg", "pyg-compiled"} <= row.seconds.keys()
    assert row.differences.keys() == row.seconds.keys() - {"gnnlib", "dense", "gather"}
    assert max(row.differences.values()) <= (2e-2 if "bfloat16" in name else 1e-4)


def test_products_graph_is_generated_on_the_device():
    graph = device.products_graph(CPU, 5000)
    assert isinstance(graph, Graph)
    assert (graph.num_nodes(), graph.num_edges()) == (2_449_029 // 5000, 2 * (61_859_140 // 5000))
    adj = adjacency(graph)
    dense = torch.zeros(graph.num_nodes(), graph.num_nodes()).index_put_(
        (adj.src.long(), adj.dst.long()), torch.ones(graph.num_edges()), accumulate=True
    )
    assert torch.equal(dense, dense.T)
    assert graph.in_degrees().max() > 4 * graph.in_degrees().double().mean()


def test_precision_of_products_is_restored():
    with device.arithmetic("tf32", CPU):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"
    with device.arithmetic("bfloat16", CPU):
        assert torch.is_autocast_enabled("cpu")


def out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory")


def fails_to_compile():
    raise RuntimeError("not supported by the compiler")


def test_contenders_without_figures_are_named():
    x = torch.ones(3)
    steps = {"gnnlib": lambda: x, "pyg": out_of_memory, "pyg-compiled": fails_to_compile, "csr": lambda: x}
    failures: dict[str, str] = {}
    errors = differences("sum", {name: step for name, step in steps.items() if name != "pyg"}, failures=failures)
    assert errors == {"csr": 0.0}
    seconds, _ = times(Case(steps), Effort(repeats=1, budget=0.0, memory=False), failures=failures)
    assert list(seconds) == ["gnnlib", "csr"]
    assert failures == {"pyg": "out of memory", "pyg-compiled": "not compiled"}
    row = make_row(device="cuda", failures=failures, seconds={"gnnlib": [1.0], "csr": [2.0]})
    text = text_of(*tables([row]))
    assert "out of memory" in text
    assert "not compiled" in text
    assert "cuda" in text


def test_other_errors_are_raised():
    case = Case({"gnnlib": lambda: None, "pyg": fails_to_compile})
    with pytest.raises(RuntimeError, match="not supported"):
        times(case, Effort(repeats=1), failures={})
    with pytest.raises(torch.OutOfMemoryError):
        times(Case({"gnnlib": out_of_memory}), Effort(repeats=1, memory=False))


class FakeEvent:
    """An event whose time is that of a counter of calls."""

    now = 0.0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.time = FakeEvent.now

    def elapsed_time(self, other):
        return other.time - self.time


def test_clock_of_a_card(monkeypatch):
    synchronized = []
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronized.append)
    for name, value in (("memory_allocated", 5), ("max_memory_allocated", 12)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *args: None)
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    card = torch.device("cuda", 0)
    clock = CUDAClock(card)

    def call():
        FakeEvent.now += 250.0  # ms

    assert clock.seconds(call, 4) == 1.0
    assert synchronized == [card]
    assert measure.measure_step(call, True, clock) == (0.25, 7)


def test_results_of_a_card_have_a_folder(tmp_path):
    request = SpeedRequest(device="cuda", out=tmp_path)
    assert request.path == tmp_path / "speed-gpu" / "speed.json"
    (job,) = request.jobs()
    assert (job.device, job.allocator, job.shrink) == ("cuda", "default", 1)
    assert len(job.names) == 23


def test_device_that_is_missing(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    assert main(["speed", "--device", "cuda", "--out", str(tmp_path)]) == 2
    assert "--device: expected one of cpu, got 'cuda'" in capsys.readouterr().err
    assert main(["speed", "--device", "cuda", "--only", "superpixels", "--out", str(tmp_path)]) == 2
    assert "--device: expected" in capsys.readouterr().err
