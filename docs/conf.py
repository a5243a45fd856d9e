"""Configuration of the site, which ``make docs`` builds with Sphinx: warnings are errors, no network is needed."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent)]

from gnnlib import __version__  # noqa: E402

project = "gnnlib"
author = "gnnlib developers"
version = release = __version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "docs.extension",
]
exclude_patterns = ["gallery/*.ipynb", "gallery/*.py"]
suppress_warnings = ["config.cache"]  # the gallery's settings hold functions

# Pages
myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 3
default_role = "py:obj"

# Docstrings
napoleon_custom_sections = ["Shapes"]
napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 90
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

# Pages in HTML
html_theme = "furo"
html_title = f"gnnlib {version}"
html_show_search_summary = False  # it reads each page from a server, and a file has none
html_copy_source = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
mathjax_path = "tex-svg.js"  # docs.extension copies it

# Gallery
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "docs.extension.ExampleOrder",
    "abort_on_example_error": True,
    "capture_repr": (),
    "copyfile_regex": "",
    "download_all_examples": False,
    "image_scrapers": ("matplotlib",),
    "plot_gallery": "True",
    "reset_modules": ("matplotlib",),
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}
