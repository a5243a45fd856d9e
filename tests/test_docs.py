"""Tables in the docs are those of the committed results."""

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
from docs import pictures_depth


def test_the_tables_of_the_depth_study_are_made_of_its_results():
    page = pictures_depth.PAGE.read_text("utf-8")
    assert page.count("<!-- -->") == len(pictures_depth.TABLES)
    assert pictures_depth.with_tables(page) == page
    assert "dirty" not in str(pictures_depth.study("cora")["commits"])
