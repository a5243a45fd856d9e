"""Small data sets in OGB's raw layout, for OGB's own loaders: tables as gzipped csv, or npz."""

import gzip

import numpy as np
import pytest
import torch

from gnnlib.datasets.ogb_files import master

PACKAGES = ("graphproppred", "nodeproppred", "linkproppred")
TASKS = {name: row for package in PACKAGES for name, row in master(package).items()}
needs_ogb = pytest.mark.skipif(not TASKS, reason="ogb is not installed")  # importing it contacts the package index


def write_tables(folder, tables):
    """Each table, a list of rows, as ``folder/name.csv.gz``."""
    for name, rows in tables.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(f"{','.join(map(str, np.ravel(row)))}\n" for row in rows).encode()))
    return folder


def write_graphs(data, name="ogbg-molhiv", num_graphs=24, **changed):
    """Rings of 3 to 6 nodes below ``data/ogbg_molhiv``. The class of a graph shows on its first atom, or, in
    ogbg-ppa, on its edges; one label in nine is absent where there are several tasks. ``changed`` replaces tables."""
    row = TASKS[name]
    num_tasks, classes, molecules = int(row["num tasks"]), int(row["num classes"]), row["data type"] == "mol"
    sizes = [3 + i % 4 for i in range(num_graphs)]
    kinds = [i % max(classes, 2) for i in range(num_graphs)]
    labels = [[(kind + t) % max(classes, 2) for t in range(num_tasks)] for kind in kinds]
    if classes < 0:
        labels = [[kind + size / 4] for kind, size in zip(kinds, sizes)]
    elif num_tasks > 1:
        labels = [["" if (i + t) % 9 == 0 else label for t, label in enumerate(row)] for i, row in enumerate(labels)]
    parts = np.split(np.arange(num_graphs), [num_graphs // 2, 3 * num_graphs // 4])
    tables = {
        "raw/num-node-list": sizes,
        "raw/num-edge-list": sizes,
        "raw/edge": [(i, (i + 1) % n) for n in sizes for i in range(n)],
        "raw/edge-feat": [[i % 2, 0, 1] if molecules else [k / 40] * 7 for n, k in zip(sizes, kinds) for i in range(n)],
        "raw/graph-label": labels,
        **{f"split/{row['split']}/{part}": ids for part, ids in zip(("train", "valid", "test"), parts)},
    }
    if molecules:
        tables["raw/node-feat"] = [[k] * 9 if i == 0 else [1] * 9 for n, k in zip(sizes, kinds) for i in range(n)]
        tables["raw/node-feat"] = np.minimum(tables["raw/node-feat"], 1)
    return write_tables(data / name.replace("-", "_"), tables | changed)


def write_nodes(data, name="ogbn-arxiv", num_nodes=60, **changed):
    """Communities of a few classes below ``data/ogbn_arxiv``: an edge for each node to two others, mostly of its class;
    features (N, 8), the class with noise; 60, 20 and 20 percent in the split; papers, in ogbn-mag.
    ``changed`` replaces tables."""
    row, rng = TASKS[name], np.random.default_rng(0)
    binary, num_tasks, used = row["binary"] == "True", int(row["num tasks"]), min(int(row["num classes"]), 4)
    label = np.arange(num_nodes) % used
    src = np.repeat(np.arange(num_nodes), 2)
    dst = (src + rng.integers(1, num_nodes // used - 1, len(src)) * used) % num_nodes
    dst[::10] = rng.integers(0, num_nodes, len(dst[::10]))
    feat = np.eye(8)[label] + rng.normal(0, 0.5, (num_nodes, 8))
    parts = np.split(rng.permutation(num_nodes), [num_nodes * 3 // 5, num_nodes * 4 // 5])
    tables = {
        "raw/num-node-list": [num_nodes],
        "raw/num-edge-list": [len(src)],
        "raw/edge": np.stack([src, dst], 1),
        "raw/node-label": np.stack([(label + t) % used for t in range(num_tasks)], 1),
    }
    if row["has_node_attr"] == "True":
        tables["raw/node-feat"] = feat.round(4)
    if row["has_edge_attr"] == "True":
        tables["raw/edge-feat"] = np.hypot(feat[src], feat[dst]).round(4)
    for extra in row["additional node files"].split(","):
        if extra != "None":
            tables[f"raw/{'species' if extra == 'node_species' else extra}"] = 2000 + label[:, None]
    tables |= {f"split/{row['split']}/{part}": ids for part, ids in zip(("train", "valid", "test"), parts)}
    tables = (_among_types(tables, label) if row["is hetero"] == "True" else tables) | changed
    folder = data / name.replace("-", "_")
    return _write_arrays(folder, tables) if binary else write_tables(folder, tables)


def _among_types(tables, label):
    """The tables of one type of nodes as ogbn-mag's papers, each with an author and a field; authors share places."""
    num = len(label)
    types = {"author": num, "field_of_study": int(label.max()) + 1, "institution": 2, "paper": num}
    ids = np.arange(num)
    relations = {
        "author___affiliated_with___institution": (ids, ids % 2),
        "author___writes___paper": (ids, ids[::-1]),
        "paper___cites___paper": tables["raw/edge"].T,
        "paper___has_topic___field_of_study": (ids, label),
    }
    arrays = {
        "raw/num-node-dict": [list(types), list(types.values())],
        "raw/triplet-type-list": [relation.split("___") for relation in relations],
        "raw/nodetype-has-label": [list(types), [name == "paper" for name in types]],
        "split/time/nodetype-has-split": [list(types), [name == "paper" for name in types]],
        "raw/node-label/paper/node-label": tables["raw/node-label"],
    }
    for number, (relation, ends) in enumerate(relations.items()):
        arrays[f"raw/relations/{relation}/num-edge-list"] = [len(ends[0])]
        arrays[f"raw/relations/{relation}/edge"] = np.stack(ends, 1)
        arrays[f"raw/relations/{relation}/edge_reltype"] = [number] * len(ends[0])
    for table in ("node-feat", "node_year"):
        arrays[f"raw/node-feat/paper/{table}"] = tables[f"raw/{table}"]
    return arrays | {
        name.replace("time/", "time/paper/"): part for name, part in tables.items() if name.startswith("split/")
    }


def _write_arrays(folder, tables):
    """The raw tables as OGB lays out ogbn-papers100M; every fourth node has no label there, and is in no part."""
    names = {"num-node-list": "num_nodes_list", "num-edge-list": "num_edges_list", "edge": "edge_index"}
    raw = {name.removeprefix("raw/"): np.asarray(rows) for name, rows in tables.items() if name.startswith("raw/")}
    label = raw.pop("node-label", None)
    arrays = {
        names.get(name, name.replace("-", "_")): table.T if name == "edge" else table for name, table in raw.items()
    }
    arrays["node_feat"] = arrays["node_feat"].astype(np.float32)
    (folder / "raw").mkdir(parents=True)
    np.savez(folder / "raw" / "data.npz", **arrays)
    if label is None:
        return folder
    label = label.astype(np.float32)
    label[::4] = np.nan
    np.savez(folder / "raw" / "node-label.npz", node_label=label)
    split = {name: [i for i in ids if i % 4] for name, ids in tables.items() if name.startswith("split/")}
    return write_tables(folder, split)


RELATIONS = [("drug", "treats", "disease"), ("drug", "meets-drug", "drug"), ("gene", "causes", "disease")]
KINDS = {"disease": 20, "drug": 30, "gene": 25}


def write_links(
    data, name="ogbl-ddi", num_nodes=60, num_negatives=120, arrays=True, one_file=False, split=None, **changed
):
    """Communities as of `write_nodes` below ``data/ogbl_ddi``, without a tenth of the links for validation and a fifth
    for the test, and candidates in OGB's form; triples in the knowledge graphs. The split has NumPy arrays as OGB's, or
    tensors; it is three files or one. ``split`` replaces its tables, such as ``{"test": {"edge": ...}}``."""
    row, rng = TASKS[name], np.random.default_rng(0)
    typed, binary = row["is hetero"] == "True", row["binary"] == "True"
    triples = _triples(typed, num_nodes, rng)
    parts = np.split(rng.permutation(len(triples)), [len(triples) * 7 // 10, len(triples) * 8 // 10])
    rows = dict(zip(("train", "valid", "test"), (triples[np.sort(part)] for part in parts)))
    tables = {part: _candidates(name, part, rows[part], num_nodes, num_negatives, rng) for part in rows}
    for part, columns in (split or {}).items():
        tables[part] |= columns
    folder = data / name.replace("-", "_")
    train = rows["train"]
    raw = _relation_tables(train) if typed else _link_tables(row, train, num_nodes, rng)
    (_write_arrays if binary else write_tables)(folder, raw | changed)
    convert = (lambda table: table) if arrays else (lambda t: t if isinstance(t, list) else torch.from_numpy(t))
    tables = {part: {key: convert(table) for key, table in columns.items()} for part, columns in tables.items()}
    place = folder / "split" / row["split"]
    place.mkdir(parents=True, exist_ok=True)
    files = {"split_dict": tables} if one_file else tables
    for file, content in files.items():
        torch.save(content, place / f"{file}.pt", _use_new_zipfile_serialization=not arrays)
    return folder


def _triples(typed, num_nodes, rng):
    """Different links or triples, (n, 3): both ends, numbered in their types, and a relation; u < v without types."""
    if typed:
        rows = [
            (rng.integers(KINDS[head]), rng.integers(KINDS[tail]), relation)
            for relation, (head, _, tail) in enumerate(RELATIONS)
            for _ in range(60)
        ]
        return np.unique(rows, axis=0)
    src = np.repeat(np.arange(num_nodes), 4)
    dst = (src + rng.integers(1, num_nodes // 4 - 1, len(src)) * 4) % num_nodes
    rows = np.unique(np.sort(np.stack([src, dst], 1), 1), axis=0)
    return np.column_stack([rows, rows.sum(1) % 3])


def _candidates(name, part, rows, num_nodes, num_negatives, rng):
    """The tables of a part of the split."""
    n, trains = len(rows), part == "train"
    if name in ("ogbl-wikikg2", "ogbl-biokg"):
        tables = {"head": rows[:, 0], "relation": rows[:, 2], "tail": rows[:, 1]}
        kinds = [[RELATIONS[relation][end] for relation in rows[:, 2]] for end in (0, 2)]
        if name == "ogbl-biokg":
            tables |= {"head_type": kinds[0], "tail_type": kinds[1]}
        if not trains:
            for end, kind in zip(("head", "tail"), kinds):
                size = np.array([KINDS[k] for k in kind]) if name == "ogbl-biokg" else np.full(n, num_nodes)
                tables[f"{end}_neg"] = rng.integers(0, size[:, None], (n, 12))
        return tables
    if name == "ogbl-citation2":
        tables = {"source_node": rows[:, 0], "target_node": rows[:, 1]}
        return tables if trains else tables | {"target_node_neg": rng.integers(0, num_nodes, (n, 12))}
    tables = {"edge": rows[:, :2]}
    if name == "ogbl-collab":
        tables |= {"weight": np.ones(n), "year": np.full(n, {"train": 2010, "valid": 2018, "test": 2019}[part])}
    if not trains or name == "ogbl-vessel":
        tables["edge_neg"] = rng.integers(0, num_nodes, (num_negatives, 2))
    return tables


def _link_tables(row, train, num_nodes, rng):
    """The raw tables of the training links."""
    tables = {
        "raw/num-node-list": [num_nodes],
        "raw/num-edge-list": [len(train)],
        "raw/edge": train[:, :2],
    }
    if row["has_node_attr"] == "True":
        tables["raw/node-feat"] = (np.eye(8)[np.arange(num_nodes) % 4] + rng.normal(0, 0.5, (num_nodes, 8))).round(4)
    if row["additional node files"] == "node_year":
        tables["raw/node_year"] = 2000 + np.arange(num_nodes)[:, None] % 20
    if row["has_edge_attr"] == "True":
        tables["raw/edge-feat"] = rng.random((len(train), 3)).round(4)
    columns = {"edge_weight": [1] * len(train), "edge_year": [2010] * len(train), "edge_reltype": train[:, 2]}
    return tables | {f"raw/{name}": column for name, column in columns.items() if name in row["additional edge files"]}


def _relation_tables(train):
    """The raw tables of the training triples by relation."""
    tables = {"raw/num-node-dict": [list(KINDS), list(KINDS.values())], "raw/triplet-type-list": RELATIONS}
    for number, relation in enumerate(RELATIONS):
        rows = train[train[:, 2] == number]
        place = f"raw/relations/{'___'.join(relation)}"
        tables |= {
            f"{place}/num-edge-list": [len(rows)],
            f"{place}/edge": rows[:, :2],
            f"{place}/edge_reltype": [number] * len(rows),
        }
    return tables
