"""One network, several image sizes."""

import pytest

from hatdet.export.shapes import with_image_size
from hatdet.utils.errors import UserError
from tests.helpers.int_graphs import small_network


@pytest.mark.parametrize("size", [(64, 32), (32, 32), (96, 160)])
def test_shapes_are_those_of_a_graph_made_for_the_size(size: tuple[int, int]) -> None:
    changed = with_image_size(small_network(32, 48), size)
    expected = small_network(*size)
    assert {n: t.shape for n, t in changed.tensors.items()} == {n: t.shape for n, t in expected.tensors.items()}
    assert changed.metadata["image_size"] == list(size)


def test_the_recorded_size_changes_nothing() -> None:
    graph = small_network(32, 48)
    assert with_image_size(graph, (32, 48)) is graph


def test_a_size_that_does_not_suit_the_strides() -> None:
    with pytest.raises(UserError, match=r"image size \(33, 48\) does not suit .*'merged_concat'"):
        with_image_size(small_network(32, 48), (33, 48))
