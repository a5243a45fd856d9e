"""Each file of ``examples/`` runs, is short, and is in the gallery."""

import ast
import re
import runpy
from pathlib import Path

import pytest

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from docs.extension import EXAMPLES  # noqa: E402

FOLDER = Path(__file__).parents[2] / "examples"
WITHOUT_TRAINING = {"torch_cnn"}
NEEDS = {"from_pyg": "torch_geometric", "photographs": "skimage", "links": "sklearn", "torch_cnn": "sklearn"}


def test_the_gallery_has_every_example():
    assert sorted(EXAMPLES) == sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_short_and_shows_a_picture(name):
    text = (FOLDER / f"{name}.py").read_text("utf-8")
    title, line = ast.get_docstring(ast.parse(text)).splitlines()[:2]
    assert len(text.splitlines()) < 100
    assert line == "=" * len(title)
    assert "plt.show()" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name, monkeypatch, tmp_path):
    """In an empty folder, without the data sets, as a reader who has copied it; three epochs, the gallery has all."""
    pytest.importorskip(NEEDS.get(name, "matplotlib"))
    matplotlib.use("agg")
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GNNLIB_DATA", raising=False)
    monkeypatch.setattr(pyplot, "show", lambda: None)
    program = (FOLDER / f"{name}.py").read_text("utf-8")
    text, loops = re.subn(r"(?m)(\bepochs=|^ *for _ in range\()\d+", r"\g<1>3", program)
    assert loops or name in WITHOUT_TRAINING
    Path("copy.py").write_text(text, "utf-8")
    runpy.run_path("copy.py", run_name="__main__")
    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    pyplot.close("all")
    assert any(axes.has_data() for figure in figures for axes in figure.axes)
