"""The tables of the guide say what the library does."""

from docs import layers


def test_table_of_layers():
    page = layers.PAGE.read_text("utf-8")
    assert layers.with_tables(page) == page
    assert "| `GCNConv` |" in page


def test_table_has_every_layer():
    from gnnlib.nn import conv

    assert set(layers.LAYERS) == set(conv.__all__) - {"Conv"}
