"""DGL's functions for tests where DGL is absent: those of `gnnlib.graph`. Any other skips the test.

The suite runs without DGL if it is not installed, or if the environment variable ``GNNLIB_WITHOUT_DGL`` is set. The
root ``conftest.py`` calls `install` then. Tests and doctests get this module as ``dgl``, and ``gnnlib`` keeps its
placeholder.
"""

import re
import sys

import pytest
import torch

from gnnlib import graph as graphs
from gnnlib.graph import (
    EID,
    NID,
    Graph,
    add_self_loop,
    edge_endpoints,
    keep_edges,
    message_flow_graph,
    new_block,
    new_graph,
    to_bidirected,
)

__all__ = ["EID", "NID", "add_self_loop", "to_bidirected"]

DGLGraph = Graph
batch, unbatch = graphs.batch, graphs.unbatch

# What only DGL has: a test that reaches one of them is skipped.
FUNCTIONS = {"base", "nn", "ops"}
METHODS = {
    "add_edges",
    "adj_external",
    "adj_tensors",
    "add_nodes",
    "apply_edges",
    "clone",
    "edge_ids",
    "has_edges_between",
    "in_edges",
    "predecessors",
    "remove_edges",
    "remove_nodes",
    "update_all",
}
REASON = re.compile(
    rf"(?:dgl\.(?:{'|'.join(FUNCTIONS)})|\b(?!dgl\.)\w[-\w.]*): expected DGL, "
    rf"|DGLGraph, got (?:{'|'.join(METHODS)})$"
)


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    pytest.skip(f"needs DGL: dgl.{name}", allow_module_level=True)


def formats(self, names=None):
    """A `Graph` has one format."""
    return pytest.skip("needs DGL: formats") if names is None else self.local_var()


def graph(data, num_nodes=None, idtype=None, device=None):
    src, dst = data if isinstance(data, tuple) else (list(zip(*data)) or ([], []))
    if isinstance(src, str):
        pytest.skip(f"needs DGL: a graph in {src}")
    return new_graph(src, dst, num_nodes, idtype=idtype)


def heterograph(data, num_nodes_dict=None, idtype=None):
    graph = Graph(dict(sorted(data.items())), num_nodes_dict)
    return graph if idtype is None else graph._with_idtype(idtype)


def rand_graph(num_nodes, num_edges):
    return new_graph(*torch.randint(num_nodes, (2, num_edges)), num_nodes)


def create_block(data, num_src_nodes=None, num_dst_nodes=None, idtype=None):
    nums = [max(end) + 1 if num is None else num for end, num in zip(data, (num_src_nodes, num_dst_nodes), strict=True)]
    return new_block(*data, *nums, idtype=idtype)


def reverse(graph, copy_ndata=True, copy_edata=False):
    reversed_graph = graphs.reverse(graph)
    if not copy_edata:
        reversed_graph.edata.clear()
    return reversed_graph


def add_reverse_edges(graph):
    src, dst = edge_endpoints(graph)
    larger = new_graph(torch.cat([src, dst]), torch.cat([dst, src]), graph.num_nodes(), like=graph)
    larger.ndata.update(graph.ndata)
    return larger


def in_subgraph(graph, nodes):
    return keep_edges(graph, torch.isin(edge_endpoints(graph)[1], torch.as_tensor(nodes)))


def to_block(graph, dst_nodes=None):
    return message_flow_graph(graph, edge_endpoints(graph)[1].unique() if dst_nodes is None else dst_nodes)


def remove_self_loop(graph):
    src, dst = edge_endpoints(graph)
    return keep_edges(graph, src != dst)


def from_networkx(data):
    return Graph(data)


from_scipy = from_networkx


class _Submodules:
    """Finds no ``dgl.nn``: a test that imports it is skipped, and other packages receive an ImportError."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if not name.startswith("dgl."):
            return
        frame = sys._getframe(1)
        while "importlib" in frame.f_code.co_filename:
            frame = frame.f_back
        if "site-packages" in frame.f_code.co_filename:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        pytest.skip(f"needs DGL: {name}", allow_module_level=True)


def install(platform):
    """Puts this module in the place of DGL for all but ``gnnlib``, whose module ``platform`` has a placeholder."""
    module, placeholder = sys.modules[__name__], platform.dgl

    def of_importer(name):
        if name != "dgl":
            raise AttributeError(name)
        importer = sys._getframe(1).f_globals.get("__name__", "")
        return placeholder if importer.partition(".")[0] == "gnnlib" else module

    Graph.formats = formats
    del platform.dgl
    platform.__getattr__ = of_importer
    module.__path__ = []
    sys.meta_path.insert(0, _Submodules)
    sys.modules["dgl"] = module


def reason_to_skip(error):
    """Why a test, or a doctest, that raised this error needs DGL; None if it does not."""
    failures = [error, *getattr(error, "failures", [])]
    causes = [failure.exc_info[1] if hasattr(failure, "exc_info") else failure for failure in failures]
    match = next((match for match in (REASON.search(str(cause)) for cause in causes) if match), None)
    return None if match is None else f"needs DGL: {match[0]}"
