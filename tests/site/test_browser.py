"""The built site in Chromium: home, gallery, reference and search, on a screen and a phone, light and dark."""

import os
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "build" / "docs"
SCREENSHOTS = os.environ.get("GNNLIB_SCREENSHOTS")  # a folder for the pictures

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(not (SITE / "index.html").exists(), reason="no site: make docs builds it"),
]

PAGES = {
    "home": ("index.html", "a Python library of graph neural networks"),
    "choosing": ("choosing.html", "How many superpixels"),
    "example": ("gallery/gcn_cora.html", "test accuracy"),
    "gallery": ("gallery/index.html", "Molecules"),
    "reference": ("api/nn.conv.html", "class GATConv"),
    "search": ("search.html?q=GATConv", "GATConv"),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 420])
def test_pages_open_without_errors(browser, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("requestfailed", lambda request: errors.append(f"{request.url}: {request.failure}"))
    for name, (address, text) in PAGES.items():
        page.goto((SITE / "index.html").as_uri().replace("index.html", address))
        if name == "search":
            page.wait_for_selector("#search-results li a")
            results = page.locator("#search-results li a").all_inner_texts()
            assert any("GATConv" in result for result in results), results
        assert text in page.inner_text("body"), (name, text)
        if name == "reference":
            page.wait_for_selector("mjx-container")  # formulas are drawn
        assert page.evaluate("document.documentElement.scrollWidth") <= width + 1, f"{name} is wider than the screen"
        if SCREENSHOTS:
            page.screenshot(path=f"{SCREENSHOTS}/{name}-{width}-{scheme}.png")
    context.close()
    assert errors == []


QUESTIONS = {
    "API": "api/index.html",
    "which layer": "choosing.html",
    "against depth": "choosing.html",
    "own data": "guide/data.html",
    "pandas": "guide/data.html",
    "training": "guide/training.html",
    "several labels": "guide/training.html",
    "class weights": "guide/training.html",
    "early stopping": "guide/training.html",
    "regression": "guide/graphs.html",
    "how many superpixels": "guide/superpixel-settings.html",
    "compactness": "guide/superpixel-settings.html",
    "positional encodings": "guide/encodings.html",
    "heterogeneous": "guide/typed.html",
    "negatives": "guide/links.html",
    "edge classification": "guide/links.html",
    "explaining": "guide/explain.html",
    "exporting": "guide/saving.html",
    "ONNX": "guide/saving.html",
    "GPU": "guide/gpu.html",
    "add a layer": "contributing.html",
    "datapipes": "install.html",
}
"""What a user would search for, and the page that answers."""
FIRST = 8  # results that a reader looks through


def test_search_finds_the_page_that_answers(browser):
    page = browser.new_page()
    places = {}
    for words, answer in QUESTIONS.items():
        page.goto((SITE / "search.html").as_uri() + f"?q={words}")
        page.wait_for_function(
            "document.querySelector('.search-summary').textContent.includes('Search finished') ||"
            "document.querySelector('.search-summary').textContent.includes('found')"
        )
        links = [link.get_attribute("href").partition("#")[0] for link in page.locator("#search-results li > a").all()]
        unique = list(dict.fromkeys(links))
        places[words] = unique.index(answer) + 1 if answer in unique else None
    page.close()
    assert {words: place for words, place in places.items() if place is None or place > FIRST} == {}
