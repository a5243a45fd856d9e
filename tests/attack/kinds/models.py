"""Folders of saved models."""

import hashlib
import json
from functools import partial

import torch
from torch import nn

import gnnlib
from gnnlib import Stack, load_model, load_recipe, save_model
from gnnlib._utils.documents import seal
from gnnlib.grid import from_torch
from gnnlib.images import recipes
from gnnlib.testing.graphs import random_graph
from tests.attack.kinds import Kind, Mutation
from tests.attack.mutators import damage, mutated, nested

__all__ = ["DONORS", "FEATS", "HIDING", "MODELS", "NAMES", "SHELL", "TEXTS", "Models", "outputs", "seal_model"]

FEATS = 4
SHELL = {"partial": [{"name": "gnnlib.readout_mean"}, [], {}]}
HIDING = ["eval", "train", "forward", "__call__", "__deepcopy__", "__class__", "__setstate__", "_call_impl", "_apply"]
HIDING += ["_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_parameters", "_modules", "_compiled_call_impl"]
HIDING += ["state_dict", "extra_repr", "_version", "a-b", "x y", 'x", None) or getattr(self, "y', "é\u0301 ", ""]
NAMES = [*HIDING, "weight", "0", "module", "partial", "shared"]
TEXTS = ["os.system", "torch.load", "gnnlib.datasets.mnist", "gnnlib.GCNConv", ""]
DONORS = [None, True, -1, 10**30, 1e308, float("nan"), "", "x" * 1000, [], {}, [[]], {"module": "torch.nn.Linear"}]
DONORS += [{"name": "os.system"}, {"name": "gnnlib.load_model"}, {"shared": ""}, {"partial": [1, 2, 3]}, {"tuple": 3}]
DONORS += [SHELL, {"partial": [{"name": "torch.nn.Linear"}, [10**9, 10**9], {}]}, {"parameter": "0.weight"}]
DONORS += [{"dict": []}]


def network():
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    return from_torch(nn.Sequential(*layers), (1, 8, 8)).eval()


def stack():
    build = partial(Stack.build, gnnlib.SAGEConv, FEATS, 8, 3, num_layers=2)
    return build(
        norm=gnnlib.BatchNorm, skip=gnnlib.Residual, activation=partial(nn.LeakyReLU, 0.1), readout=gnnlib.readout_mean
    )


MODELS = {"network": network, "stack": stack}


def outputs(name, model):
    torch.manual_seed(0)
    inputs = (torch.randn(2, 1, 8, 8),) if name == "network" else (random_graph(), torch.randn(11, FEATS))
    with torch.no_grad():
        return model(*inputs)


def seal_model(folder):
    """Gives a folder that was changed the checksums of its contents, as an attacker would."""
    config = json.loads((folder / "config.json").read_text())
    config["weights"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps(seal(config)))


class Models(Kind):
    errors = (ValueError, FileNotFoundError)
    names = ("config.json", "model.safetensors")
    variants = tuple(MODELS)

    def make(self, variant, folder):
        torch.manual_seed(0)
        save_model(MODELS[variant](), folder, recipe=recipes.dwivedi)

    def mutate(self, variant, folder, draw):
        kind = draw.choice(["config"] * 6 + ["bytes"] * 3 + ["forged weights", "nested", "missing", "other"])
        config = folder / "config.json"
        if kind == "config":
            document = json.loads(config.read_text())
            part = draw.choice(["model", "model", "recipe"])
            document[part] = mutated(document[part], draw, DONORS, NAMES, TEXTS)
            config.write_text(json.dumps(seal(document)))
            return Mutation(kind, forged=True)
        if kind == "forged weights":
            what = damage(folder / "model.safetensors", draw)
            seal_model(folder)
            return Mutation(f"{kind} {what}", forged=True)
        if kind == "nested":
            head = config.read_text().partition('"recipe"')[0]
            config.write_text(f'{head}"model": {nested(draw.choice([200, 900, 5000, 10**5]))}}}')
            return Mutation(kind)
        if kind == "missing":
            (folder / draw.choice(self.names)).unlink()
            return Mutation(kind)
        if kind == "other":
            document = mutated(json.loads(config.read_text()), draw, DONORS, NAMES, TEXTS)
            config.write_text(json.dumps(document))
            return Mutation(kind)
        name = draw.choice(self.names)
        return Mutation(f"{name} {damage(folder / name, draw)}")

    def read(self, variant, folder, mutation):
        recipe, model = load_recipe(folder), load_model(folder)
        return None if mutation.forged else [repr(recipe), outputs(variant, model).tolist()]
