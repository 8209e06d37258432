"""Large JSON files read an element at a time give what reading them at once gives."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finepose_mp.preprocessing import json_stream
from finepose_mp.preprocessing.unpickling import DamagedFileError

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("json") / "content.json"


@settings(max_examples=60, deadline=None)
@given(content=st.dictionaries(st.text(max_size=4), _VALUES | st.lists(_VALUES, max_size=4)), piece=st.integers(1, 40))
@pytest.mark.parametrize("indent", [None, 2])
def test_the_same_as_at_once(path, content, piece, indent):
    path.write_text(json.dumps(content, indent=indent))
    original, json_stream._PIECE = json_stream._PIECE, piece
    try:
        found = list(json_stream.elements(path, *content))
    finally:
        json_stream._PIECE = original
    assert found == [(key, item) for key, value in content.items() if isinstance(value, list) for item in value]


def test_what_comes_before_the_damage_is_given(tmp_path):
    path = tmp_path / "cut.json"
    path.write_text('{"images": [{"id": 1}, {"id": 2}, {"i')
    found = []
    with pytest.raises(DamagedFileError, match=r"cut\.json"):
        for _, item in json_stream.elements(path, "images"):
            found.append(item["id"])
    assert found == [1, 2]
