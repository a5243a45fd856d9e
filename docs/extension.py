"""Extension of Sphinx for this site: the API reference, links out of the pages, and names in code as links."""

import inspect
import os
import pkgutil
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import gnnlib

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
API = DOCS / "api"

PAGES = {  # of the reference: the packages, in the order of the floors from above
    "nn": "Networks and modules",
    "nn.conv": "Layers",
    "train": "Training",
    "data": "Stores of graphs",
    "datasets": "Data sets",
    "images": "Images as graphs",
    "grid": "Grids",
    "coarsening": "Coarser graphs",
    "models": "Published networks",
    "rewiring": "Graph rewiring",
    "analysis": "Analysis",
    "large": "Large graphs",
    "io": "Saving and loading",
    "viz": "Plots",
    "compat": "Programs of other libraries",
    "compat.dgl_nn": "DGL's layers",
    "compat.pyg_nn": "PyG's layers",
    "ops": "Message passing",
    "graph": "Graphs",
    "testing": "Tests of layers",
    "benchmarks": "Depth study",
    "kernels": "Kernels",
}
INTERNAL = re.compile(r"gnnlib\.benchmarks\.(?!depth$)|gnnlib\.kernels\.cuda|gnnlib\.(.*\.)?_")
"""Modules without public names: those of the command line, those that need Triton, and those with a leading
underscore."""
LONG = 80  # characters of a value that is not shown

EXAMPLES = [
    "gcn_cora",
    "photographs",
    "molecules",
    "links",
    "typed_graph",
    "sampled_neighbours",
    "deep_network",
    "explain_node",
    "torch_cnn",
    "new_layer",
    "from_dgl",
    "from_pyg",
]
"""The order of the gallery."""


# ---------------------------------------------------------------- public names


@dataclass(frozen=True)
class Public:
    """A public name with its object, and the modules that export it, the shortest path first."""

    name: str
    value: Any
    modules: tuple[str, ...]

    @property
    def path(self) -> str:
        """The path that the reference has it under."""
        return f"{self.modules[0]}.{self.name}"

    @property
    def home(self) -> str:
        """The module whose section it is in."""
        return self.modules[-1]


def public_modules() -> dict[str, ModuleType]:
    """The modules with an ``__all__`` that a user may import, by name."""
    names = ["gnnlib", *(info.name for info in pkgutil.walk_packages(gnnlib.__path__, "gnnlib."))]
    modules = {name: import_module(name) for name in names if not INTERNAL.match(name) and "__main__" not in name}
    return {name: module for name, module in modules.items() if hasattr(module, "__all__")}


def public_names() -> list[Public]:
    """Each public object once. Names of modules are left out: these have sections."""
    exports: dict[tuple[str, int], list[str]] = {}
    values = {}
    for path, module in public_modules().items():
        for name in module.__all__:
            value = getattr(module, name)
            if not inspect.ismodule(value):
                exports.setdefault((name, id(value)), []).append(path)
                values[name, id(value)] = value
    return [
        Public(name, values[name, key], tuple(sorted(paths, key=lambda path: (path.count("."), path))))
        for (name, key), paths in exports.items()
    ]


def page_of(module: str) -> str:
    """The page with the section of a module."""
    name = module.removeprefix("gnnlib.")
    pages = [page for page in PAGES if f"{name}.".startswith(f"{page}.")]
    if not pages:
        raise LookupError(f"{module}: expected a page of the reference in docs.extension.PAGES")
    return max(pages, key=len)


# ---------------------------------------------------------------- pages of the reference


def write_reference(*_: Any) -> None:
    """Writes ``docs/api``: a page per package, a section per module, an entry per name."""
    names, modules = public_names(), public_modules()
    sections: dict[str, dict[str, list[Public]]] = {page: {} for page in PAGES}
    for module in modules:
        if module != "gnnlib":
            sections[page_of(module)][module] = [entry for entry in names if entry.home == module]
    API.mkdir(exist_ok=True)
    pages = {"index": _index(names)} | {page: _page(page, parts, names) for page, parts in sections.items()}
    for path in API.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()
    for page, text in pages.items():
        path = API / f"{page}.rst"
        if not path.exists() or path.read_text("utf-8") != text:  # an older page is not read again
            path.write_text(text, "utf-8")


def _title(text: str, line: str) -> list[str]:
    return [text, line * len(text), ""]


def _index(names: list[Public]) -> str:
    lines = [*_title("API reference", "="), ".. toctree::", "   :maxdepth: 1", ""]
    lines += [f"   {title} <{page}>" for page, title in PAGES.items()]
    lines += ["", *_title("gnnlib", "-"), ".. automodule:: gnnlib", "   :no-members:", ""]
    lines += _table([entry for entry in names if entry.modules[0] == "gnnlib"])
    return "\n".join([*lines, *(line for entry in names if entry.home == "gnnlib" for line in _entry(entry))])


def _page(page: str, sections: dict[str, list[Public]], names: list[Public]) -> str:
    lines = _title(PAGES[page], "=")
    package = f"gnnlib.{page}"
    for module, entries in sorted(sections.items(), key=lambda item: (item[0] != package, item[0])):
        if module != package and not entries:
            continue
        lines += [*_title(module, "-"), f".. automodule:: {module}", "   :no-members:", ""]
        lines += _table([entry for entry in names if module in entry.modules] if module == package else entries)
        for entry in entries:
            lines += _entry(entry)
    return "\n".join(lines)


def _table(entries: list[Public]) -> list[str]:
    if not entries:
        return []
    lines = [".. list-table::", "   :class: names", "   :widths: 30 70", ""]
    for entry in sorted(entries, key=lambda entry: entry.name.lower()):
        lines += [f"   * - :py:obj:`{entry.name} <{entry.path}>`", f"     - {_summary(entry.value)}"]
    return [*lines, ""]


def _summary(value: Any) -> str:
    """The first paragraph of the docstring in one line, without the sentence that a formula completes."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return ""
    paragraph = (inspect.getdoc(value) or "").split("\n\n")[0]
    text = " ".join(line.strip() for line in paragraph.splitlines())
    return text if text.endswith(".") or ". " not in text else text.rpartition(". ")[0] + "."


def _entry(entry: Public) -> list[str]:
    if inspect.isclass(entry.value):
        return [f".. autoclass:: {entry.path}", ""]
    if inspect.isroutine(entry.value):
        return [f".. autofunction:: {entry.path}", ""]
    text = repr(entry.value)
    value = [f"   :value: {text}"] if len(text) <= LONG and " at 0x" not in text else []
    comment = _comment(entry)
    return [
        f".. py:data:: {entry.name}",
        f"   :module: {entry.modules[0]}",
        *value,
        "",
        *(f"   {line}" for line in comment),
        "",
    ]


def _comment(entry: Public) -> list[str]:
    """The text below the assignment of a constant."""
    from sphinx.pycode import ModuleAnalyzer

    for module in reversed(entry.modules):
        lines = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", entry.name))
        if lines:
            return lines
    return []


# ---------------------------------------------------------------- links

MARKDOWN_LINK = re.compile(r"```.*?\n```|`[^`\n]+`|(?<!!)\[([^\]]+)\]\((?!\w+:|#)([^)\s#]+)(#[\w-]+)?\)", re.DOTALL)
CONTENT = re.compile(r"<!-- content of (\S+) -->")
STANDS_FOR = {
    ROOT / "CHANGELOG.md": DOCS / "changelog.md",
    ROOT / "CONTRIBUTING.md": DOCS / "contributing.md",
    ROOT / "README.md": DOCS / "index.md",
    ROOT / "examples": DOCS / "gallery" / "index.rst",
    ROOT / "gnnlib": API / "index.rst",
}
"""Files and folders outside docs, and the pages in their place."""


def rewrite_links(app: Any, docname: str, source: list[str]) -> None:
    """Fills in files of the top folder, and replaces links out of docs: by pages where there are some, else by text."""
    page = Path(app.env.doc2path(docname))
    if page.suffix != ".md":
        return
    text = _with_links(source[0], page.parent, page.parent)
    source[0] = CONTENT.sub(lambda match: _content(app, docname, ROOT / match[1], page.parent), text)


def _content(app: Any, docname: str, path: Path, folder: Path) -> str:
    """A file without its title, as part of a page in another folder."""
    app.env.note_dependency(str(path), docname=docname)
    return _with_links(path.read_text("utf-8").partition("\n")[2], path.parent, folder)


def _with_links(text: str, start: Path, folder: Path) -> str:
    """The text, whose links start at one folder, for a page in another."""

    def link(match: re.Match) -> str:
        if match[2] is None:  # code; a doctest in Markdown ends with an empty line
            return re.sub(r"\n\n```$", "\n```", match[0])
        path = (start / match[2]).resolve()
        if path.parent == ROOT / "examples":
            path = DOCS / "gallery" / path.with_suffix(".rst").name
        path = STANDS_FOR.get(path, path)
        if not path.is_relative_to(DOCS):
            return match[1]
        return f"[{match[1]}]({os.path.relpath(path, folder)}{match[3] or ''})"

    return MARKDOWN_LINK.sub(link, text)


def link_table() -> dict[str, str]:
    """Paths in the reference by every way to write a name: with a module, and alone where that is plain."""
    names = public_names()
    table = {f"{module}.{entry.name}": entry.path for entry in names for module in entry.modules}
    by_name: dict[str, set[str]] = {}
    for entry in sorted(names, key=_is_compat):
        if entry.name not in by_name or not _is_compat(entry):
            by_name.setdefault(entry.name, set()).add(entry.path)
    return table | {name: min(paths) for name, paths in by_name.items() if len(paths) == 1 and _is_plain(name, paths)}


def _is_compat(entry: Public) -> bool:
    """Whether it stands for a name of another library: the name alone is then gnnlib's, if gnnlib has one."""
    return entry.path.startswith("gnnlib.compat.")


def _is_plain(name: str, paths: set[str]) -> bool:
    """Whether the name alone stands for the object: a class, two words, or a function of a package with few words."""
    package = min(paths).rpartition(".")[0]
    return len(name) > 2 and (not name.islower() or "_" in name or package in WORDS)


WORDS = {"gnnlib", "gnnlib.analysis", "gnnlib.datasets", "gnnlib.ops", "gnnlib.train"}
"""Packages whose functions of one word, such as ``fit``, are recognised without the package."""


def link_code(app: Any, doctree: Any) -> None:
    """Code in a sentence that is a public name, such as ``GCNConv`` or ``fit(patience=5)``, links to its entry."""
    from docutils import nodes
    from sphinx.addnodes import desc, pending_xref

    table = app.env.gnnlib_links
    for literal in list(doctree.findall(nodes.literal)):
        name = re.sub(r"\(.*\)$", "", literal.astext()).removeprefix("gnn.")
        name = re.sub(r"^(?!gnnlib)(\w+\.)", r"gnnlib.\1", name) if "." in name else name
        inside = literal.parent
        while inside is not None and not isinstance(inside, (nodes.reference, pending_xref, nodes.title, desc)):
            inside = inside.parent
        if inside is None and name in table:
            attributes = dict(refdomain="py", reftype="obj", reftarget=table[name], refexplicit=True, refwarn=False)
            reference = pending_xref("", **attributes)
            literal.replace_self(reference)
            reference += literal


def resolve_name(app: Any, env: Any, node: Any, content: Any) -> Any:
    """References of docstrings to names of other modules."""
    from sphinx.util.nodes import make_refnode

    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].removesuffix("()").lstrip("~")
    first, _, rest = target.partition(".")
    for path in (env.gnnlib_links.get(target), f"gnnlib.{target}", f"{env.gnnlib_links.get(first)}.{rest}"):
        entry = env.get_domain("py").objects.get(path)
        if entry is not None:
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, path)
    return None


class ExampleOrder:
    """Sort key of the gallery."""

    def __init__(self, source: str):
        del source

    def __call__(self, filename: str) -> int:
        return EXAMPLES.index(Path(filename).stem)


# ---------------------------------------------------------------- set-up


def copy_mathjax(app: Any, exception: Exception | None) -> None:
    """MathJax beside the pages, so that formulas need no network: one file, with its glyphs."""
    if exception is None and app.builder.format == "html":
        package = Path(import_module("sphinx-mathjax-offline").__file__ or "").parent
        shutil.copy(package / "static" / "mathjax" / MATHJAX, app.outdir / "_static" / MATHJAX)


MATHJAX = "tex-svg.js"


def make_links(app: Any, env: Any, *_: Any) -> list[str]:
    """The table of links of this build; where it has changed, all pages are read anew."""
    old, env.gnnlib_links = getattr(env, "gnnlib_links", None), link_table()
    return [] if old in (None, env.gnnlib_links) else sorted(env.found_docs)


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("builder-inited", write_reference)
    app.connect("env-get-outdated", make_links)
    app.connect("source-read", rewrite_links)
    app.connect("doctree-read", link_code)
    app.connect("missing-reference", resolve_name)
    app.connect("build-finished", copy_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def entries(inventory: Path) -> Iterator[str]:
    """The names of an ``objects.inv``."""
    from sphinx.util.inventory import InventoryFile

    with inventory.open("rb") as file:
        for kind, items in InventoryFile.load(file, "", lambda base, path: path).items():
            if kind.startswith("py:"):
                yield from items
