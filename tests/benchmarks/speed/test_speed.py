"""The command ``speed``: outputs of the libraries agree, and files can be read back. Times are not asserted."""

import io
import json
import sys
from itertools import groupby
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from gnnlib._platform.dgl import HAS_DGL
from gnnlib._utils.documents import seal
from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.speed import bound, command, graphs, grid, layers, show, single
from gnnlib.benchmarks.speed.figures import Figures
from gnnlib.benchmarks.speed.measure import Case, Effort, Row, differences, slope, times
from gnnlib.benchmarks.speed.plot import plot
from gnnlib.benchmarks.speed.worker import TimingJob, rows
from gnnlib.benchmarks.speed.workloads import WORKLOADS, choose
from gnnlib.grid import to_nodes

SHRINK = 400


def make_row(**changes):
    """Invented figures: half of our first second is dense, and the bound of each of two aggregations is an eighth."""
    figures = {
        "workload": "gcn",
        "title": "GCN",
        "group": "layers",
        "allocator": "default",
        "threads": 2,
        "seconds": {
            "gnnlib": [1.0, 2.0, 4.0],
            "dgl": [3.0, 2.0, 8.0],
            "pyg": [20.0],
            "dense": [0.5],
            "gather": [0.125],
        },
        "peak": {"gnnlib": 10**6, "dgl": 4 * 10**6, "pyg": 3 * 10**6, "csr": 2 * 10**6},
        "differences": {"dgl": 1e-7},
        "targets": {"dgl": 1.3, "pyg": 30.0, "bound": 2 / 3},
        "sweeps": 2,
        "moved": 10**9,
    }
    return Row(**{**figures, **changes})


def make_grid_row(**changes):
    figures = {"group": "grid", "seconds": {"gnnlib": [1.0], "torch": [1.0]}, "targets": {"torch": 1 / 1.05}}
    return make_row(
        **{"workload": "grid-cnn", "title": "CNN", "peak": {"gnnlib": 10**6, "torch": 10**6}} | figures | changes
    )


def make_growth_row(times=(0.5, 1.0, 2.0)):
    factors = {"x1": 1.0, "x4": 4.0, "x16": 16.0}
    return make_row(
        workload="edges-gcn",
        seconds=dict(zip(factors, map(list, zip(times)))),
        peak={},
        factors=factors,
        targets={"exponent": 1.1},
    )


def text_of(*tables):
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(*tables)
    return console.export_text()


# arithmetic


def test_ratio_is_the_median_of_neighbouring_ratios():
    assert make_row().ratio("dgl") == 2.0
    assert make_row().ratio("pyg") == 20.0  # a slow peer has fewer repetitions
    assert make_row().ratio("csr") is None


def test_bound_is_dense_part_plus_aggregations():
    assert make_row().bound == 0.75
    assert make_row(seconds={"gnnlib": [2.0, 4.0], "gather": [0.25, 0.25, 0.25]}).bound == (0.25 + 0.125) / 2
    assert make_row(seconds={"gnnlib": [2.0], "dense": [1.0]}).bound is None


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_exponent_of_a_power_law(power):
    assert slope([(size, 3.0 * size**power) for size in (1, 4, 16)]) == pytest.approx(power)
    assert make_growth_row([size**power for size in (1, 4, 16)]).exponent == pytest.approx(power)
    assert make_row().exponent is None


def test_row_round_trips_through_json():
    for row in (make_row(), make_growth_row()):
        document = json.loads(json.dumps(row.document()))
        assert Row.from_document(document) == row
    assert make_row().document()["ratios"] == {"dgl": 2.0, "pyg": 20.0}
    assert make_row().document()["gather_bandwidth"] == 8e9


# measuring


def test_different_outputs_raise():
    x = torch.tensor([[100.0, 1.0]])
    near = {"gnnlib": lambda: x, "dgl": lambda: x + 0.001}
    assert differences("GCN", near) == {"dgl": pytest.approx(1e-5, rel=0.01)}
    for other in (x + 0.1, x * float("nan")):
        with pytest.raises(ValueError, match=r"GCN: expected the output of pyg to agree with gnnlib's.*they differ by"):
            differences("GCN", {**near, "pyg": lambda other=other: other})


def test_contenders_take_turns_and_slow_ones_repeat_less():
    turns = []
    case = Case({"gnnlib": lambda: turns.append("g"), "dgl": lambda: turns.append("d")}, batches=4)
    seconds, peak = times(case, Effort(repeats=3, budget=100.0, memory=False))
    assert {name: len(values) for name, values in seconds.items()} == {"gnnlib": 3, "dgl": 3}
    assert "".join(name for name, _ in groupby(turns)) == "gd" * 4  # warm-up, then three repetitions
    assert peak == {"gnnlib": None, "dgl": None}
    seconds, _ = times(case, Effort(repeats=3, budget=0.0, memory=False))
    assert {name: len(values) for name, values in seconds.items()} == {"gnnlib": 1, "dgl": 1}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system has no high-water mark")
def test_peak_memory_includes_freed_memory():
    size = 64 << 20
    _, peak = times(Case({"gnnlib": lambda: bytearray(size).count(0)}), Effort(repeats=1))
    assert peak["gnnlib"] == pytest.approx(size, rel=0.2)


def test_gather_counts_the_bytes_of_all_edges():
    graph = graphs.power_law_graph(50, 100)
    run, moved = bound.gather(graph, width=32, coeffs=4)
    run()
    assert moved == graph.num_edges() * (32 + 1 + 4 + 1) * 4 + 50 * 32 * 4 + 51 * 4


# workloads


def test_size_of_the_power_law_graph():
    graph = graphs.power_law_graph()
    assert (graph.num_nodes(), graph.num_edges()) == (169_343, 2_489_343)
    degrees = graph.in_degrees()
    assert (degrees == graph.out_degrees()).all()  # reverses and self-loops are in
    assert degrees.max() > 100 * degrees.median()  # hubs


def test_all_pairs_graph_is_complete():
    graph = graphs.all_pairs(3)
    assert graph.num_edges() == 81
    assert (graph.in_degrees() == 9).all()
    assert graph.ndata["pos"][5].tolist() == [1.0, 2.0]


@pytest.mark.slow
def test_workloads_agree_and_are_timed():
    workloads = choose(None)  # all but those on request
    by_workload = {
        row.workload: row
        for row in rows(TimingJob([w.name for w in workloads], SHRINK, repeats=1, budget=0.0, allocator="keep"))
    }
    assert list(by_workload) == [workload.name for workload in workloads]
    for workload in workloads:
        row = by_workload[workload.name]
        assert all(seconds[0] > 0 for seconds in row.seconds.values())
        if row.factors:
            assert row.exponent is not None
            continue
        peers_of = {
            "grid": {"torch"},
            "pixels": {"dgl"},
            "accelerate": {"dgl"},
            "pyg-scripts": {"pyg"},
            "images": row.seconds.keys() - {"gnnlib"},
            "bfloat16": {"float32"},
        }
        peers = peers_of.get(row.group, {"dgl", "pyg"})
        assert set(workload.targets) - {"bound", "peak", "ms"} <= peers <= row.seconds.keys()
        assert row.differences.keys() == row.seconds.keys() - {"gnnlib", "dense", "gather"}
        assert all(peak is None or peak >= 0 for peak in row.peak.values())
    assert set(by_workload["gcn"].seconds) == {"gnnlib", "dgl", "pyg", "edge-index", "csr", "dense", "gather"}


@pytest.mark.slow
@pytest.mark.parametrize("name", grid.NETWORKS)
def test_grid_networks_take_the_same_step(name):
    case = grid.network_case(name)
    for run in case.steps.values():
        run()
    ours, theirs = (case.steps[way].__closure__ for way in ("gnnlib", "torch"))
    ours, theirs = (
        next(c.cell_contents for c in cells if isinstance(c.cell_contents, nn.Module)) for cells in (ours, theirs)
    )
    assert ours is not theirs
    assert ours.backend == "dense"
    for actual, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        atol = 1e-5 * expected.grad.abs().max().item()
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-3, atol=atol)


def test_convolution_by_messages_has_the_gradients_of_torch():
    case = grid.conv_case(True, num_images=2, side=5, channels=3)
    ours, theirs = (case.steps[way]() for way in ("gnnlib", "torch"))
    torch.testing.assert_close(ours[0], to_nodes(theirs[0]))
    for actual, expected in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    forward = grid.conv_case(False, num_images=2, side=5, channels=3)
    assert not forward.steps["gnnlib"]().requires_grad


@pytest.mark.slow
def test_remedy_is_timed_beside_the_plain_network():
    case = choose(["remedy-residual"])[0].make(1)
    seconds, _ = times(case, Effort(repeats=1, budget=0.0, memory=False))
    assert seconds.keys() == {"gnnlib", "plain"}
    assert not {"remedies", "compiled"} & {workload.group for workload in choose(None)}


@pytest.mark.slow
def test_compiled_steps_agree(monkeypatch):
    """Without the C++ compiler of the default backend, which takes seconds."""
    monkeypatch.setattr(single, "COMPILER", "aot_eager")
    torch.compiler.reset()
    (row,) = rows(TimingJob(["compiled-gcn"], SHRINK, repeats=1, budget=0.0))
    assert list(row.seconds) == ["gnnlib", "eager", "pyg"]
    assert row.differences.keys() == {"eager", "pyg"}
    text = text_of(*show.tables([row]))
    assert "compiled" in text
    assert "eager" in text


def test_compiled_steps_need_a_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ValueError, match=r"expected a C\+\+ compiler for torch.compile, such as g\+\+, got none"):
        choose(["compiled-gcn"])[0].make(SHRINK)


def test_cost_of_a_remedy_is_per_layer():
    seconds, peak = {"gnnlib": [0.16], "plain": [0.08]}, {"gnnlib": 48 * 10**6, "plain": 16 * 10**6}
    row = make_row(title="gcnii", group="remedies", seconds=seconds, peak=peak, targets={})
    assert ["gcnii", "10.0", "2.00", "3.00", "3.00"] in [
        line.split() for line in text_of(*show.tables([row])).splitlines()
    ]


@pytest.mark.slow
def test_without_pyg(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric.nn", None)
    layers.pyg.cache_clear()
    try:
        (row,) = rows(TimingJob(["gcn"], SHRINK, repeats=1))
    finally:
        monkeypatch.undo()
        layers.pyg.cache_clear()
    assert set(row.seconds) == {"gnnlib", "dgl", "dense", "gather"}
    assert row.ratio("pyg") is None
    assert "GCN" in text_of(*show.tables([row]))


def test_sparse_matrix_of_a_multigraph():
    graph = graphs.new_graph([0, 0, 1], [1, 1, 0])
    x = torch.tensor([[1.0], [10.0]])
    matrix = layers.csr(graph, torch.tensor([2.0, 3.0, 7.0]))
    assert (matrix @ x).flatten().tolist() == [70.0, 5.0]


def test_choose_by_names_and_groups():
    assert [w.name for w in choose(["gat", "gcn"])] == ["gcn", "gat"]
    assert {w.group for w in choose(["ecc", "pixels"])} == {"ecc", "pixels"}
    groups = {w.group for w in WORKLOADS}
    assert len({w.name for w in WORKLOADS} | groups) == len(WORKLOADS) + len(groups)  # all differ
    with pytest.raises(UsageError, match=r"unknown 'gnc'; expected some of: gcn, .*; or the groups layers, "):
        choose(["gcn", "gnc"])
    with pytest.raises(UsageError, match="--allocators: expected some of default, keep, huge, got 'fast'"):
        command.SpeedRequest(allocators=["fast"]).jobs()


# tables and plots


def test_table_compares_with_targets():
    text = text_of(*show.tables([make_row(), make_growth_row(), make_row(allocator="keep", threads=1)]))
    assert "default allocator, 2 threads" in text
    assert "keep allocator, 1 thread " in text
    assert "2.00 ≥ 1.3" in text
    assert "20.00 < 30" in text
    assert "1 ≤ 2" in text  # MB, ours and the best peer's
    assert "75% ≥ 67%" in text
    assert "1 > 0" in text_of(*show.tables([make_row(peak={"gnnlib": 1_400_000, "dgl": 10**6}, targets={"peak": 0.1})]))
    assert "0.50 < 1.1" in text
    assert "torch" not in text
    assert max(map(len, text.splitlines())) <= 110


def test_rows_beside_torch_have_a_separate_table():
    slow = make_grid_row(title="convolution", seconds={"gnnlib": [10.0], "torch": [0.5]}, targets={"torch": 1 / 12})
    graphs_table, grids_table = show.tables([make_row(), make_grid_row(), slow])
    assert "torch" not in text_of(graphs_table)
    text = text_of(grids_table)
    assert "1.00 ≥ 0.952" in text
    assert "0.05 < 0.0833" in text
    assert "1 ≤ 1" in text
    assert not {"dgl.nn", "PyG", "CSR", "bound"} & set(text.split()), "columns without a figure"
    assert make_grid_row().document()["ratios"] == {"torch": 1.0}


@pytest.mark.parametrize(
    "measured",
    [
        [make_row()],
        [make_growth_row()],
        [make_row(), make_growth_row()],
        [make_row(seconds={"gnnlib": [1.0]})],
        [make_grid_row()],
    ],
)
def test_plot(tmp_path, measured):
    plot(measured, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").exists() == ("x1" in measured[0].seconds or "dgl" in measured[0].seconds)


# the command


@pytest.mark.process
def test_command_times_in_a_worker(tmp_path, capsys):
    words = ["speed", "--only", "weighted", "--shrink", str(SHRINK), "--repeats", "2"]
    assert main([*words, "--threads", "1", "--allocators", "keep", "--out", str(tmp_path)]) == 0
    document = json.loads((tmp_path / "speed.json").read_text())
    read = [Row.from_document(row) for row in document["rows"]]
    assert [(row.workload, row.allocator, row.threads) for row in read] == [("weighted", "keep", 1)]
    assert len(read[0].seconds["gnnlib"]) == 2
    assert read[0].peak["gnnlib"] is None  # which means little where freed memory is retained
    assert len(document["copy_bandwidth"]) == 1
    assert document["versions"].keys() >= {"dgl", "torch_geometric"}
    shown = capsys.readouterr().out
    assert "sum, one weight" in shown
    assert "400 times smaller" in shown
    assert "keep allocator, 1 thread" in shown
    assert (tmp_path / "speed.png").exists()


def test_file_with_an_incomplete_row_is_set_aside(tmp_path, capsys):
    path, key = tmp_path / "speed.json", ["workload", "allocator", "threads"]
    Figures(path, {"machine": "mine"}, key).add_row(make_row().document())
    assert len(Figures(path, {"machine": "mine"}, key, Row.__dataclass_fields__).rows) == 1
    document = json.loads(path.read_text())
    del document["rows"][0]["peak"]
    path.write_text(json.dumps(seal(document)))
    assert Figures(path, {"machine": "mine"}, key, Row.__dataclass_fields__).rows == []
    assert "speed.json is damaged (a row lacks peak); kept as speed-1.json" in capsys.readouterr().err


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Replaces the worker by a process that prints these messages, then ends with status 9."""
    if not HAS_DGL:  # then no worker starts
        pytest.skip("needs DGL: speed")
    python = sys.executable

    def replace(*messages):
        stub, launcher = tmp_path / "stub.py", tmp_path / "python"
        lines = "\n".join(map(json.dumps, messages))
        stub.write_text(f"print({lines!r})\nraise SystemExit(9)")
        launcher.write_text(f'#!/bin/sh\nexec "{python}" "{stub}"\n')
        launcher.chmod(0o755)
        monkeypatch.setattr(command.sys, "executable", str(launcher))

    return replace


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ([], "expected 2 rows, received 1: the worker ended with status 9 while timing gat"),
        ([{"error": "GAT: expected the output"}], "GAT: expected the output"),
    ],
)
def test_failed_worker_keeps_earlier_rows(tmp_path, capsys, worker, last, reason):
    worker({"copy_bandwidth": 1e10}, {"row": make_row().document()}, *last)
    assert main(["speed", "--only", "gcn,gat", "--quick", "--out", str(tmp_path)]) == 2
    assert len(json.loads((tmp_path / "speed.json").read_text())["rows"]) == 1
    caught = capsys.readouterr()
    assert caught.err == f"timed GCN\nbenchmarks: error: {reason}\n"
    assert "2.00 ≥ 1.3" in caught.out
    assert "moves 10.0 GB/s" in caught.out


def test_later_run_keeps_other_rows(tmp_path, worker, monkeypatch):
    times = make_row(), make_row(workload="gat", title="GAT"), make_row(seconds={"gnnlib": [3.0], "dgl": [6.0]})
    for code, row in zip("abc", times, strict=True):
        monkeypatch.setattr("gnnlib.benchmarks.speed.figures.commit", lambda code=code: code)
        worker({"copy_bandwidth": 1e10}, {"row": row.document()})
        main(["speed", "--only", row.workload, "--quick", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    figures = [(row["workload"], row["seconds"]["gnnlib"], row["commit"]) for row in rows]
    assert figures == [("gcn", [3.0], "c"), ("gat", [1.0, 2.0, 4.0], "b")]


def test_unknown_name_raises_before_timing(tmp_path, capsys):
    assert main(["speed", "--only", "gnc", "--out", str(tmp_path / "out")]) == 2
    assert "--only: unknown 'gnc'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_notes_name_missing_packages():
    document = {"copy_bandwidth": [1e10], "machine": "m", "shrink": 1, "versions": {"torch_geometric": None}}
    assert "pip install 'gnnlib[peers]'" in "".join(show.notes(document))
