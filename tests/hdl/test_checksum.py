# amaranth: UnusedElaboratable=no
"""The checksum of sections, as beats come and with pauses: equal to the packer's, and when."""

import random
from unittest.mock import patch

import numpy as np
import pytest

from lutra.formats.beat_fold import BeatFold
from lutra.hdl.checksum import Checksum

WIDTHS = [32, 64, 128, 136, 256, 520, 1032, 4104]


def _sections(width, seed):
    """Return sections as (beats, checksum, whether it is right)."""
    rng = random.Random(seed)
    fold = BeatFold(width)
    for count in (1, 2, 7, 1, 3, 5, 1, 2, 2, 1):
        raw = np.frombuffer(rng.randbytes(count * width // 8), dtype=np.uint8).reshape(count, -1)
        right = rng.random() < 0.5
        flipped = 0 if right else 1 << rng.randrange(32)
        beats = [int.from_bytes(beat.tobytes(), "little") for beat in raw]
        yield beats, fold.checksum(raw) ^ flipped, right


def _verdicts(hdl, dut, width, *, pause, check_pause):
    """Give sections, and return when each checksum was given, compared, and what was found."""
    rng = random.Random(3)
    wanted, found = [], []
    sections = list(_sections(width, width))

    async def bench(ctx):
        steps = []
        for beats, checksum, right in sections:
            for beat in beats:
                steps += [None] * (pause and rng.randrange(pause + 1)) + [(beat, 0)]
            rubbish = rng.getrandbits(width - 32) << 32 if width > 32 else 0
            steps += [None] * check_pause + [(checksum | rubbish, 1)]
            wanted.append(right)
        given = []
        for cycle, step in enumerate([*steps, *[None] * dut.latency]):
            # What is not to be taken is there all the same.
            data, check = step or (rng.getrandbits(width), 0)
            ctx.set(dut.data, data)
            ctx.set(dut.check, check)
            ctx.set(dut.enable, step is not None)
            compared = [start for start in given if start == cycle - dut.latency]
            assert ctx.get(dut.pending) == any(cycle - start <= dut.latency for start in given)
            if compared:
                found.append(not ctx.get(dut.wrong))
            else:
                assert not ctx.get(dut.wrong)
            if check:
                given.append(cycle)
            await ctx.tick()

    hdl.simulate(dut, bench)
    return wanted, found


@pytest.mark.parametrize(("pause", "check_pause"), [(0, 0), (3, 0), (0, 1), (0, 2), (3, 7)])
@pytest.mark.parametrize("width", WIDTHS)
def test_each_section(hdl, width, pause, check_pause):
    """Sections directly behind each other, beats of one alone, pauses before any beat."""
    dut = Checksum(width=width)
    assert dut.latency == (3 if width > 128 else 2)
    wanted, found = _verdicts(hdl, dut, width, pause=pause, check_pause=check_pause)
    assert found == wanted
    assert len(set(wanted)) == 2


def test_every_bit_counts(hdl):
    """One set bit at a time."""
    width = 264
    dut, fold = Checksum(width=width), BeatFold(width)

    async def bench(ctx):
        for position in range(width):
            beat = 1 << position
            raw = np.frombuffer(beat.to_bytes(width // 8, "little"), dtype=np.uint8)[None]
            for data, check in ((beat, 0), (fold.checksum(raw), 1)):
                ctx.set(dut.data, data)
                ctx.set(dut.enable, 1)
                ctx.set(dut.check, check)
                await ctx.tick()
            ctx.set(dut.enable, 0)
            ctx.set(dut.check, 0)
            for _ in range(dut.latency):
                assert not ctx.get(dut.wrong), position
                await ctx.tick()

    hdl.simulate(dut, bench)


def test_another_fold_is_found(hdl):
    """Hardware that rotates one word by one bit more does not agree with the packer."""
    width = 256
    dut = Checksum(width=width)
    other = [set(positions) for positions in dut.fold.sums]
    moved = range(3 * 32, 4 * 32)
    diagonals = other[: dut.fold.diagonals]
    kept = [positions - set(moved) for positions in diagonals]
    rotated = [positions & set(moved) for positions in diagonals]
    sums = [a | b for a, b in zip(kept, [*rotated[-1:], *rotated[:-1]], strict=True)]
    sums = [*map(tuple, sums), *dut.fold.sums[dut.fold.diagonals :]]
    with patch.object(dut.fold, "sums", sums):
        wanted, found = _verdicts(hdl, dut, width, pause=0, check_pause=0)
    assert not any(found)
    assert any(wanted)
