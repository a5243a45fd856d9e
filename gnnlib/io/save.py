"""Models as folders: ``config.json`` says what a model is made of, ``model.safetensors`` holds its numbers.

A model is written as it stands, not as it was made: each module is its class, its attributes and its parts, so whatever
was changed after construction is kept. There is nothing to execute in a folder.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib._utils.files import atomic_write
from gnnlib._version import __version__
from gnnlib.io.structure import Named, describe, rebuild
from gnnlib.train import loop as training

__all__ = ["about_model", "load_model", "predict", "save_model"]

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
Folder = str | os.PathLike[str]


def save_model(model: nn.Module, folder: Folder, about: Mapping[str, Any] | None = None) -> None:
    """Writes a model to a folder, from which `load_model` makes it again.

    Any model whose classes and functions can be imported: a `Stack` with any layer and remedy, those of
    `gnnlib.models`, networks of `gnnlib.grid._from_torch`, ``torch.nn`` modules; shared weights stay shared.

    Args:
        about: what else is to be known of it, as JSON takes it: the features it expects, where it comes from

    Raises: ValueError, before anything is written, for a part that is neither of these nor numbers or text (a lambda, a
    hook), naming where it is; OSError where the folder cannot be written.

    >>> import tempfile
    >>> from gnnlib import GCNConv, Stack
    >>> model = Stack.build(GCNConv, 8, 16, 3, num_layers=4, dropout=0.5).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(model, folder, about={"classes": ["a", "b", "c"]})
    ...     same = load_model(folder)
    ...     about_model(folder)
    {'classes': ['a', 'b', 'c']}
    >>> g, x = dgl.graph(([0, 1], [1, 0])), torch.ones(2, 8)
    >>> torch.equal(same(g, x), model(g, x))
    True
    """
    made, tensors = describe(model)
    versions = {"gnnlib": __version__, "torch": torch.__version__}
    text = json.dumps({"format": FORMAT, **versions, "about": dict(about or {}), "model": made}, indent=1)
    folder = Path(folder)
    with atomic_write(folder / WEIGHTS) as part:
        part.write_bytes(safetensors.torch.save(tensors))
        (folder / CONFIG).unlink(missing_ok=True)  # killed here, the folder holds no model, not halves of two
    with atomic_write(folder / CONFIG) as part:
        part.write_text(text + "\n")


def load_model(folder: Folder, device: torch.device | str = "cpu", known: Iterable[Named] = ()) -> nn.Module:
    """The model that `save_model` wrote, in evaluation mode.

    Args:
        device: where its tensors go
        known: modules and functions outside gnnlib and ``torch.nn`` that it may be made of; names of others are refused

    Raises: FileNotFoundError for a folder without a model; ValueError, naming the file, where one is damaged or of
    another format, names what is not known, or the weights are not those that the config describes.
    """
    config, path = _config(folder), Path(folder) / WEIGHTS
    if not path.exists():
        raise FileNotFoundError(f"load_model: expected {path}, which is not there")
    try:
        tensors = safetensors.torch.load_file(path, device=str(device))
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    try:
        model = rebuild(config["model"], tensors, known)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{Path(folder) / CONFIG}: {error}") from error
    return model.eval()


def about_model(folder: Folder) -> dict[str, Any]:
    """What `save_model` was told about it.

    Raises: as `load_model` of the config.
    """
    return _config(folder)["about"]


def predict(
    model: nn.Module,
    graphs: dgl.DGLGraph | Sequence[dgl.DGLGraph],
    feature: str = "feat",
    edge: str | None = None,
    batch_size: int = 256,
) -> Tensor:
    """A model's outputs for new graphs, in evaluation mode and without gradients: a row for each node, or, where the
    model has a readout, for each graph.

    Args:
        graphs: one, or several, which are batched
        feature: of the nodes, ``graph.ndata[feature]``
        edge: of the edges, ``graph.edata[edge]``; None: the model sees none
        batch_size: graphs at a time

    Raises: ValueError for no graphs; KeyError for one without these features, naming those it has.

    >>> from gnnlib import GCNConv, Stack, readout_mean
    >>> graph = dgl.graph(([0, 1], [1, 0]))
    >>> graph.ndata["feat"] = torch.ones(2, 4)
    >>> predict(Stack.build(GCNConv, 4, 8, 3, num_layers=2, readout=readout_mean), [graph] * 5).shape
    torch.Size([5, 3])
    """
    several = [graphs] if isinstance(graphs, dgl.DGLGraph) else list(graphs)
    if not several:
        raise ValueError("predict: expected a graph or more, got none")
    for graph in several:
        for name, data in ((feature, graph.ndata), (edge, graph.edata)):
            if name is not None and name not in data:
                raise KeyError(f"predict: expected graphs with {name!r}, got one with {sorted(map(str, data))}")
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))

    def batch(graph: dgl.DGLGraph) -> training.Batch:
        values = None if edge is None else graph.edata[edge].to(device)
        return training.Batch(graph, graph.ndata[feature].to(device), torch.empty(0), values)

    starts = range(0, len(several), batch_size)
    outputs, _ = training.predict(model, (batch(dgl.batch(several[i : i + batch_size])) for i in starts))
    return outputs.cpu()


def _config(folder: Folder) -> dict[str, Any]:
    path = Path(folder) / CONFIG
    if not path.exists():
        raise FileNotFoundError(f"load_model: expected a folder with {CONFIG} and {WEIGHTS}, found none in {folder}")
    try:
        config = json.loads(path.read_text())
        number, _, _ = config["format"], config["about"], config["model"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    if number != FORMAT:
        raise ValueError(
            f"{path} is of format {number!r}, expected {FORMAT}; it was written by gnnlib {config['gnnlib']}"
        )
    return config
