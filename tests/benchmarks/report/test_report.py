"""The report: its texts, that it loads nothing, and that it survives hostile and damaged results."""

import io
import json
import math
import struct
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console
from skimage.color import rgb2lab

from gnnlib._utils.documents import seal
from gnnlib.benchmarks.report import (
    attributions,
    columns,
    figures_table,
    leaderboard,
    leaderboard_table,
    load_results,
    plots,
    samples,
    sources,
    write_report,
)
from tests.benchmarks.report.pages import GAT, SAMPLE, Page, assert_self_contained, result, save

HOSTILE = "<script>alert('x')</script>&\"$\\frac{$ [red]\x00\ud800 \N{SNOWMAN}\N{CJK UNIFIED IDEOGRAPH-5B57}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three layers, with its report."""
    run = save(tmp_path_factory.mktemp("runs") / "digits-1", result(), GAT, result("sgc", (95.0, 95.0)), **SAMPLE)
    write_report(run)
    return run


@pytest.mark.slow
def test_texts_of_the_page(run):
    page = assert_self_contained((run / "report.html").read_text())
    for words in (
        "digits",
        "3 layers, 2 seeds each. Best: GAT, 98.60 ± 0.14 % test accuracy.",
        "python -m benchmarks run digits --epochs 5 --seeds 2 --data DIR --layers gat,gcn,sgc",
        "data small images",
        "abc1234-dirty",
        "python 3.11.7 · torch 2.13.0",
        "2 cores",
        "digits-1",
        "1 GAT 98.60 ± 0.14 22,000 31.2 99.00 ± 0.70 −0.40",
        "2 GCN 97.50 ± 0.71 12,345 31.2",
        "3 SGC 95.00 ± 0.00",
        "Seeds of each layer: 2. A seed sets the random numbers of one training",
        "The read-out turns the features of all nodes into the output of a graph. Of each layer: flat: a linear layer",
        "Made by gnnlib from the result.json of each layer's folder beside this page.",
        "GAT: Somebody 2018, table 2 (100 runs)",
        "GAT: 17 of 20 right zero one found zero 9 1 90.0 % one 2 8 80.0 %",
        "The other 2 layers",
        "a seven",
        "flat: a linear layer over all pixels",
    ):
        assert words in page.text
    assert "Not everything could be read" not in page.text
    assert "secret" not in page.text
    assert [row.get("class") for row in page.all("tr")[1:4]] == ["best", None, None]
    assert [image["alt"] for image in page.all("img")] == ["a graph of 2 nodes and 3 edges over its image: a seven"]
    labels = " ".join(drawing.get("aria-label", "") for drawing in page.all("svg"))
    assert "training loss by epoch; at the last epoch: GAT 0.4, GCN 0.4, SGC 0.4" in labels
    assert "test accuracy against parameters: GAT 98.6 at 2.2e+04" in labels
    assert "each seed: 97, 98" in labels


def test_boxes_hide_layers_in_all_plots(run):
    text = (run / "report.html").read_text()
    for number in range(3):  # two kinds of curves, each a line and a band; two scatters, each a point, a bar and a name
        assert f"body:has(#show{number}:not(:checked)) .s{number} {{ display: none; }}" in text
        assert text.count(f'class="s{number}"') == 2 * 2 + 2 * 3
    page = Page(text)
    assert [box["id"] for box in page.all("input") if "id" in box] == ["show0", "show1", "show2"]


def test_plots_are_files(run):
    names = sorted(path.name for path in (run / "plots").iterdir())
    assert names == [
        "confusion-gat.png",
        "confusion-gcn.png",
        "confusion-sgc.png",
        "cost.png",
        "learning-curves.png",
        "sample-0.png",
    ]
    assert all((run / "plots" / name).read_bytes().startswith(b"\x89PNG") for name in names)
    assert not list(run.rglob(".*"))


@pytest.mark.slow
def test_bytes_do_not_depend_on_settings_of_matplotlib(run):
    files = [run / "report.html", *sorted((run / "plots").iterdir())]
    before = [path.read_bytes() for path in files]
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        settings = dict(matplotlib.rcParams)
        assert write_report(run) == run / "report.html"
        assert dict(matplotlib.rcParams) == settings
    assert [path.read_bytes() for path in files] == before


def test_smallest_result(tmp_path):
    keys = ("task", "layer", "title", "arguments", "seeds", "metric", "parameters", "seconds")
    full = result("gin", (0.7613,), arguments={})
    full["metric"] |= {"name": "ROC-AUC", "unit": ""}
    page = assert_self_contained(write_report(save(tmp_path, {key: full[key] for key in keys})).read_text())
    assert "One layer, one seed. GIN, 0.7613 ROC-AUC." in page.text
    assert "python -m benchmarks run digits --seeds 1 --layers gin" in page.text
    for heading in ("Learning curves", "Sample graphs", "Confusion", "published", "read-out"):
        assert heading not in page.text


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_hostile_texts_are_escaped(tmp_path):
    hostile = result(
        HOSTILE,
        title=HOSTILE,
        task=HOSTILE,
        readout=HOSTILE,
        classes=[HOSTILE, "b"],
        commit=HOSTILE,
        machine=HOSTILE,
        versions={HOSTILE: HOSTILE},
        when=HOSTILE,
        arguments={HOSTILE: HOSTILE, "epochs": "</code><script>"},
        published={"value": 1, "source": HOSTILE, "setting": HOSTILE},
    )
    hostile["metric"] |= {"name": HOSTILE, "unit": HOSTILE}
    run = save(tmp_path, hostile, **{**SAMPLE, "title_0": np.array(HOSTILE.replace("\ud800", ""))})
    (run / "<img src=x>").mkdir()
    page = assert_self_contained(write_report(run).read_text())
    assert "<script>alert('x')</script>&\"$\\frac{$ [red]" in page.text
    assert "<img src=x>/result.json" in page.text
    assert "<script>" in printed(load_results(run)[0])
    assert len(list((run / "plots").iterdir())) == 4


def printed(results, width=200):
    console = Console(file=io.StringIO(), width=width)
    console.print(leaderboard_table(results))
    return console.file.getvalue()


def drop(key, **table):
    return {name: value for name, value in table.items() if name != key}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ('{"task": "digits", "lay', "not a whole JSON document"),
        ("[]", "expected an object, got list"),
        ("[" * 100_000, "expected JSON of less nesting"),
        (drop("parameters", **result("x")), "parameters: expected a count, but the key is missing"),
        (result("x", parameters=-1), "parameters: expected a count, received -1"),
        (result("x", parameters=10**400), "parameters: expected a count"),
        (
            json.dumps(seal(result("x"))).replace('"parameters": 12345', '"parameters": 12346'),
            "checksum of its content",
        ),
        (json.dumps(result("x")), "expected the checksum of its content, got None"),
        (result("x", parameters=True), "parameters: expected a count, received true"),
        (result("x", seconds="3"), 'seconds: expected a number, received "3"'),
        (result("x", title=""), 'title: expected a text, received ""'),
        (result("x", metric=None), "metric: expected an object, received null"),
        (result("x", metric=drop("mean", **result()["metric"])), "metric.mean: expected a finite number, but the key"),
        (
            result("x", metric=result()["metric"] | {"mean": math.nan}),
            "metric.mean: expected a finite number, received",
        ),
        (result("x", seeds=[0]), "metric.values: expected 1 numbers, one per seed, received [97.0, 98.0]"),
        (result("x", seeds=[], metric=result()["metric"] | {"values": []}), "at least one finished seed, received []"),
        (result("gat"), 'layer: expected a layer that no other folder holds, received "gat"'),
        (result("x", task="mnist"), "x: left out: expected test accuracy on digits, received test accuracy on mnist"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_broken_results_are_left_out(tmp_path, broken, message):
    results, problems = load_results(save(tmp_path, GAT, broken, result("sgc")))
    assert [one["layer"] for one in results] == ["gat", "sgc"]
    assert len(problems) == 1
    assert message in problems[0]
    assert problems[0].startswith(("1/result.json: left out: ", "x: left out: "))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("curves", [{"epoch": [1, 2], "loss": [1.0]}], "lists of one length"),
        ("curves", [{"loss": ["a"]}], "a list of numbers"),
        ("confusion", [[1, 2], [3]], "a square matrix"),
        ("confusion", [[1, 2], [3, -4]], "counts"),
        ("confusion", [[1]], "classes: expected 1 texts"),
        ("published", {"value": None, "source": "x"}, "published.value: expected a finite number"),
        ("published", "81.5", "published: expected an object"),
        ("validation", {"values": None}, "validation.values: expected a list"),
        ("readout", 3, "expected a text, received 3"),
        ("versions", "2.1", "expected an object"),
        ("figures", {"error": 0.5}, "a number as its mean"),
    ],
)
def test_damaged_extra_is_removed(tmp_path, part, value, message):
    (one,), (problem,) = load_results(save(tmp_path, result(**{part: value})))
    assert one[part] is None
    assert problem.startswith(f"0/result.json: {part} left out: ")
    assert message in problem


@pytest.mark.slow
def test_problems_in_the_page(tmp_path):
    run = save(tmp_path, GAT, "{", **SAMPLE | {"image_1": np.eye(2), "title_1": np.array("half")})
    (run / "sgc").mkdir()
    text = Page(write_report(run).read_text()).text
    assert "1/result.json: left out: not a whole JSON document" in text
    assert "sgc/result.json: not there: no seed of this layer has finished" in text
    assert "samples.npz: sample 1 left out: no array 'pos_1'" in text
    assert "a seven" in text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"pos_0": np.zeros((2, 3))}, "pos: expected (n, 2) finite numbers"),
        ({"pos_0": np.full((2, 2), np.nan)}, "pos: expected (n, 2) finite numbers"),
        ({"src_0": np.array([0, 1, 2])}, "src: expected (e,) node numbers below 2"),
        ({"dst_0": np.array([0, 1])}, "dst: expected (e,) node numbers below 2"),
        ({"image_0": np.zeros(3)}, "image: expected (H, W)"),
        ({"image_0": np.array([[None]])}, "samples.npz: left out"),  # pickles are not loaded
    ],
)
@pytest.mark.slow
def test_damaged_samples(tmp_path, damage, message):
    page = assert_self_contained(write_report(save(tmp_path, result(curves=None), **SAMPLE | damage)).read_text())
    assert message in page.text
    assert page.all("img") == []


ATTRIBUTIONS = {"saliency_0": np.array([0.5, 2.0]), "attention_0": np.array([1.0, 0.5, 2.0])}
MAP = {"label_map_0": np.array([[0, 0, 1], [0, 1, 1], [0, -1, 1]])}


def run_with_attributions(run, **attributions):
    """Each layer's attributions, as in a run each in a folder of its name."""
    save(run, **SAMPLE | MAP)
    for layer in ("gat", "gcn"):
        (run / layer).mkdir()
        (run / layer / "result.json").write_text(json.dumps(seal(result(layer, curves=None, confusion=None))))
    np.savez(run / "gat" / "attributions.npz", **attributions)
    return run


@pytest.mark.slow
def test_attributions_are_drawn(tmp_path):
    run = run_with_attributions(tmp_path, **ATTRIBUTIONS)
    page = assert_self_contained(write_report(run).read_text())
    assert "Attributions" in page.text
    assert "GAT, attention as lines" in " ".join(page.text.split())
    assert [image["alt"] for image in page.all("img")][1:] == [
        "the superpixels of 1 images, and fewer and fewer of them",
        "attributions of GAT in a seven",
    ]
    assert (run / "plots" / "attributions-0.png").exists()
    assert "Not everything could be read" not in page.text


def test_pictures_of_saliency_and_attention():
    one = {"image": np.eye(3), "label_map": MAP["label_map_0"]}
    one |= {name: SAMPLE[f"{name}_0"] for name in ("pos", "src", "dst")}
    seen = {name.removesuffix("_0"): values for name, values in ATTRIBUTIONS.items()}
    above, below = plots.attributions([one], [seen]).axes
    drawn = np.ma.filled(above.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(drawn, [[0.5, 0.5, 2], [0.5, 2, 2], [0.5, np.nan, 2]])
    np.testing.assert_array_equal(below.images[0].get_array(), np.eye(3))
    assert below.collections[0].get_linewidths() == [3.0]
    (alone,) = plots.attributions([one], [{"saliency": seen["saliency"]}]).axes
    assert len(alone.collections) == 0


def test_figures_of_other_networks(tmp_path):
    one = result("gcn", (95.91,), task="mnist-superpixels", curves=None, confusion=None)
    for text in (Page(write_report(save(tmp_path, one)).read_text()).text, printed([one])):
        assert "GatedGCN+, 98.71: Luo et al. 2025, arXiv 2502.09263" in " ".join(text.split())
    assert "Luo" not in printed([result("gcn", (95.91,))])


@pytest.mark.slow
def test_levels_of_superpixels(tmp_path):
    shape = (8, 8)
    label_map = np.arange(64).reshape(shape) // 4
    image = np.random.default_rng(0).random((*shape, 3))
    bordered, leaves, *merged = plots.levels([{"image": image, "label_map": label_map}]).axes
    np.testing.assert_array_equal(bordered.images[0].get_array(), image)
    means = image.reshape(16, 4, 3).mean(1)[label_map]
    np.testing.assert_allclose(leaves.images[0].get_array(), means, atol=1e-6)
    assert [ax.get_title() for ax in (leaves, *merged)] == ["16 regions", "8 regions", "4 regions", "2 regions"]

    islands = np.where(np.indices(shape).sum(0) % 2, -1, np.cumsum(np.ones(shape)).reshape(shape).astype(int) // 2)
    pieces = (
        np.unique(islands, return_inverse=True)[1].reshape(shape) - 1
    )  # none touches another: nothing can be merged
    *_, last = plots.levels([{"image": (255 * image).astype(np.uint8), "label_map": pieces}]).axes
    assert last.get_title() == f"{pieces.max() + 1} regions"

    pixels = {"pos_0": np.argwhere(np.ones((3, 3))).astype(float), "label_map_0": np.arange(9).reshape(3, 3)}
    run = save(tmp_path, result(curves=None, confusion=None), **SAMPLE | pixels)
    assert "level by level" not in Page(write_report(run).read_text()).text
    nothing = {"pos_0": np.zeros((0, 2)), "src_0": np.zeros(0, int), "dst_0": np.zeros(0, int)}
    save(tmp_path, **SAMPLE | nothing | {"label_map_0": np.full((3, 3), -1)})
    assert "level by level" not in Page(write_report(run).read_text()).text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            {"saliency_0": np.zeros(3)},
            "gat/attributions.npz: left out: saliency_0: expected (2,) numbers of at least 0",
        ),
        ({"saliency_0": np.array([1.0, np.nan])}, "saliency_0: expected (2,) numbers"),
        ({"attention_0": np.array([1.0, -1.0, 0.0])}, "attention_0: expected (3,) numbers"),
        ({"saliency_0": np.array(["a", "b"])}, "saliency_0: expected (2,) numbers"),
    ],
)
def test_damaged_attributions(tmp_path, damage, message):
    run = run_with_attributions(tmp_path, **ATTRIBUTIONS | damage)
    maps, (problem,) = attributions.load(run, samples.load(run / "samples.npz")[0])
    assert maps == {}
    assert message in problem


@pytest.mark.slow
def test_attributions_without_their_samples(tmp_path):
    run = run_with_attributions(tmp_path, attention_0=ATTRIBUTIONS["attention_0"])
    (one,), _ = samples.load(run / "samples.npz")
    assert attributions.load(run, [one]) == ({}, ["gat/attributions.npz: left out: 'saliency_0'"])
    np.savez(run / "gat" / "attributions.npz", **ATTRIBUTIONS)
    assert attributions.load(run, [{**one, "label_map": None}])[1] == [
        "gat/attributions.npz: left out: sample 0 has no label map"
    ]
    np.savez(run / "samples.npz", **SAMPLE | {"label_map_0": np.full((3, 3), 5)})
    assert "label_map: expected (3, 3) node numbers up to 1" in samples.load(run / "samples.npz")[1][0]
    (run / "gat" / "attributions.npz").write_bytes(b"PK\x03\x04 half a zip")
    assert "gat/attributions.npz: left out: " in Page(write_report(run).read_text()).text


@pytest.mark.slow
def test_damaged_file_of_samples(tmp_path):
    run = save(tmp_path, result(curves=None, confusion=None))
    (run / "samples.npz").write_bytes(b"PK\x03\x04 half a zip")
    assert "samples.npz: left out" in Page(write_report(run).read_text()).text


def test_without_results(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a run's folder with <layer>/result.json inside.*gone"):
        write_report(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=rf"at least one whole <layer>/result.json in {tmp_path}, found: none"):
        write_report(tmp_path)
    save(tmp_path, "{")
    with pytest.raises(FileNotFoundError, match=r"found: 0/result\.json: left out: not a whole"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_terminal_has_the_same_cells(run):
    results, _ = load_results(run)
    rows, text = leaderboard(results), printed(results)
    shown = {column.name: column for column in columns(rows)}
    assert list(shown) == [
        "rank", "layer", "metric", "seeds", "parameters", "seconds", "readout", "published", "difference",
    ]  # fmt: skip
    page = Page((run / "report.html").read_text()).text
    for column in shown.values():
        assert all(cell in text and cell in page for cell in column.cells)
    assert all(line in text for line in sources(rows))
    assert max(map(len, printed(results, 80).splitlines())) <= 80


@pytest.mark.slow
def test_other_figures(tmp_path, run):
    error = {"error, 1 px": {"values": [0.1, 0.3], "mean": 0.2, "std": 0.1}, "<b>": {"mean": 98.765}}
    save(tmp_path, result(figures=error), result("gat", figures={"<b>": {"mean": 1e-9}}), result("sgc"))
    page = assert_self_contained(write_report(tmp_path).read_text())
    assert "Other figures" in page.text
    assert "<b> 1e-09 98.8 error, 1 px 0.2" in page.text, "in the order of the leaderboard: gat, gcn"
    results, _ = load_results(tmp_path)
    console = Console(file=io.StringIO(), width=80)
    console.print(figures_table(results))
    assert ["<b>", "1e-09", "98.8"] in [line.split() for line in console.file.getvalue().splitlines()]
    assert "Other figures" not in (run / "report.html").read_text()
    assert figures_table(load_results(run)[0]) is None


@pytest.mark.slow
def test_seeds_and_read_outs_that_differ_have_columns(tmp_path):
    other = result("gat", (98.0,), readout="mean: of all nodes")
    page = assert_self_contained(write_report(save(tmp_path, result(), other)).read_text())
    assert "1 GAT 98.00 1 12,345 31.2 mean 2 GCN 97.50 ± 0.71 2 12,345 31.2 flat" in page.text
    assert "A seed sets the random numbers" in page.text
    assert "Of each layer" not in page.text


@pytest.mark.slow
def test_layers_beyond_the_palette_are_told_apart(tmp_path):
    """By a ring in place of a dot, other dashes and another marker."""
    results = [result(f"layer{i:02}") for i in range(len(plots.PALETTE) + 4)]
    text = write_report(save(tmp_path, *results)).read_text()
    dots = [(span["class"], span["style"]) for span in Page(text).all("span") if "dot" in span.get("class", "")]
    assert len(dots) == len(set(dots)) == len(results)
    styles = plots.styles(results).values()
    assert len({(style.colour, str(style.dash)) for style in styles}) == len(results)
    assert len({(style.colour, style.marker) for style in styles}) == len(results)


def test_ranks():
    results = [result("b", (1.0,)), result("a", (1.0,)), result("c", (2.0,)), result("d", (0.5,))]
    assert [(row.rank, row.best, row.result["layer"]) for row in leaderboard(results)] == [
        (1, True, "c"), (2, False, "a"), (2, False, "b"), (4, False, "d"),
    ]  # fmt: skip
    for one in results:
        one["metric"]["higher_is_better"] = False
    assert leaderboard(results)[0].result["layer"] == "d"
    assert leaderboard([]) == columns([]) == []
    assert printed([]).strip() == ""


def test_unfinished_layer():
    one = result(values=(97.0,))
    one["arguments"]["seeds"] = 3
    (seeds,) = (column.cells for column in columns(leaderboard([one])) if column.name == "seeds")
    assert seeds == ["1 of 3"]


@pytest.mark.slow
def test_recorded_command_and_time(tmp_path):
    text = Page(write_report(save(tmp_path, result(command="make bench", when="1 May 2026"))).read_text()).text
    assert "command make bench when 1 May 2026" in text


def test_mean_curve_with_missing_values():
    curves = [{"epoch": [1, 2, 3], "loss": [4.0, None, 1.0]}, {"loss": [2.0, 3.0]}, {"loss": [math.inf]}, {}]
    epoch, mean, std = plots.mean_curve(curves, "loss")
    assert epoch.tolist() == [1, 2]  # one of three seeds reached the third
    assert mean.tolist() == [3.0, 3.0]
    assert std.tolist() == [pytest.approx(math.sqrt(2)), 0.0]
    assert plots.mean_curve(curves[:1], "loss")[2] is None
    assert len(plots.mean_curve([{"loss": [None, math.nan]}], "loss")[0]) == 0
    assert len(plots.mean_curve([], "loss")[0]) == 0


@pytest.mark.parametrize("loss", [[math.nan] * 3, [1e300, math.inf, 1e-300], [0.0, -1.0, 2.0], [1.0], []])
def test_curves_of_diverged_trainings(loss):
    results = [result(curves=[{"loss": loss}, {"loss": loss}])]
    assert plots.png(plots.learning_curves(results)).startswith(b"\x89PNG")


def test_figures_need_no_pyplot(run):
    results, _ = load_results(run)
    had = "matplotlib.pyplot" in sys.modules
    for figure in (
        plots.learning_curves(results),
        plots.leaderboard_scatter(results),
        plots.confusion(results[0]),
        plots.learning_curves([result(curves=None)]),
    ):
        assert isinstance(figure, Figure)
    assert ("matplotlib.pyplot" in sys.modules) == had
    with pytest.raises(ValueError, match="expected a result with a confusion matrix, received none for layer 'gcn'"):
        plots.confusion(result(confusion=None))


@pytest.mark.slow
def test_confusion_matrix_of_many_classes(tmp_path):
    matrix = np.eye(40, dtype=int).tolist()
    text = write_report(save(tmp_path, result(confusion=matrix, classes=None, curves=None))).read_text()
    assert [image["alt"] for image in assert_self_contained(text).all("img")] == [
        "Confusion matrix of GCN: 40 of 40 right"
    ]


def test_picture_of_a_graph():
    image = np.zeros((4, 6, 3))
    image[1, 5] = 1
    pos = np.array([[0, 0], [1, 5], [3, 2]])
    (ax,) = plots.sample(image, pos, np.array([0, 1, 1, 2]), np.array([1, 0, 2, 2])).axes
    (lines, dots), (picture,) = ax.collections, ax.images
    # x is the column and y the row; both ways are one line, a loop is none
    assert [line.tolist() for line in lines.get_segments()] == [[[0, 0], [5, 1]], [[5, 1], [2, 3]]]
    assert dots.get_offsets().tolist() == [[0, 0], [5, 1], [2, 3]]
    assert picture.get_array()[1, 5] == pytest.approx(1)
    assert ax.get_ylim() == (3.5, -0.5)


@pytest.mark.parametrize(
    "image", [np.zeros((1, 1)), np.full((2, 2), np.nan), np.ones((2, 2), bool), np.ones((2, 9, 1))]
)
def test_picture_of_a_graph_without_edges(image):
    none = np.zeros(0, int)
    picture = plots.png(plots.sample(image, np.zeros((0, 2)), none, none))
    width, height = struct.unpack(">II", picture[16:24])
    assert width / height == pytest.approx(min(4, image.shape[1] / image.shape[0]), rel=0.05)


def test_styles_do_not_depend_on_the_ranking():
    many = [{"layer": f"layer {i:02}"} for i in range(25)]
    look = plots.styles(many)
    assert look == plots.styles(many[::-1])
    assert len({(style.colour, str(style.dash)) for style in look.values()}) == 25
    assert len({(style.colour, style.marker) for style in look.values()}) == 25


# Machado, Oliveira and Fernandes 2009: what is left of a colour, in linear RGB
EYES = {
    "all cones": np.eye(3),
    "no L": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no M": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no S": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("page", ["light", "dark"])
def test_colours_differ_for_colour_blind_eyes(eyes, page):
    colours = [pair[page == "dark"] for pair in plots.PALETTE]
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(EYES[eyes]).T, 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055))
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(lab), 1)]
    assert apart.min() >= 20
    light = linear @ [0.2126, 0.7152, 0.0722]
    paper = 1.0 if page == "light" else 0.0085
    assert (np.maximum(light, paper) + 0.05).min() / (np.minimum(light, paper) + 0.05).max() > 1
    assert ((np.maximum(light, paper) + 0.05) / (np.minimum(light, paper) + 0.05)).min() >= 2.2
