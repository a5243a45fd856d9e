"""The tables in the docs agree with the committed results."""

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
from docs import pictures_depth, pictures_speed, pictures_superpixels


@pytest.mark.slow
def test_tables_of_the_depth_study():
    pages = [page.read_text("utf-8") for page in pictures_depth.PAGES]
    assert sum(page.count("<!-- -->") for page in pages) == len(pictures_depth.tables())
    assert [pictures_depth.with_tables(page) for page in pages] == pages
    assert "dirty" not in str(pictures_depth.study("cora")["commits"])


def test_tables_of_superpixels():
    page = pictures_superpixels.PAGE.read_text("utf-8")
    assert page.count("<!-- -->") == len(pictures_superpixels.TABLES)
    assert pictures_superpixels.with_tables(page) == page
    for figure in ("90.71", "90.81", "95.54", "96.49", "97.31", "97.34", "97.94", "98.11", "98.38", "98.41", "98.71"):
        assert f"| {figure}" in page


def test_tables_of_speed():
    for page in (path.read_text("utf-8") for path in pictures_speed.PAGES):
        assert pictures_speed.with_tables(page) == page
    count = sum(
        path.read_text("utf-8").count(f"<!-- {name} -->")
        for path in pictures_speed.PAGES
        for name in pictures_speed.TABLES
    )
    assert count == len(pictures_speed.TABLES)
