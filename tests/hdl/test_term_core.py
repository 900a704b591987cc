# amaranth: UnusedElaboratable=no
"""The term core's latency and widths; what it computes is in test_folded_core.py."""

import pytest
from amaranth import Signal

from lutra.formats import Numerics
from lutra.hdl.term_core import TermCore
from lutra.hdl.term_decoder import term_layout

INT8 = Numerics(activation="int8", act_width=8)


def _parameters(hdl, formats, **changes):
    changes.setdefault("group_sizes", ())
    return hdl.parameters(formats, INT8, **changes)


@pytest.mark.parametrize(
    ("width", "fold", "latency"), [(8, 8, 4), (8, 4, 4), (8, 2, 4), (16, 2, 5), (64, 2, 6)]
)
def test_latency(hdl, width, fold, latency):
    parameters = _parameters(hdl, ("int4",), engine="term", fold=fold, width=width, act_lanes=1)
    core = TermCore(parameters=parameters)
    assert core.latency == latency
    assert core.hold_cycles == 1


@pytest.mark.parametrize(
    ("formats", "size_width", "last_base"),
    [
        (("bcq3",), 1, 0),
        (("ternary",), 2, 0),
        (("bitmod3",), 2, 2),
        (("bitmod4",), 2, 2),
        (("int8", "bitmod4"), 2, 6),
        (("int8_asym",), 2, 6),
    ],
)
def test_terms_need_two_select_bits(hdl, formats, size_width, last_base):
    terms = Signal(term_layout(_parameters(hdl, formats, engine="term", fold=2)))
    assert terms.size.shape().length == size_width
    assert len(terms.base) == last_base.bit_length()
    assert len(terms.negative) == 5


def test_fold_must_divide(hdl):
    with pytest.raises(ValueError, match="fold must divide the 8 weights of a lane's slice, not 3"):
        _parameters(hdl, ("int4",), engine="term", fold=3)
