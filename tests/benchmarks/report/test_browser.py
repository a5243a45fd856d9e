"""Reports in Chromium, on a screen and on a phone, light and dark: nothing is cut off, and pictures can be enlarged."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from gnnlib._utils.documents import seal
from gnnlib.benchmarks.depth import report as depth_report
from gnnlib.benchmarks.report import write_report
from tests.benchmarks.report.pages import SAMPLE, result

pytestmark = [pytest.mark.process, pytest.mark.slow]

STUDY = Path(__file__).parents[3] / "benchmarks" / "results" / "depth-digits" / "results.json"
SCREENSHOTS = os.environ.get("GNNLIB_SCREENSHOTS")  # a folder for the pictures


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A run of twelve layers with attributions, and a depth study."""
    run, study = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("depth")
    published = {"value": 99.0, "std": None, "source": "a paper", "setting": ""}
    for i in range(12):
        document = result(
            f"layer{i}", title=f"Layer {i} of some length", readout=f"mean{i}: of all", published=published
        )
        (run / f"layer{i}").mkdir()
        (run / f"layer{i}" / "result.json").write_text(json.dumps(seal(document)))
    np.savez(run / "samples.npz", **SAMPLE, label_map_0=np.array([[0, 0, 1]] * 3))
    values = {"saliency_0": np.array([0.5, 2.0]), "attention_0": np.array([0.5, 2.0, 1.0])}
    np.savez(run / "layer3" / "attributions.npz", **values)
    document = json.loads(STUDY.read_text())
    document["rows"] = [row for row in document["rows"] if row["conv"] != "gat"]
    document["pictures"] = document["pictures"][:2]
    (study / "results.json").write_text(json.dumps(seal(document)))
    return {"run": write_report(run), "depth": depth_report.write_report(study)}


WIDTHS = """() => ({
    page: document.documentElement.scrollWidth,
    cut: [...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth
        && !(one.matches('.sideways') && getComputedStyle(one, '::before').visibility === 'visible'))
        .map(one => one.ariaLabel || one.outerHTML.slice(0, 200)),
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 420])
@pytest.mark.parametrize("name", ["run", "depth"])
def test_pages_fit_the_screen(pages, browser, name, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page, errors = context.new_page(), []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(pages[name].as_uri())
    visible = page.get_by_text("vanishing gradients").first.is_visible()  # before any is opened
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.wait_for_timeout(100)
    assert page.evaluate(WIDTHS) == {"page": width, "cut": []}, "what is cut off has a hint"
    paper, ink = (page.evaluate(f"getComputedStyle(document.body).{key}") for key in ("backgroundColor", "color"))
    bright = [sum(map(int, colour[4:-1].split(","))) > 380 for colour in (paper, ink)]
    assert bright == [scheme == "light", scheme == "dark"]
    if name == "depth":
        assert visible, "verdicts need no click"
        assert "results.json" in page.inner_text("footer")
    else:
        picture = page.locator("img[alt^='attributions of']")
        picture.click()
        box = picture.bounding_box()
        assert min(box["width"] / width, box["height"] / 900) > 0.5
        assert max(box["width"] / width, box["height"] / 900) > 0.9
        picture.click()
        assert picture.bounding_box()["width"] < 0.5 * width
    if width == 420:
        first = page.locator(".sideways tbody th").first
        page.locator(".sideways").first.evaluate("one => one.scrollLeft = 300")
        assert first.bounding_box()["x"] < 60, "the name of a row stays"
    if SCREENSHOTS:
        page.screenshot(path=f"{SCREENSHOTS}/{name}-{width}-{scheme}.png", full_page=True)
    context.close()
    assert errors == []
