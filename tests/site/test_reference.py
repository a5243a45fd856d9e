"""The API reference has every public name, and the site has no dead link. Reads what ``make docs`` built."""

from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("sphinx", reason="Sphinx is not installed")

from docs.extension import entries, page_of, public_modules, public_names

SITE = Path(__file__).parents[2] / "build" / "docs"
built = pytest.mark.skipif(not (SITE / "objects.inv").exists(), reason="no site: make docs builds it")


@built
def test_each_public_name_has_an_entry():
    """Each name of each ``__all__`` is in the index of names, under the path that the reference gives it."""
    paths = {(module, entry.name): entry.path for entry in public_names() for module in entry.modules}
    documented = set(entries(SITE / "objects.inv"))
    missing = [
        f"{module}.{name}"
        for module, contents in public_modules().items()
        for name in contents.__all__
        if (module, name) in paths and paths[module, name] not in documented
    ]
    assert missing == [], "make docs builds the site anew"
    assert {"gnnlib.GCNConv", "gnnlib.fit", "gnnlib.images.recipes.dwivedi"} <= documented


@built
@pytest.mark.slow
def test_each_package_lists_its_names():
    """The page of a package has a link to each name that the package exports."""
    for module, contents in public_modules().items():
        if module.count(".") == 1:
            page = Page.read(SITE / "api" / f"{page_of(module)}.html")
            listed = page.text_of_links
            names = [name for name in contents.__all__ if not isinstance(getattr(contents, name), ModuleType)]
            assert [name for name in names if name not in listed] == [], module


class Page(HTMLParser):
    """Anchors, links and loaded files of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.files: list[str] = []
        self.text_of_links: set[str] = set()
        self.depth = 0

    @classmethod
    def read(cls, path: Path) -> "Page":
        page = cls()
        page.feed(path.read_text("utf-8"))
        return page

    def handle_starttag(self, tag, attrs):
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.depth += tag == "a"
        self.files += [values[name] for name in ("src",) if name in values]
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.files.append(values["href"])

    def handle_endtag(self, tag):
        self.depth -= tag == "a"

    def handle_data(self, data):
        if self.depth:
            self.text_of_links.add(data.strip())


@pytest.fixture(scope="module")
def pages() -> dict[Path, Page]:
    return {path: Page.read(path) for path in SITE.rglob("*.html")}


@built
@pytest.mark.slow
def test_links_lead_somewhere(pages):
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("#"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists() or (
                parts.fragment and target in pages and parts.fragment not in pages[target].anchors
            ):
                dead.append(f"{path.relative_to(SITE)}: {link}")
    assert dead == []
    assert len(pages) > 50


@built
def test_pages_load_nothing_from_elsewhere(pages):
    loaded = {file for page in pages.values() for file in page.files if urlsplit(file).scheme in ("http", "https")}
    assert loaded == set()
    assert not any("cdn." in path.read_text("utf-8") for path in SITE.rglob("*.html"))
