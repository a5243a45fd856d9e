"""Features on another device than the graph, without a GPU: on a device that only has the rules of one."""

import pytest
from torch.utils import backend_registration

from tests.card import MODULES, PROGRAMS
from tests.served import served

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
        reason="this PyTorch has no devices in Python",
    ),
]


@pytest.fixture(scope="module")
def run(server, tmp_path_factory):
    """Calls a function of `tests.card` in a process of its own."""
    with served(server, tmp_path_factory.mktemp("card"), "tests.card", TRITON_INTERPRET="1") as call:
        yield call


@pytest.mark.parametrize("name", MODULES)
def test_module_equals_that_on_the_cpu(run, name):
    run("compare_module", name)


@pytest.mark.parametrize("name", ["GCNConv", "PredEdgeConv", "SplineConv", "ECConv", "SAGEConv-max"])
def test_acceptance_check(run, name):
    """The check of layers on a card, which needs one elsewhere."""
    run("check_layer", name)


@pytest.mark.parametrize("name", ["GCNConv", "GATConv", "PNAConv", "MessageConv"])
def test_module_on_kernels_in_triton(run, name):
    pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    run("compare_triton", name)


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(run, name):
    run(name)
