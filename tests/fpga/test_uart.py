# amaranth: UnusedElaboratable=no
"""Bytes over a line, at the divisors of boards and of simulations, with clocks that differ."""

import random

import pytest
from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutra.fpga.uart import UartReceiver, UartTransmitter


class Loop(wiring.Component):
    """A transmitter whose line ends at a receiver of another divisor."""

    i: stream.Interface
    o: Signal
    o_valid: Signal

    def __init__(self, sends: int, receives: int) -> None:
        self.sends, self.receives = sends, receives
        super().__init__({
            "i": In(stream.Signature(8)),
            "o": Out(8),
            "o_valid": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.transmitter = transmitter = UartTransmitter(divisor=self.sends)
        m.submodules.receiver = receiver = UartReceiver(divisor=self.receives)
        wiring.connect(m, wiring.flipped(self.i), transmitter.i)
        m.d.comb += receiver.rx.eq(transmitter.tx)
        m.d.comb += [self.o.eq(receiver.o), self.o_valid.eq(receiver.o_valid)]
        return m


@pytest.mark.parametrize(
    ("sends", "receives"), [(4, 4), (5, 5), (12, 12), (27, 27), (25, 26), (26, 25)]
)
@pytest.mark.parametrize("pause", [0, 7])
def test_bytes_arrive(simulate, sends, receives, pause):
    rng = random.Random(1)
    loop = Loop(sends, receives)
    sent = [0, 255, 0x55, 0xAA, *(rng.randrange(256) for _ in range(12))]
    got = []

    async def receive(ctx):
        while True:
            _, _, valid, byte = await ctx.tick().sample(loop.o_valid, loop.o)
            if valid:
                got.append(byte)

    async def send(ctx):
        for byte in sent:
            ctx.set(loop.i.payload, byte)
            ctx.set(loop.i.valid, 1)
            await ctx.tick().until(loop.i.ready)
            ctx.set(loop.i.valid, 0)
            if pause:
                await ctx.tick().repeat(rng.randint(1, pause))
        await ctx.tick().repeat(12 * sends)

    simulate(loop, send, receive)
    assert got == sent


def test_spike_and_missing_stop_bit_give_no_byte(simulate):
    receiver = UartReceiver(divisor=8)
    got = []

    async def receive(ctx):
        while True:
            _, _, valid, byte = await ctx.tick().sample(receiver.o_valid, receiver.o)
            if valid:
                got.append(byte)

    async def line(ctx):
        async def level(value, cycles):
            ctx.set(receiver.rx, value)
            await ctx.tick().repeat(cycles)

        async def byte(value, stop=1):
            for bit in [0, *(value >> i & 1 for i in range(8)), stop]:
                await level(bit, 8)
            await level(1, 20)

        await level(1, 20)
        await level(0, 2)  # a spike
        await level(1, 100)
        await byte(0x12)
        await byte(0x34, stop=0)
        await byte(0x56)

    simulate(receiver, line, receive)
    assert got == [0x12, 0x56]


@pytest.mark.parametrize("component", [UartReceiver, UartTransmitter])
def test_divisor_must_be_large_enough(component):
    with pytest.raises(ValueError, match=r"^divisor must be an integer of at least 4, not 3$"):
        component(divisor=3)
