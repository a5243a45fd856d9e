"""Sealed JSON: any change of the content is noticed, white space and order are not content."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnlib._utils.documents import checksum, is_sealed, parse_document, read_document, seal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
@pytest.mark.slow
def test_a_sealed_document_comes_back(document):
    sealed = seal(document)
    again = parse_document(json.dumps(dict(reversed(sealed.items())), indent=3))
    assert is_sealed(again)
    assert json.dumps(again, sort_keys=True) == json.dumps(sealed, sort_keys=True)


@given(st.dictionaries(st.text(), VALUES, max_size=4), st.text(), VALUES)
def test_another_value_breaks_the_seal(document, name, value):
    changed = {**seal(document), name: value}
    same = json.dumps(changed, sort_keys=True) == json.dumps(seal(document), sort_keys=True)
    assert is_sealed(changed) == ((same and name != "checksum") or changed == seal(document))


def test_keys_and_tuples_become_those_of_json():
    document = {"about": {10: (1, 2), 9: True}}
    assert seal(document) == {
        "about": {"10": [1, 2], "9": True},
        "checksum": checksum({"about": {"10": [1, 2], "9": True}}),
    }
    assert is_sealed(json.loads(json.dumps(seal(document))))


def cyclic():
    values = []
    values.append(values)
    return values


def deep():
    value = []
    for _ in range(10**5):
        value = [value]
    return value


@pytest.mark.parametrize("value", [cyclic, deep, object, lambda: {1: {2}}])
def test_what_json_cannot_hold(value):
    with pytest.raises(ValueError, match="expected values that JSON can hold, got others"):
        seal({"value": value()})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "Expecting"),
        (b"[1]", "expected an object, got list"),
        (b"[" * 10**5, "expected JSON of less nesting"),
        (b"{" + b'"a":{' * 10**5, "expected JSON of less nesting"),
        (b"\xff", "codec can't decode"),
        (b'{"a": ' + b"1" * 5000 + b"}", "digits"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "document.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path} is damaged \(.*{message}"):
        read_document(path)


def test_long_files_and_absent_ones(tmp_path):
    path = tmp_path / "document.json"
    path.write_text(json.dumps({"a": "x" * 100}))
    assert read_document(path, 200) == {"a": "x" * 100}
    with pytest.raises(ValueError, match=rf"{path}: expected at most 50 bytes, got 109"):
        read_document(path, 50)
    for absent in (tmp_path / "none.json", tmp_path):
        with pytest.raises(FileNotFoundError, match=rf"expected a file {absent}, got none"):
            read_document(absent)
