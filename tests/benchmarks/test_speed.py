"""The timing command: what it times agrees, and what it writes can be read back. Times themselves are not asserted."""

import json

import pytest

from benchmarks import speed
from benchmarks.__main__ import main


def test_a_row_is_the_median_of_the_ratios():
    row = speed.Row("step", ours=[1.0, 2.0, 4.0], peer=[3.0, 2.0, 8.0], difference=0.0)
    assert row.ratio == 2.0


def test_the_full_graph_has_the_size_of_the_design():
    graph = speed.power_law_graph()
    assert (graph.num_nodes(), graph.num_edges()) == (169_343, 2_489_343)
    degrees = graph.in_degrees()
    assert (degrees == graph.out_degrees()).all()  # reverses and self-loops are in
    assert degrees.max() > 100 * degrees.median()  # hubs


def test_speed_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "QUICK", 500)
    assert main(["speed", "--quick", "--repeats", "2", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert [row["workload"][:3] for row in rows] == ["GCN", "GAT"]
    for row in rows:
        assert len(row["ours"]) == len(row["peer"]) == 2
        assert row["difference"] < 1e-4
        assert row["ratio"] > 0
    assert "dgl.nn / gnnlib" in capsys.readouterr().out


def test_outputs_that_disagree_are_an_error(monkeypatch):
    from gnnlib import GCNConv

    other = {"GCN": (lambda: GCNConv(128, 128, norm="none"), lambda: GCNConv(128, 128))}
    monkeypatch.setattr(speed, "workloads", lambda: other)
    with pytest.raises(ValueError, match="GCN: expected the outputs of both to agree, they differ by"):
        speed.measure(repeats=1, shrink=500)
