# amaranth: UnusedElaboratable=no
"""The checksum against zlib's, for words of all kinds of widths."""

import random
import re
import zlib

import pytest

from lutra.hdl.crc32 import Crc32


@pytest.mark.parametrize("width", [32, 40, 64, 96, 128, 512])
def test_is_that_of_zlib(hdl, width):
    rng = random.Random(width)
    dut = Crc32(width=width)
    words = [0, (1 << width) - 1, *(rng.getrandbits(width) for _ in range(20))]

    async def bench(ctx):
        assert ctx.get(dut.crc) == zlib.crc32(b"")
        taken = b""
        for word in words:
            ctx.set(dut.data, word)
            ctx.set(dut.enable, 0)  # a word that is not enabled leaves no trace
            await ctx.tick()
            assert ctx.get(dut.crc) == zlib.crc32(taken)
            ctx.set(dut.enable, 1)
            await ctx.tick()
            taken += word.to_bytes(width // 8, "little")
            assert ctx.get(dut.crc) == zlib.crc32(taken)
        ctx.set(dut.clear, 1)  # wins over enable
        await ctx.tick()
        assert ctx.get(dut.crc) == zlib.crc32(b"")

    hdl.simulate(dut, bench)


def test_every_bit_counts(hdl):
    """One set bit at a time: every column of the matrix of parities."""
    dut = Crc32(width=72)

    async def bench(ctx):
        for position in range(72):
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            ctx.set(dut.enable, 1)
            ctx.set(dut.data, 1 << position)
            await ctx.tick()
            assert ctx.get(dut.crc) == zlib.crc32((1 << position).to_bytes(9, "little")), position

    hdl.simulate(dut, bench)


@pytest.mark.parametrize("width", [0, 8, 31])
def test_refuses_narrow_words(width):
    sentence = f"Word width must be at least 32, not {width}"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Crc32(width=width)
