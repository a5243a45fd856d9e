"""Folders of graph stores."""

import json
import os
import zlib

import numpy as np
import torch

from gnnlib import GraphStore, adjacency
from gnnlib._platform.dgl import dgl
from gnnlib._utils.documents import seal
from gnnlib.data import archive
from gnnlib.data.archive import join, save_part
from gnnlib.data.flat import FlatGraphs
from gnnlib.data.layout import BLOCK, SUMS
from gnnlib.images import label_maps, maps
from gnnlib.kernels.batching import Runs, find_contradiction, shift_runs
from tests.attack.kinds import Kind, Mutation
from tests.attack.kinds.tables import HEADERS, write_header
from tests.attack.mutators import damage, mutated

__all__ = ["Stores", "seal_store", "write_store"]

MAPS = ("label_maps.npy", "label_map_shapes.npy")
NUMBERS = [-(2**15), -1, 0, 1, 5, 2**15 - 1]


def write_store(folder, num_graphs=12, width=3, seed=0):
    """A store of random graphs, whose edges are in no order: all arrays of numbers are there."""
    some = torch.Generator().manual_seed(seed)
    graphs = []
    for i in range(num_graphs):
        num_nodes, num_edges = 2 + i % 5, 3 * (i % 4)
        ends = torch.randint(num_nodes, (2, num_edges), generator=some)
        graph = dgl.graph((ends[0], ends[1]), num_nodes=num_nodes)
        graph.ndata["feat"] = torch.rand(num_nodes, width, generator=some)
        graph.edata["weight"] = torch.rand(num_edges, generator=some)
        graphs.append(graph)
    part = folder / "part.npz"
    save_part(part, FlatGraphs.of_batch(dgl.batch(graphs), by=["csc", "csr"]))
    maps.save_part(part, [np.arange(2 * i).reshape(2, i) % graph.num_nodes() for i, graph in enumerate(graphs)])
    header = {"graphs": num_graphs, "label_maps": True, "label_maps_checksum": maps.join(folder, [part])}
    join(folder, [part], header, torch.arange(num_graphs))
    part.unlink()
    maps.beside(part).unlink()


def seal_store(folder):
    """Gives a folder that was changed the checksums of its contents, as an attacker would."""
    header, data = json.loads((folder / "store.json").read_text()), (folder / "columns.bin").read_bytes()
    try:
        place = header["columns"][SUMS]["place"]
        sums = np.array([zlib.crc32(data[i : min(i + BLOCK, place)]) for i in range(0, place, BLOCK)], np.uint32)
        (folder / "columns.bin").write_bytes(data[:place] + sums.tobytes() + data[place + sums.nbytes :])
        header[SUMS] = archive._digest(sums)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        pass  # a header that describes no file
    if isinstance(header, dict) and all((folder / name).exists() for name in MAPS):
        header["label_maps_checksum"] = maps._checksums(folder)
    (folder / "store.json").write_text(json.dumps(seal(header)))


class Stores(Kind):
    errors = (ValueError, FileNotFoundError)
    names = ("store.json", "columns.bin", *MAPS)
    variants = ("small", "blocks")

    def make(self, variant, folder):
        write_store(folder, width=3 if variant == "small" else 2**10)  # of several blocks
        compile_kernels()

    def mutate(self, variant, folder, draw):
        header, data = folder / "store.json", folder / "columns.bin"
        kind = draw.choice(
            ["header", "numbers", "forged header", "forged numbers", "forged numbers", "late", "missing"]
        )
        if kind == "header":
            return Mutation(f"{kind} {damage(header, draw)}")
        if kind == "numbers":
            return Mutation(f"{kind} {damage(data, draw)}")
        if kind == "forged header":
            header.write_text(json.dumps(mutated(json.loads(header.read_text()), draw, names=["edata.x", "ends.x"])))
        if kind == "forged numbers":
            change_numbers(folder, draw)
        if kind == "forged maps":
            path = folder / draw.choice(MAPS)
            write_header(path, draw.choice(HEADERS)) if draw.random() < 0.5 else damage(path, draw)
        if kind == "late":
            size = draw.randrange(data.stat().st_size)
            return Mutation(kind, late=lambda: os.truncate(data, size))
        if kind == "missing":
            draw.choice([header, data, *(folder / name for name in MAPS)]).unlink()
            return Mutation(kind)
        seal_store(folder)
        return Mutation(kind, forged=True)

    def read(self, variant, folder, mutation):
        archive.SPREAD = 64 if variant == "small" else 1  # all blocks when it is opened, or each when it is read
        store = GraphStore.open(folder)
        mutation.late()
        order = np.random.default_rng(0).permutation(len(store))[:1000]
        label = [values.tolist() for values in label_maps(folder)]
        return label, [content(store, chosen) for chosen in np.array_split(order, min(3, len(order)))]


def content(store, chosen):
    """Everything in a batch; the kernels and DGL read it too."""
    batch = store.batch(chosen)
    adj = adjacency(batch)
    arrays = [frame[name] for frame in (batch.ndata, batch.edata) for name in frame]
    arrays += [*batch.edges(), adj.src, adj.dst, *adj.csc, *adj.csr]
    arrays += [batch.in_degrees(), batch.batch_num_nodes(), store.select(chosen).labels]
    feat = batch.ndata.get("feat")
    if feat is not None and feat.dim() == 2 and feat.dtype == torch.float32:
        batch.ndata["sum"] = feat
        batch.update_all(dgl.function.copy_u("sum", "m"), dgl.function.sum("m", "sum"))
        arrays.append(batch.ndata["sum"])
    return [array.tolist() if array is not None else None for array in arrays]


def change_numbers(folder, draw):
    """Puts other numbers into an array of indices or of bounds."""
    columns = json.loads((folder / "store.json").read_text())["columns"]
    name = draw.choice([name for name in columns if name.startswith(("ends.", "starts.", "nodes", "edges"))])
    column, path = columns[name], folder / "columns.bin"
    data = bytearray(path.read_bytes())
    count = column["shape"][0]
    array = np.frombuffer(data, column["dtype"], count, column["place"]).copy()
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(count)
        array[place] = draw.choice([*NUMBERS, int(array[draw.randrange(count)]), int(array[place]) + 1])
    data[column["place"] : column["place"] + array.nbytes] = array.tobytes()
    path.write_bytes(data)


def compile_kernels():
    """For numbers of any width, in memory that is read only, as that of a mapped file is."""
    runs, bounds, number = Runs(np.array([0]), np.array([1]), np.array([0, 1])), np.array([0, 1]), np.array([0])
    for dtype in (np.int16, np.int32):
        numbers = np.zeros(2, dtype)
        numbers.flags.writeable = False
        find_contradiction(number, (bounds, bounds), numbers, numbers, numbers, numbers, numbers)
        for target in (torch.int32, torch.int64):
            shift_runs(torch.from_numpy(numbers), runs, bounds, target, closed=True)
