# amaranth: UnusedElaboratable=no
"""Functions of code bits: reduced without loss, equal where they are, evaluated side by side."""

import random

import pytest
from amaranth import Module, Signal

from lutra.hdl.boolean import distinct, evaluate, reduce_truth
from lutra.hdl.code_functions import CodeFunctions


def _truth(function, width):
    """Return the truth table of a code bit, or of its complement, by name."""
    sign, bit = function[0], int(function[1:])
    one = "1" if sign == "+" else "0"
    return sum((f"{code:0{width}b}"[-1 - bit] == one) << code for code in range(1 << width))


def test_reduced():
    assert reduce_truth(0, 3) is False
    assert reduce_truth(255, 3) is True
    assert reduce_truth(_truth("+1", 3), 3) == (1, True, False)
    # A function of few bits is the same whatever the width of the code.
    assert reduce_truth(_truth("-0", 2), 2) == reduce_truth(_truth("-0", 5), 5)
    tables = [(_truth("+1", 3), 3), (0, 2), (_truth("+1", 2), 2), (15, 2)]
    assert distinct(tables) == [(1, True, False), False, True]


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_evaluated(hdl, width):
    rng = random.Random(width)
    count = 1 << width
    truths = {rng.getrandbits(count) for _ in range(40)} | {0, (1 << count) - 1}
    truths |= {_truth(f"{sign}{bit}", width) for sign in "+-" for bit in range(width)}
    columns = [sum((code >> bit & 1) << code for code in range(count)) for bit in range(width)]
    m = Module()
    bits = [Signal(count, name=f"bit_{bit}", init=column) for bit, column in enumerate(columns)]
    results = {}
    for truth in sorted(truths):
        results[truth] = Signal(count, name=f"f_{truth}")
        m.d.comb += results[truth].eq(evaluate(reduce_truth(truth, width), bits, count))

    async def bench(ctx):
        for truth, result in results.items():
            assert ctx.get(result) == truth

    hdl.simulate(m, bench, clocked=False)


def test_rows(hdl):
    """Each row has its own functions; rows that do not occur do no harm."""
    rng = random.Random(3)
    truths = [
        [rng.getrandbits(16) for _ in range(3)] if row not in (2, 5) else [] for row in range(7)
    ]
    rows = [[reduce_truth(truth, 4) for truth in own] for own in truths]
    dut = CodeFunctions(rows=rows, code_width=4, width=16)

    async def bench(ctx):
        for bit in range(4):
            ctx.set(dut.codes[bit], sum((code >> bit & 1) << code for code in range(16)))
        for row, own in enumerate(truths):
            ctx.set(dut.row, row)
            for bit, truth in enumerate(own):
                assert ctx.get(dut.o[bit]) == truth, (row, bit)

    hdl.simulate(dut, bench, clocked=False)


def test_one_row_needs_no_choice(hdl):
    dut = CodeFunctions(rows=[[(0, True, False)]], code_width=1, width=2)

    async def bench(ctx):
        ctx.set(dut.codes[0], 2)
        assert ctx.get(dut.o[0]) == 2

    hdl.simulate(dut, bench, clocked=False)
