"""Parts of the cycle model; ``tests/gen/test_mixtures.py`` holds the whole against the hardware."""

from dataclasses import replace

import numpy as np
import pytest

from lutra.formats import StreamLayout, pack
from lutra.sim import EngineTiming, predict_cycles, random_matrix

TIMING = EngineTiming(
    member_cycles=(4,),
    queue_depth=16,
    slices_ahead=2,
    multiply_interval=1,
    release=3,
    add=6,
    banks=2,
    tokens=1,
    act_lanes=4,
    store_latency=1,
    write_cycles=20,
    token_latency=2,
    output_latency=8,
)


def layer(rows=16, columns=64, **changes):
    shape = {"lanes": 4, "width": 16, "tile_slices": 2, "formats": ("int4",)} | changes
    layout = StreamLayout(**shape, group_sizes=(32,), max_rows=64, max_columns=256)
    matrix = random_matrix(layout.members, rows, columns, min(32, columns), seed=1)
    return pack(matrix, layout), layout


def test_one_slice_by_hand():
    packed, layout = layer(rows=4, columns=16)
    # Vector: beats 0..3, known in 5. Tile: begun in 5, 4 cycles to read, 1 to align, 20 to write
    # and 1 to end, seen in 32. The weights' header, row scales and checksum have gone by.
    start = 32
    # Span header, two cycles to check it; header batch of 5 words and a cycle; 4 words of codes.
    header = layout.span_header_beats
    assert (header, layout.batch_shape[0]) == (1, 5)
    first_word = start + header + 3
    # A word is taken three cycles after it came; the slice's turn comes in the cycle after that.
    taken = first_word + 3 + 5 + 1 + 4 - 1
    last_step = taken + 1 + 4
    idle = last_step + TIMING.add + 3
    # Two cycles to begin, a beat a row, the conversion.
    assert predict_cycles(packed, layout, TIMING) == idle + 2 + 4 + TIMING.output_latency + 1


def test_later_passes_overlap():
    packed, layout = layer(rows=64, columns=256)
    cycles = [predict_cycles(packed, layout, TIMING, passes=n) for n in (1, 2, 3, 4)]
    steps = np.diff(cycles)
    assert (steps > 0).all()
    assert (steps < cycles[0]).all()
    assert steps[1] == steps[2]
    assert predict_cycles(packed, layout, TIMING, passes=1000) == cycles[3] + 996 * steps[2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("write_cycles", 200),
        ("add", 60),
        ("store_latency", 30),
        ("token_latency", 40),
        ("output_latency", 90),
    ],
)
def test_what_is_slower_takes_longer(name, value):
    packed, layout = layer()
    slower = replace(TIMING, **{name: value})
    assert predict_cycles(packed, layout, slower) > predict_cycles(packed, layout, TIMING)


def test_more_tokens_share_a_pass():
    packed, layout = layer(rows=64, columns=256)
    alone = predict_cycles(packed, layout, TIMING, passes=4)
    assert predict_cycles(packed, layout, replace(TIMING, tokens=4), passes=1) < alone


def test_a_stream_that_would_stop_the_engine():
    layout = StreamLayout(
        lanes=2, width=16, tile_slices=1, formats=("int2", "int8"), ahead=2, max_columns=512
    )
    matrix = random_matrix(layout.members, 2, 512, 512, seed=1)
    matrix.format_ids[:] = [[0], [1]]
    matrix.codes[0] &= 3
    packed = pack(matrix, layout)
    timing = replace(TIMING, member_cycles=(2, 8))
    assert predict_cycles(packed, layout, timing) > 0
    # The packer keeps the lanes together where they would part too far.
    assert packed.span_tiles < 32
    with pytest.raises(ValueError, match=r"^The engine would wait for ever for words of this st"):
        predict_cycles(replace(packed, span_tiles=32), layout, timing)
