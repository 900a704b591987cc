# amaranth: UnusedElaboratable=no
"""Frames in hardware against frames in Python, whole and damaged."""

import random

import pytest

from lutra.fpga.deframe import Deframe
from lutra.fpga.enframe import Enframe
from lutra.fpga.protocol import ESCAPE, FLAG, MAX_FRAME, FrameReader, encode_frame


def bodies(seed: int) -> list[bytes]:
    """Bodies of all kinds of lengths, rich in bytes that must be escaped."""
    rng = random.Random(seed)
    lengths = [2, 3, 17, 60, MAX_FRAME - 4]
    return [
        bytes(rng.choice([FLAG, ESCAPE, 0, 0x20, rng.randrange(256)]) for _ in range(length))
        for length in lengths
    ]


def damaged(frame: bytes, seed: int) -> list[bytes]:
    """Return one frame in many ways in which it must not be taken."""
    rng = random.Random(seed)
    found = []
    for _ in range(3):
        at = rng.randrange(1, len(frame) - 1)
        found.append(frame[:at] + frame[at + 1 :])
        found.append(frame[:at] + bytes([frame[at] ^ 1 << rng.randrange(8)]) + frame[at + 1 :])
    return [*found, frame[: len(frame) // 2], bytes([FLAG, 1, 2, 3, 4, 5, FLAG])]


def offered(simulate, received: bytes, *, stall: bool = False) -> tuple[list[bytes], int]:
    """Give bytes to a :class:`Deframe`, slowly; return what it offers and counts."""
    deframe, rng = Deframe(), random.Random(2)
    got, count = [bytearray()], 0

    async def take(ctx):
        while True:
            ctx.set(deframe.o.ready, not stall or rng.random() < 0.5)
            _, _, taken, payload = await ctx.tick().sample(
                deframe.o.valid & deframe.o.ready, deframe.o.payload
            )
            if taken:
                got[-1].append(payload.data)
                if payload.last:
                    got.append(bytearray())

    async def give(ctx):
        nonlocal count
        for byte in received:
            ctx.set(deframe.i, byte)
            ctx.set(deframe.i_valid, 1)
            await ctx.tick()
            ctx.set(deframe.i_valid, 0)
            await ctx.tick().repeat(9)
            if byte == FLAG:
                await ctx.tick().repeat(4)
                while ctx.get(deframe.o.valid):
                    await ctx.tick()
                await ctx.tick().repeat(4)
        await ctx.tick().repeat(4)
        count = ctx.get(deframe.damaged)

    simulate(deframe, give, take)
    assert not got[-1]
    return [bytes(body) for body in got[:-1]], count


@pytest.mark.parametrize("stall", [False, True])
def test_whole_frames_are_taken_by_both_ends(simulate, stall):
    wanted = bodies(1)
    stream = b"".join(map(encode_frame, wanted))
    assert FrameReader().feed(stream) == wanted
    assert offered(simulate, stream, stall=stall) == (wanted, 0)


def test_flag_may_end_one_frame_and_begin_the_next():
    first, second = bodies(2)[:2]
    assert FrameReader().feed(encode_frame(first) + encode_frame(second)[1:]) == [first, second]


def test_damaged_frames_leave_no_trace_but_a_count(simulate):
    whole = bodies(3)
    stream = b"\x12\x34"  # rubbish before the first flag
    for index, body in enumerate(whole[:4]):
        for frame in damaged(encode_frame(body), index):
            stream += frame + bytes([FLAG])
        stream += encode_frame(body)
    stream += encode_frame(bytes(MAX_FRAME)) + encode_frame(whole[4])
    reader = FrameReader()
    assert reader.feed(stream) == whole
    got, count = offered(simulate, stream)
    assert got == whole
    assert count >= 4 * 6
    assert reader.damaged >= 4 * 6


@pytest.mark.parametrize("stall", [False, True])
def test_hardware_makes_the_frames_that_python_makes(simulate, stall):
    enframe, rng = Enframe(), random.Random(4)
    wanted, got = bodies(5), bytearray()

    async def take(ctx):
        while True:
            ctx.set(enframe.o.ready, not stall or rng.random() < 0.5)
            _, _, taken, byte = await ctx.tick().sample(
                enframe.o.valid & enframe.o.ready, enframe.o.payload
            )
            if taken:
                got.append(byte)

    async def give(ctx):
        for body in wanted:
            for index, byte in enumerate(body):
                ctx.set(enframe.i.payload, {"data": byte, "last": index == len(body) - 1})
                ctx.set(enframe.i.valid, 1)
                await ctx.tick().until(enframe.i.ready)
                ctx.set(enframe.i.valid, 0)
        await ctx.tick().repeat(60)

    simulate(enframe, give, take)
    assert bytes(got) == b"".join(map(encode_frame, wanted))
