"""Data sets as published, and three small graphs in the same format, with and without each table."""

import zipfile

import pytest
import torch

from gnnlib.datasets import FormatError, ten_folds, tu
from tests.attack.kinds import zips

# a path 1-2-3 whose nodes are listed out of order, an edge listed twice, a graph of one node, a directed pair
TABLES = {
    "A": "1, 4\n4, 1\n4, 6\n6, 4\n4, 6\n2, 3\n",
    "graph_indicator": "1\n3\n3\n1\n2\n1\n",
    "node_labels": "5\n9\n5\n-2\n9\n5\n",
    "graph_labels": "1\n-1\n1\n",
}


def write(folder, name="MUTAG", **changed):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        for table, text in {**TABLES, **changed}.items():
            if text is not None:
                archive.writestr(f"{name}//{name}_{table}.txt", text)
    return folder / f"{name}.zip"


@pytest.mark.parametrize("place", ["tu", "."])
def test_small_graphs(tmp_path, place):
    write(tmp_path / place)
    graphs, labels = tu("MUTAG", tmp_path)
    assert [g.num_nodes() for g in graphs] == [3, 1, 2]
    assert [sorted(zip(*(ends.tolist() for ends in g.edges()))) for g in graphs] == [
        [(0, 1), (1, 0), (1, 2), (2, 1)],
        [],
        [(0, 1)],
    ]
    # kinds in ascending order: -2, 5, 9
    assert graphs[0].ndata["feat"].tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]
    assert graphs[1].ndata["feat"].tolist() == [[0, 0, 1]]
    assert graphs[2].ndata["feat"].tolist() == [[0, 0, 1], [0, 1, 0]]
    assert labels.tolist() == [1, 0, 1]
    assert labels.dtype == torch.int64
    assert graphs[0].ndata["feat"].untyped_storage().nbytes() == 9 * 4  # no view of the whole set


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"A": None}, r"expected MUTAG/MUTAG_A\.txt, got graph_indicator, graph_labels, node_labels$"),
        ({"graph_indicator": None}, r"expected MUTAG/MUTAG_graph_indicator\.txt, got A, graph_labels, node_labels$"),
        ({"graph_labels": None}, r"expected MUTAG/MUTAG_graph_labels\.txt, got A, graph_indicator, node_labels$"),
        ({"graph_indicator": ""}, r"MUTAG_graph_indicator\.txt: expected rows of 1 integers, got none"),
        ({"node_labels": " \n"}, r"MUTAG_node_labels\.txt: expected as many rows as nodes, 6, got 0"),
        ({"A": "1, 2\n3\n"}, r"MUTAG_A\.txt: expected rows of integers"),
        ({"A": "1, x\n"}, r"MUTAG_A\.txt: expected rows of integers .*x"),
        ({"A": "1, 2, 3\n"}, r"MUTAG_A\.txt: expected rows of 2 integers, got rows of 3"),
        ({"node_labels": "5\n"}, r"MUTAG_node_labels\.txt: expected as many rows as nodes, 6, got 1"),
        ({"edge_labels": "5\n"}, r"MUTAG_edge_labels\.txt: expected as many rows as edges, 6, got 1"),
        ({"node_attributes": "1.5\nx\n"}, r"MUTAG_node_attributes\.txt: expected rows of numbers"),
        ({"graph_labels": "1, 2\n1, 2\n1, 2\n"}, r"MUTAG_graph_labels\.txt: expected rows of 1 integer, got rows of 2"),
        ({"graph_labels": "1\n1\n"}, r"expected nodes of graphs 1 to 2, .* got 1 to 3"),
        ({"graph_indicator": "0\n3\n3\n1\n2\n1\n"}, r"expected nodes of graphs 1 to 3, .* got 0 to 3"),
        ({"A": "1, 7\n"}, r"expected edges between nodes 1 to 6, got 1 to 7"),
        ({"A": "0, 1\n"}, r"expected edges between nodes 1 to 6, got 0 to 1"),
        ({"A": "1, 2\n4, 6\n"}, r"expected edges within one graph, got 1 between two graphs"),
    ],
)
def test_inconsistent_tables(tmp_path, changed, message):
    path = write(tmp_path, **changed)
    with pytest.raises(FormatError, match=message) as error:
        tu("MUTAG", tmp_path)
    assert str(path) in str(error.value)


def test_a_zip_cut_anywhere_is_an_error(tmp_path):
    path = write(tmp_path)
    content = path.read_bytes()
    for cut in range(0, len(content), 50):
        path.write_bytes(content[:cut])
        with pytest.raises(FormatError, match=r"MUTAG\.zip: expected a zip of .*, got a truncated or damaged zip"):
            tu("MUTAG", tmp_path)
    path.write_bytes(content.replace(b"5\n9\n5\n", b"5\n9\n9\n"))  # one label changed: the zip's checksum tells
    with pytest.raises(FormatError, match=r"MUTAG\.zip: .* damaged zip .*CRC"):
        tu("MUTAG", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (zips.bomb_in_place, "CRC|Bad magic|overlap|expected"),
        (zips.large_size, r"expected at most \d+ bytes, got 2147483648"),
        (zips.encrypted, "MUTAG_A.txt: expected a member without encryption, got an encrypted one"),
        (zips.unknown_compression, "MUTAG_A.txt: expected a member that is stored or deflated, got method 93"),
        (zips.bzip2, "expected a member that is stored or deflated, got method 12"),
        (zips.lzma, "expected a member that is stored or deflated, got method 14"),
        (zips.twins, "MUTAG/MUTAG_A.txt: expected one member, got 2"),
        (zips.other_folder, r"expected MUTAG/MUTAG_A\.txt, got no table$"),
        (zips.rubbish, r"MUTAG_A\.txt: expected rows of integers"),
    ],
)
def test_foreign_zips(tmp_path, forge, message):
    path = write(tmp_path)
    forge(path)
    with pytest.raises(FormatError, match=rf"{path}: .*({message})"):
        tu("MUTAG", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("forge", [zips.bomb_beside, zips.traversal])
def test_other_members_are_not_read(tmp_path, monkeypatch, forge):
    path = write(tmp_path)
    expected = tu("MUTAG", tmp_path)[1]
    forge(path)
    monkeypatch.setattr(zipfile.ZipFile, "extract", None)
    assert torch.equal(tu("mutag", tmp_path)[1], expected)
    assert [file.name for file in tmp_path.iterdir()] == ["MUTAG.zip"]


@pytest.mark.parametrize("name", ["../MUTAG", "a/b", "", 3, None])
def test_bad_names(tmp_path, name):
    with pytest.raises(ValueError, match=f"tu: expected the name of a data set, such as MUTAG, got {name!r}"):
        tu(name, tmp_path)


def test_names_in_any_case(tmp_path):
    write(tmp_path, "Own-Set_2")
    assert len(tu("own-set_2", tmp_path)[0]) == 3


# what a data set may lack or have besides


def test_degrees_where_nodes_have_no_labels(tmp_path):
    """As Xu et al. 2019 for social networks; kinds of degrees in ascending order."""
    write(tmp_path, node_labels=None)
    graphs, _ = tu("MUTAG", tmp_path)
    degrees = torch.cat([graph.in_degrees() for graph in graphs])
    assert degrees.tolist() == [1, 2, 1, 0, 0, 1]
    feat = torch.cat([graph.ndata["feat"] for graph in graphs])
    assert torch.equal(feat, torch.nn.functional.one_hot(degrees.long(), 3).float())


def test_attributes_come_before_labels(tmp_path):
    write(tmp_path, node_attributes="".join(f"{i}.5, -{i}\n" for i in range(6)))
    plain, _ = tu("MUTAG", tmp_path)
    graphs, _ = tu("MUTAG", tmp_path, attributes=True)
    for graph, other in zip(graphs, plain):
        assert torch.equal(graph.ndata["feat"][:, 2:], other.ndata["feat"])
    nodes = torch.cat([graph.ndata["feat"][:, :2] for graph in graphs]).tolist()
    assert nodes == [[0.5, 0], [3.5, -3], [5.5, -5], [4.5, -4], [1.5, -1], [2.5, -2]]  # nodes by graph
    write(tmp_path, node_labels=None, node_attributes="1\n2\n3\n4\n5\n6\n")
    graphs, _ = tu("MUTAG", tmp_path, attributes=True)
    assert torch.cat([graph.ndata["feat"] for graph in graphs]).flatten().tolist() == [1, 4, 6, 5, 2, 3]


def test_features_of_edges(tmp_path):
    """Of the first of parallel edges; labels in ascending order: 7, 8, 9."""
    labels, numbers = "7\n8\n9\n7\n8\n9\n", "".join(f"{i}.25\n" for i in range(6))
    write(tmp_path, edge_labels=labels, edge_attributes=numbers)
    graphs, _ = tu("MUTAG", tmp_path, attributes=True)
    rows = {}
    for graph in graphs:
        src, dst = graph.edges()
        rows |= {
            (graph.num_nodes(), u, v): row
            for u, v, row in zip(src.tolist(), dst.tolist(), graph.edata["feat"].tolist())
        }
    assert rows == {
        (3, 0, 1): [0.25, 1, 0, 0],  # 1, 4
        (3, 1, 0): [1.25, 0, 1, 0],  # 4, 1
        (3, 1, 2): [2.25, 0, 0, 1],  # 4, 6
        (3, 2, 1): [3.25, 1, 0, 0],  # 6, 4
        (2, 0, 1): [5.25, 0, 0, 1],  # 2, 3
    }
    assert "feat" not in tu("MUTAG", write(tmp_path / "plain").parent)[0][0].edata


def test_several_targets(tmp_path):
    write(tmp_path, graph_labels=None, graph_attributes="0.5, 1\n-1, 2\n3, 3.25\n")
    _, targets = tu("MUTAG", tmp_path)
    assert targets.tolist() == [[0.5, 1], [-1, 2], [3, 3.25]]
    assert targets.dtype == torch.float32


def test_graphs_without_edges(tmp_path):
    write(tmp_path, A="")
    graphs, _ = tu("MUTAG", tmp_path)
    assert [(g.num_nodes(), g.num_edges()) for g in graphs] == [(3, 0), (1, 0), (2, 0)]


def test_an_indicator_with_gaps(tmp_path):
    """Labels for all numbers: a number without nodes is a graph without nodes. Labels for those with nodes: none is."""
    indicator = "1\n5\n5\n1\n2\n1\n"
    write(tmp_path, graph_indicator=indicator, graph_labels="1\n-1\n1\n1\n-1\n")
    graphs, labels = tu("MUTAG", tmp_path)
    assert [g.num_nodes() for g in graphs] == [3, 1, 0, 0, 2]
    assert labels.tolist() == [1, 0, 1, 1, 0]
    write(tmp_path, graph_indicator=indicator)
    graphs, labels = tu("MUTAG", tmp_path)
    assert [g.num_nodes() for g in graphs] == [3, 1, 2]
    assert labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("name", "nodes", "edges", "kinds", "classes"),
    [
        ("MUTAG", 3371, 7442, 7, [63, 125]),
        ("PROTEINS", 43471, 162088, 3, [663, 450]),
        ("NCI1", 122747, 265506, 37, [2053, 2057]),
        ("ENZYMES", 19580, 74564, 3, [100] * 6),
        ("IMDB-BINARY", 19773, 193062, 65, [500, 500]),
    ],
)
def test_published_counts(data_dir, name, nodes, edges, kinds, classes):
    if not (data_dir / "tu" / f"{name}.zip").is_file():
        pytest.skip(f"no real data: {data_dir}/tu has no {name}.zip")
    graphs, labels = tu(name, data_dir)
    assert labels.bincount().tolist() == classes
    assert len(graphs) == sum(classes)
    assert sum(g.num_nodes() for g in graphs) == nodes
    assert sum(g.num_edges() for g in graphs) == edges
    feat = torch.cat([g.ndata["feat"] for g in graphs])
    assert feat.shape == (nodes, kinds)
    assert torch.equal(feat.sum(1), torch.ones(nodes))
    assert feat.sum(0).min() > 0
    for graph in graphs[:50]:
        pairs = set(zip(*(ends.tolist() for ends in graph.edges())))
        assert len(pairs) == graph.num_edges()
        assert pairs == {(v, u) for u, v in pairs}


def test_ten_folds():
    labels = torch.tensor([0] * 63 + [1] * 125)
    folds = ten_folds(labels)
    assert sorted(torch.cat([test for _, test in folds]).tolist()) == list(range(188))
    for train, test in folds:
        assert sorted(torch.cat([train, test]).tolist()) == list(range(188))
        assert int((labels[test] == 0).sum()) in (6, 7)
        assert int((labels[test] == 1).sum()) in (12, 13)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(folds, ten_folds(labels, seed=0)))
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(folds, ten_folds(labels, seed=1)))
