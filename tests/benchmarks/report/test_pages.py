"""Pages of poisoned results: no text of a result, a sample or a folder's name becomes an element, or runs.

Each text and each free name is poisoned. A parser reads the page in any case, and Chromium opens it where Debian's
package and Playwright are installed. The page's Content-Security-Policy is switched off there: escaping alone counts.
"""

import json

import numpy as np
import pytest
import torch

from gnnlib._platform.dgl import dgl
from gnnlib._utils.documents import seal
from gnnlib.benchmarks.depth import TrainingSettings, depth_study
from gnnlib.benchmarks.depth import report as depth_report
from gnnlib.benchmarks.report import write_report
from gnnlib.benchmarks.report.reading import EXTRAS, NEEDED
from tests.benchmarks.report.pages import SAMPLE, Page, assert_self_contained, result

POISON = (
    "\"'><script>poison('script')</script><img src=x onerror=poison('img')><svg onload=poison('svg')></svg>"
    "</style></title><script>poison('style')</script><a href=\"javascript:poison('a')\" onclick=poison('click') "
    "onmouseover=poison('over')>{{ 7*7 }}{% raw %}$\\frac{$<!--"
)
NAME = "\"'><img src=x onerror=poison('name')>{{ 7*7 }}"  # without a slash, for files


def poisoned(value, keys):
    """The value with all texts poisoned, and all names that are not among the keys."""
    if isinstance(value, dict):
        return {key if key in keys else key + POISON: poisoned(item, keys) for key, item in value.items()}
    if isinstance(value, list):
        return [poisoned(item, keys) for item in value]
    return value + POISON if isinstance(value, str) else value


def names(value):
    """All names inside a document."""
    if isinstance(value, dict):
        return {*value, *(name for item in value.values() for name in names(item))}
    return {name for item in value for name in names(item)} if isinstance(value, list) else set()


def run_page(folder):
    """The report of two layers, of a damaged one and of one without a result."""
    texts = dict(when="2026-01-01", command="python -m benchmarks run digits", readout="flat")
    published = {"value": 99.0, "std": 0.7, "source": "a paper", "setting": "ten runs"}
    arguments = {"width": 5, "note": "words", "data": "/somewhere/secret"}
    extras = {"published": published, "figures": {"error": {"mean": 0.5}}, "arguments": arguments, **texts}
    results = [result(layer, **extras) for layer in ("gcn", "gat")]
    results[1] |= {"classes": None, "confusion": [[i, 1] for i in (1, 2)]}
    free = {*results[0]["versions"], *arguments, *results[0]["figures"]}
    run = folder / NAME
    for i, document in enumerate(poisoned(results, names(results) - free)):
        for name, kind in {**NEEDED, **EXTRAS}.items():
            part, _, key = name.rpartition(".")
            table = document[part] if part else document
            assert kind != "a text" or POISON in table[key], f"{name} is not poisoned"
        document["curves"][0][POISON] = [0.5] * 5
        (run / f"{i}{NAME}").mkdir(parents=True)
        (run / f"{i}{NAME}" / "result.json").write_text(json.dumps(seal(document)))
    (run / f"none{NAME}").mkdir()
    (run / f"damaged{NAME}").mkdir()
    (run / f"damaged{NAME}" / "result.json").write_text(json.dumps(seal(result() | {"parameters": POISON})))
    label_map = np.array([[0, 0, 1]] * 3)
    np.savez(run / "samples.npz", **{**SAMPLE, "title_0": np.array(POISON), "label_map_0": label_map})
    return write_report(run), 2 * (len(free) + 5)


def depth_page(folder):
    graph = dgl.add_self_loop(dgl.graph(([0, 1, 2, 3], [1, 0, 3, 2])))
    mask, labels = torch.ones(4, dtype=torch.bool), torch.tensor([0, 0, 1, 1])
    document = depth_study(
        *(graph, torch.eye(4), labels, dict(train=mask, val=mask, test=mask)),
        **dict(remedies=["none"], depths=[2], settings=TrainingSettings(width=4, epochs=1), out=folder),
    )
    document |= {"command": "python -m benchmarks depth", "commits": ["abc"]}
    free = {*document["versions"], *document["settings"]}
    (folder / "results.json").write_text(json.dumps(seal(poisoned(document, names(document) - free))))
    path = depth_report.write_report(folder)
    assert not any(file.is_dir() for file in (folder / "plots").iterdir())
    return path, len(free) + 10


PAGES = {"run": run_page, "depth": depth_page}


@pytest.fixture(scope="module", params=PAGES)
def page(request, tmp_path_factory):
    """A page, and the least number of poisoned texts in it."""
    return PAGES[request.param](tmp_path_factory.mktemp(request.param))


def test_the_poison_would_be_noticed():
    for unescaped in (f"<p>{POISON}--></a></p>", f'<p><img alt="{POISON}--></a></p>', f"<style>{POISON}--></a>"):
        with pytest.raises((AssertionError, IndexError)):
            assert_self_contained(unescaped)


@pytest.mark.slow
def test_no_text_becomes_an_element(page):
    path, least = page
    parsed = assert_self_contained(path.read_text())
    assert parsed.text.count("<script>poison('script')</script>") >= least
    assert parsed.text.count("{{ 7*7 }}") >= least, "templates are not rendered twice"
    assert not [value for _, attributes in parsed.tags for value in attributes.values() if value == "x"]


@pytest.mark.slow
def test_pages_of_poison_have_the_elements_of_plain_ones(page, tmp_path, monkeypatch):
    """The same tags, in the same order, as the page of the same results with harmless texts."""
    kind = "depth" if "Depth on" in page[0].read_text() else "run"
    monkeypatch.setitem(globals(), "POISON", "harmless")
    monkeypatch.setitem(globals(), "NAME", "harmless")
    plain, _ = PAGES[kind](tmp_path)
    tags, expected = ([tag for tag, _ in Page(path.read_text()).tags] for path in (page[0], plain))
    drawn = {
        "path",
        "g",
        "use",
        "defs",
        "text",
        "clipPath",
        "rect",
        "tspan",
        "style",
    }  # a plot's, by the length of texts
    assert [tag for tag in tags if tag not in drawn] == [tag for tag in expected if tag not in drawn]


# ---------------------------------------------------------------- in Chromium


TOUCH = """() => {
    document.querySelectorAll('details').forEach(details => details.open = true);
    for (const element of document.querySelectorAll('*'))
        for (const kind of ['load', 'error', 'focus', 'mouseover', 'click'])
            element.dispatchEvent(new MouseEvent(kind, {cancelable: true}));
}"""


def poison_that_ran(browser, path):
    """What ran in a page when it was opened and each element was touched, and the text that it shows."""
    with browser.new_context(bypass_csp=True) as context:
        page = context.new_page()
        page.add_init_script("window.poisoned = []; window.poison = where => window.poisoned.push(where)")
        page.goto(path.absolute().as_uri())
        page.evaluate(TOUCH)
        page.wait_for_timeout(200)
        return set(page.evaluate("window.poisoned")), page.inner_text("body")


@pytest.mark.slow
@pytest.mark.process
def test_no_script_runs_in_chromium(browser, page):
    path, least = page
    ran, text = poison_that_ran(browser, path)
    assert ran == set()
    assert text.count("<script>poison('script')</script>") >= least // 2


@pytest.mark.slow
@pytest.mark.process
def test_chromium_would_run_the_poison(browser, tmp_path):
    (tmp_path / "page.html").write_text(f"<body><p>{POISON}--></a>")
    ran, _ = poison_that_ran(browser, tmp_path / "page.html")
    assert ran >= {"script", "img", "svg", "style"}
