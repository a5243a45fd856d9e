"""Every layer under every tool of PyTorch; prepared graphs; the operators."""

import copy
import pickle

import pytest
import torch

import gnnlib
from gnnlib import (
    ChebConv,
    ECConv,
    GATConv,
    GatedGCNConv,
    GATv2Conv,
    GCNConv,
    GCNEConv,
    GINConv,
    GINEConv,
    Graph,
    MessageConv,
    MoNetConv,
    PNAConv,
    PredEdgeConv,
    RelGraphConv,
    SAGEConv,
    SGConv,
    SplineConv,
    Stack,
    adjacency,
    prepare,
)
from gnnlib._utils.model_state import evaluation_mode
from gnnlib.nn import conv as layers
from gnnlib.ops.autograd import operation
from gnnlib.testing.case import Case, apply, assert_close, inputs, outputs_and_gradients
from gnnlib.testing.graphs import bipartite, block, random_graph
from gnnlib.testing.torch_tools import TOOLS, compiled_equals_eager


def case(name, make, edge=None, **options):
    return Case(name, make, None, None, edge=edge, **options)


CASES = [
    case("GCNConv", lambda: GCNConv(5, 4), "weight"),
    case("GCNConv-right", lambda: GCNConv(5, 4, norm="right")),
    case("SGConv", lambda: SGConv(5, 4, k=2), "weight", positive=True),
    case("GINConv", lambda: GINConv(5, 4), "weight"),
    case("GINEConv", lambda: GINEConv(5, 4, edge_feats=3), 3),
    case("GCNEConv", lambda: GCNEConv(5, 4, edge_feats=3), 3),
    case("SAGEConv-mean", lambda: SAGEConv(5, 4), "weight"),
    case("SAGEConv-max", lambda: SAGEConv(5, 4, reduce="max"), "weight"),
    case("GATConv", lambda: GATConv(5, 4, num_heads=2)),
    case("GATConv-weight", lambda: GATConv(5, 4, num_heads=2), "weight"),
    case("GATv2Conv", lambda: GATv2Conv(5, 4, num_heads=2), "weight"),
    case("GatedGCNConv", lambda: GatedGCNConv(5, 4)),
    case("GatedGCNConv-edge", lambda: GatedGCNConv(5, 4, edge_feats=3), 3),
    case("PNAConv", lambda: PNAConv(5, 4)),
    case("PNAConv-edge", lambda: PNAConv(5, 4, edge_feats=3), 3),
    case("MessageConv", lambda: MessageConv(5, 4)),
    case("MessageConv-edge", lambda: MessageConv(5, 4, edge_feats=3), 3),
    case("ChebConv", lambda: ChebConv(5, 4, k=3), "weight", positive=True),
    case("MoNetConv", lambda: MoNetConv(5, 4, dim=3, num_kernels=2), 3),
    case("ECConv", lambda: ECConv(5, 4, edge_feats=3), 3),
    case("PredEdgeConv", lambda: PredEdgeConv(5, 4, pos_feats=2), pos=2),
    case("RelGraphConv", lambda: RelGraphConv(5, 4, num_rels=3), "weight", num_rels=3),
    case("RelGraphConv-basis", lambda: RelGraphConv(5, 4, 3, regularizer="basis", num_bases=2), num_rels=3),
    case("SplineConv", lambda: SplineConv(5, 4, kernel_size=3), pos=2),
]
BY_NAME = {str(case): case for case in CASES}
SLOW = {"compiled_equals_eager", "exported_equals_eager", "hessian_equals_eager"}


def test_every_layer_is_a_case():
    named = {type(case.make()).__name__ for case in CASES}
    assert named == {name for name in layers.__all__ if name != "Conv"}


@pytest.mark.parametrize(
    "tool", [pytest.param(tool, marks=[pytest.mark.slow] * (tool.__name__ in SLOW)) for tool in TOOLS],
    ids=lambda tool: tool.__name__,
)  # fmt: skip
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_layer(case, tool):
    tool(case)


def arguments(name="GCNConv", graph=None):
    conv, args = BY_NAME[name].build(), inputs(BY_NAME[name], random_graph() if graph is None else graph)
    return conv, args


class TestPreparedGraphs:
    def test_is_a_graph_with_the_same_features_and_sizes(self):
        graph = gnnlib.graph.batch([random_graph(), random_graph(7, 9)])
        graph.ndata["x"], graph.edata["w"] = torch.rand(18, 2), torch.rand(32)
        prepared = prepare(graph)
        assert isinstance(prepared, Graph)
        assert prepare(prepared) is prepared
        assert torch.equal(prepared.ndata["x"], graph.ndata["x"])
        assert torch.equal(prepared.edata["w"], graph.edata["w"])
        assert prepared.batch_num_nodes().tolist() == [11, 7]
        assert (prepared.num_nodes(), prepared.num_edges()) == (18, 32)
        for ours, theirs in zip(adjacency(prepared).csc, adjacency(graph).csc, strict=True):
            assert torch.equal(ours, theirs)

    @pytest.mark.parametrize("make", [random_graph, block, bipartite])
    def test_is_a_pytree(self, make):
        graph = make()
        graph.srcdata["x"] = torch.rand(graph.num_src_nodes(), 3)
        graph.dstdata["z"] = torch.rand(graph.num_dst_nodes(), 2)
        prepared = prepare(graph)
        leaves, spec = torch.utils._pytree.tree_flatten(prepared)
        assert all(isinstance(leaf, torch.Tensor) for leaf in leaves)
        again = torch.utils._pytree.tree_unflatten(leaves, spec)
        sizes = [(g.num_src_nodes(), g.num_dst_nodes(), g.num_edges(), g.num_nodes()) for g in (graph, again)]
        assert sizes[0] == sizes[1]
        assert (again.is_block, again.is_homogeneous) == (graph.is_block, graph.is_homogeneous)
        assert torch.equal(again.srcdata["x"], graph.srcdata["x"])
        assert torch.equal(again.dstdata["z"], graph.dstdata["z"])
        torch.utils._pytree.tree_map(lambda leaf: None, prepared)  # what is no tensor does not fail

    def test_copies(self):
        prepared = prepare(random_graph())
        for other in (pickle.loads(pickle.dumps(prepared)), copy.deepcopy(prepared), copy.copy(prepared)):
            assert torch.equal(adjacency(other).csc.indptr, adjacency(prepared).csc.indptr)
        assert prepare(pickle.loads(pickle.dumps(prepared))).num_nodes() == 11

    def test_several_edge_types(self):
        graph = Graph({("a", "x", "b"): ([0], [1]), ("b", "y", "a"): ([1], [0])})
        with pytest.raises(TypeError, match="prepare: expected a graph with one edge type"):
            prepare(graph)
        assert prepare(graph["x"]).num_dst_nodes() == 2


@pytest.mark.slow
class TestCompile:
    @pytest.fixture(autouse=True)
    def reset(self):
        torch.compiler.reset()

    def test_graphs_share_a_compilation(self):
        from torch._dynamo.testing import CompileCounter

        counter = CompileCounter()
        conv = BY_NAME["GATConv"].build()
        compiled = torch.compile(conv, backend=counter, fullgraph=True)
        for num_nodes, num_edges in ((11, 23), (20, 60), (31, 50), (15, 99)):
            _, args = arguments("GATConv", random_graph(num_nodes, num_edges))
            prepared = args._replace(graph=prepare(args.graph))
            assert_close({"y": apply(compiled, prepared)}, {"y": apply(conv, args)}, 1e-12)
        assert counter.frame_count == 2  # for these sizes, and for all sizes

    def test_another_graph_is_a_break(self):
        conv, args = arguments()
        with pytest.raises(
            RuntimeError, match=r"expected gnnlib.prepare\(graph\), got another graph, message dropout or"
        ):
            apply(torch.compile(conv, backend="eager", fullgraph=True), args)
        torch.compiler.reset()
        assert torch.equal(apply(torch.compile(conv, backend="eager"), args), apply(conv, args))

    def test_two_node_sets(self):
        for graph in (block(), bipartite()):
            conv = SAGEConv(5, 4)
            x = torch.rand(graph.num_src_nodes(), 5), torch.rand(graph.num_dst_nodes(), 5)
            y = torch.compile(conv, backend="eager", fullgraph=True)(prepare(graph), x)
            assert_close({"y": y}, {"y": conv(graph, x)}, 1e-6)

    def test_functional_transforms_inside(self):
        """Operators have no derivatives of torch.func: they would be zero. Between graphs, eager mode computes them."""
        conv, args = arguments()
        args = args._replace(graph=prepare(args.graph))

        def gradient(x):
            return torch.func.grad(lambda x: apply(conv, args._replace(x=x)).sin().sum())(x)

        def forward(x):
            return torch.func.jvp(lambda x: apply(conv, args._replace(x=x)), (x,), (x,))[1]

        for function in (gradient, forward):
            with pytest.raises(RuntimeError, match=r"expected torch.func and forward-mode derivatives outside"):
                torch.compile(function, backend="aot_eager", fullgraph=True)(args.x)
            actual = torch.compile(function, backend="aot_eager")(args.x)
            assert_close({"y": actual}, {"y": function(args.x)}, 1e-12)

    def test_first_call_of_a_process(self, server, tmp_path):
        program = tmp_path / "first.py"
        program.write_text(
            "import torch, gnnlib\n"
            "from gnnlib.testing.graphs import random_graph\n"
            "x, graph = torch.rand(11, 5), random_graph()\n"
            "for conv in (gnnlib.GCNConv(5, 4), gnnlib.GATConv(5, 4)):\n"
            "    compiled = torch.compile(conv, backend='eager', fullgraph=True)(gnnlib.prepare(graph), x)\n"
            "    assert torch.allclose(compiled, torch.compile(conv, backend='eager')(graph, x))\n"
            "    assert torch.allclose(compiled, conv(graph, x))\n"
        )
        result = server.start(program, env={}).wait()
        assert result.returncode == 0, result.stderr

    test_first_call_of_a_process = pytest.mark.process(test_first_call_of_a_process)

    @pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # inductor
    def test_inductor(self):
        compiled_equals_eager(BY_NAME["GCNConv"], "inductor")

    def test_a_stack(self):
        model = Stack.build(GCNConv, 5, 8, 3, 3, norm="batchnorm", skip="residual")
        graph, x = random_graph(), torch.rand(11, 5)
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        with evaluation_mode(model):
            assert_close({"y": compiled(prepare(graph), x)}, {"y": model(graph, x)}, 1e-5)

    def test_message_dropout_runs_in_eager_mode(self):
        model = gnnlib.DropMessage(GCNConv(5, 4), 0.5)
        graph, x = prepare(random_graph()), torch.rand(11, 5)
        torch.manual_seed(0)
        y = torch.compile(model, backend="aot_eager")(graph, x)
        torch.manual_seed(0)
        assert torch.allclose(y, model(graph, x))

    def test_reversible_runs_in_eager_mode(self):
        parts = [gnnlib.GNNLayer(GCNConv(4, 4)) for _ in range(2)]
        model, graph = gnnlib.Reversible([gnnlib.ReversibleBlock(parts)]), random_graph()
        compiled, x = torch.compile(model, backend="aot_eager"), torch.rand(11, 8, requires_grad=True)
        y = [function(g, x) for function, g in ((compiled, prepare(graph)), (model, graph))]
        assert torch.equal(y[0], y[1])
        grads = [torch.autograd.grad(value.square().sum(), x)[0] for value in y]
        assert torch.equal(grads[0], grads[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GCNConv", "GATConv-weight", "MessageConv-edge"])
def test_derivatives_of_an_exported_program(name):
    conv, args = arguments(name)
    prepared = prepare(args.graph), *args[1:]
    program = torch.export.export(conv, prepared).module()
    x = args.x.clone().requires_grad_()
    for order in (1, 2):
        grads = []
        for function, graph in ((program, prepared[0]), (conv, args.graph)):
            y = function(graph, x, args.edge).sin().sum()
            for _ in range(order):
                (y,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
            grads.append(y)
        assert_close({"grad": grads[0]}, {"grad": grads[1]}, 1e-12)


@pytest.mark.process
def test_an_exported_program_in_a_file(server, tmp_path):
    """Saved here, loaded by another process, without pickle."""
    conv, args = arguments("GINEConv")
    prepared = prepare(args.graph)
    exported = torch.export.export(conv, (prepared, *args[1:]))
    exported.example_inputs = None
    torch.export.save(exported, tmp_path / "conv.pt2")
    src, dst = prepared.edges()
    torch.save([src, dst, args.x, args.edge, conv(*args)], tmp_path / "values.pt")
    script = tmp_path / "load.py"
    script.write_text(
        "import torch, gnnlib\n"
        "src, dst, x, edge, expected = torch.load('values.pt', weights_only=True)\n"
        "graph = gnnlib.prepare(gnnlib.graph.new_graph(src, dst, len(x)))\n"
        "assert torch.equal(torch.export.load('conv.pt2').module()(graph, x, edge), expected)\n"
    )
    done = server.start(script, env={}).wait()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def calls_of_operators():
    """The arguments of one call of each operator, with the layers of `CASES`."""
    calls = {}
    original = operation.Operator._call_operator.__func__

    def record(cls, args):
        needs_grad = issubclass(cls, operation.Operation)
        inputs = (
            t.detach().requires_grad_(needs_grad and t.requires_grad) if isinstance(t, torch.Tensor) else t
            for t in args
        )
        calls.setdefault(cls, tuple(inputs))
        return original(cls, args)

    with pytest.MonkeyPatch.context() as patch, operation._operators():
        patch.setattr(operation.Operator, "_call_operator", classmethod(record))
        for case in CASES:
            conv, args = case.build(), inputs(case, random_graph())
            actual = outputs_and_gradients(conv, args)
            with pytest.MonkeyPatch.context() as eager:
                eager.setattr(operation, "_in_operator_backward", False)
                assert_close(actual, outputs_and_gradients(conv, args), 1e-12)
    return calls


@pytest.mark.slow
def test_operators():
    """They give eager mode's values, and PyTorch's own test of operators passes."""
    calls = calls_of_operators()
    names = {name for name in dir(torch.ops.gnnlib) if not name.startswith("_") and name != "name"}
    called = {cls.operator._qualname.removeprefix("gnnlib::") for cls in calls}
    assert called == names
    for cls, args in calls.items():
        flat = (
            *args[: cls.num_inputs],
            *operation.tensors_of_adjacency(args[cls.num_inputs]),
            *args[cls.num_inputs + 1 : cls.num_arguments],
        )
        torch.library.opcheck(cls.operator, flat)
