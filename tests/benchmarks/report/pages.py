"""Results as a run writes them, and pages as a reader's program parses them."""

import copy
import json
import re
from html.parser import HTMLParser

import numpy as np

from gnnlib._utils.documents import seal


def result(layer="gcn", values=(97.0, 98.0), **changes):
    """A complete result.json."""
    epochs = list(range(1, 6))
    curve = {"epoch": epochs, "loss": [2.0 / e for e in epochs], "validation": [100 - 50 / e for e in epochs]}
    base = {
        "task": "digits",
        "layer": layer,
        "title": layer.upper(),
        "arguments": {"epochs": 5, "seeds": len(values), "data": "/somewhere/secret"},
        "seeds": list(range(len(values))),
        "metric": {
            "name": "test accuracy",
            "unit": "%",
            "higher_is_better": True,
            "values": list(values),
            "mean": sum(values) / len(values),
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        },
        "validation": {"values": list(values)},
        "parameters": 12345,
        "seconds": 31.25,
        "readout": "flat: a linear layer over all pixels",
        "published": None,
        "curves": [curve] * len(values),
        "confusion": [[9, 1], [2, 8]],
        "classes": ["zero", "one"],
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "commit": "abc1234-dirty",
        "summary": "small images",
        "machine": "2 cores",
    }
    return {**copy.deepcopy(base), **changes}


GAT = result(
    "gat",
    (98.5, 98.7),
    published={"value": 99.0, "std": 0.7, "source": "Somebody 2018, table 2", "setting": "100 runs"},
    parameters=22000,
)
SAMPLE = {
    "image_0": np.eye(3),
    "pos_0": np.array([[0.0, 0.0], [1.0, 2.0]]),
    "src_0": np.array([0, 1, 1]),
    "dst_0": np.array([1, 0, 1]),
    "label_0": np.array(7),
    "title_0": np.array("a seven"),
}


def save(run, *results, **samples):
    for i, one in enumerate(results):
        folder = run / f"{i}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(one if isinstance(one, str) else json.dumps(seal(one)))
    if samples:
        np.savez(run / "samples.npz", **samples)
    return run


class Page(HTMLParser):
    """Collects tags and text, and checks that tags are closed in order."""

    VOID = frozenset(("meta", "link", "input", "img", "br"))

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def assert_self_contained(text):
    page = Page(text)
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
            assert attributes.get(name, "#").startswith(("data:", "#")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    inner = re.findall(r'(?:url\(|href=")#([^")]+)', text)
    assert set(inner) <= set(ids)
    assert all(image["alt"] for image in page.all("img"))
    assert all(drawing.get("aria-label") or drawing.get("aria-hidden") for drawing in page.all("svg"))
    return page
