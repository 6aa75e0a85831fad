"""The names of TensorFlow Lite Micro's resolver cover every operator that hatdet writes."""

from __future__ import annotations

import pytest

from hatdet.export.runtimes.micro_operators import RESOLVER_CALLS, resolver_calls, without_kernel
from hatdet.export.tflite.flatbuffer import OPERATOR_VERSIONS
from hatdet.utils.errors import UserError


def test_every_operator_has_a_row() -> None:
    assert set(RESOLVER_CALLS) == {*OPERATOR_VERSIONS, "ethos-u"}


def test_each_call_once_by_name() -> None:
    assert resolver_calls(["CONV_2D", "ADD", "CONV_2D", "ethos-u"]) == ["AddAdd", "AddConv2D", "AddEthosU"]
    assert without_kernel(["GELU", "ADD", "GELU", "unheard-of"]) == ["GELU", "unheard-of"]
    with pytest.raises(UserError, match="TensorFlow Lite Micro has no kernel of GELU; it has ADD, "):
        resolver_calls(["ADD", "GELU"])
