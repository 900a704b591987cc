"""The generated Verilog in two simulators, bit for bit against the golden model."""

from dataclasses import replace

import numpy as np
import pytest

from lutra.formats import ACTIVATIONS, CATALOG, OUTPUTS
from lutra.hdl import Error
from lutra.sim import adversarial_matrices, adversarial_tokens, nonfinite_tokens, random_matrix

NONFINITE_SEEN = 8
WHOLE_ROW = 300

STEADY = (0.0, 0.0, 0.0)
STALLED = (0.3, 0.2, 0.4)


def _tokens(bench, columns, count, seed):
    """Tokens of the adversarial set, other ones for other seeds."""
    tokens = list(adversarial_tokens(bench.numerics, columns, seed=seed).values())
    return np.stack([tokens[(3 * seed + 7 * n) % len(tokens)] for n in range(count)])


def _random_layer(bench, make_layer, formats, rows, columns, group_size, seed, *, tokens=1):
    layout = bench.layout
    members = layout.members if formats == "mixture" else CATALOG[formats].members
    matrix = random_matrix(
        members, rows, columns, group_size, seed=seed, scale_width=layout.scale_width
    )
    label = f"{formats} {rows} x {columns}, group size {group_size}, seed {seed}"
    return make_layer(label, matrix, _tokens(bench, columns, tokens, seed))


def test_engines_cover_everything(benches):
    parameters = [bench.parameters for bench in benches.values()]
    covered = {(type(item), item.has_zero_point) for p in parameters for item in p.layout.members}
    everything = [item for entry in CATALOG.values() for item in entry.members]
    assert covered == {(type(item), item.has_zero_point) for item in everything}
    assert {item.code_width for p in parameters for item in p.layout.members} == set(range(1, 9))
    assert {p.numerics.activation for p in parameters} == set(ACTIVATIONS)
    assert {p.numerics.output for p in parameters} == set(OUTPUTS)
    assert {(p.core.table, p.multiply) for p in parameters} == {
        (table, multiply) for table in ("full", "half") for multiply in ("serial", "dsp")
    }
    assert {p.layout.output_lanes for p in parameters} == {1, 2}
    assert {p.tokens for p in parameters} == {1, 2}
    assert all({16, 32, 64, 128} <= set(p.layout.group_sizes) for p in parameters)


@pytest.mark.parametrize("stalls", [STEADY, STALLED], ids=["steady", "stalled"])
def test_every_format_and_group_size(bench, simulator, stalls, make_layer):
    lanes = bench.layout.lanes
    layers = []
    for formats in (*bench.layout.formats, "mixture"):
        for group_size in (*bench.layout.group_sizes, WHOLE_ROW):
            seed = len(layers)
            rows = 1 + seed % (lanes + 1)
            columns = min(group_size, 130) + 1 + seed * 7 % 29
            layers.append(
                _random_layer(bench, make_layer, formats, rows, columns, group_size, seed)
            )
    bench.play(layers, simulator, stalls=stalls, seed=2)


def test_every_tail(bench, simulator, make_layer):
    layout = bench.layout
    width, tile, lanes = layout.width, layout.tile_columns, layout.lanes
    shapes = [
        *((rows, width + 3) for rows in range(1, 2 * lanes + 2)),
        *((lanes - 1, columns) for columns in (1, 2, width - 1, width, width + 1)),
        *((lanes + 1, columns) for columns in (tile - 1, tile, tile + 1, 2 * tile)),
        (layout.max_rows, width),
        (1, layout.max_columns),
    ]
    layers = [
        _random_layer(bench, make_layer, "mixture", rows, columns, 16, seed, tokens=1 + seed % 3)
        for seed, (rows, columns) in enumerate(shapes)
    ]
    bench.play(layers, simulator, stalls=(0.1, 0.0, 0.1), seed=3)


def test_adversarial_set(bench, simulator, make_layer):
    layout = bench.layout
    rows, columns, group_size = layout.lanes + 1, layout.width + 3, 16
    x = np.stack(list(adversarial_tokens(bench.numerics, columns, seed=4).values()))
    layers = []
    for index, formats in enumerate(layout.formats):
        matrices = adversarial_matrices(
            formats, rows, columns, group_size, seed=4, scale_width=layout.scale_width
        )
        # Every matrix with some format, and every format with some matrix.
        for name in list(matrices)[index % len(layout.formats) :: len(layout.formats)]:
            layers.append(make_layer(f"{formats} {name}", matrices[name], x))
    bench.play(layers, simulator)


def test_stalls(bench, simulator, make_layer):
    """Stalls at one stream, at another, at all."""
    layout = bench.layout
    shapes = [(layout.lanes + 1, 20), (1, 1), (2 * layout.lanes, 33), (2, 50), (3, 8)]
    layers = [
        _random_layer(bench, make_layer, "mixture", rows, columns, 32, 50 + index, tokens=2)
        for index, (rows, columns) in enumerate(shapes)
    ]
    patterns = [(0.8, 0.0, 0.0), (0.0, 0.7, 0.0), (0.0, 0.0, 0.9), (0.5, 0.5, 0.5)]
    jobs = [
        bench.job(layers, stalls=stalls, seed=seed, start="continue")
        for seed, stalls in enumerate(patterns)
    ]
    for seed, (run, stalls) in enumerate(zip(bench.run(jobs, simulator), patterns, strict=True)):
        bench.check(run, layers, f"{bench.name} on {simulator}, stalls {stalls}, seed {seed}")
        assert run.status == 0


def test_tokens_that_are_not_finite(bench, simulator, make_layer):
    if not bench.numerics.is_float:
        pytest.skip("int8 has no NaN and no infinity")
    columns = bench.layout.width + 5
    matrix = random_matrix(
        bench.layout.members, 3, columns, 16, seed=6, scale_width=bench.layout.scale_width
    )
    finite = adversarial_tokens(bench.numerics, columns, seed=6)["random"]
    bad = list(nonfinite_tokens(bench.numerics, columns, seed=6).values())
    if bench.numerics.output != "int":
        # Finite tokens in between, which must not be touched.
        x = np.stack([token for other in bad for token in (other, finite)])
        run = bench.play([make_layer("not finite", matrix, x)], simulator)
        assert run.status == NONFINITE_SEEN
        return
    good = make_layer("finite", matrix, finite[None])
    jobs = []
    for token in bad:
        both = make_layer("finite, then not", matrix, np.stack([finite, token]))
        jobs.append(bench.job([both], start="clear"))
    jobs.append(bench.job([good], start="clear"))
    runs = bench.run(jobs, simulator)
    for run in runs[:-1]:
        assert run.status & 7 == Error.NONFINITE.value
        bench.check(run, [good], f"{bench.name} on {simulator}, before the error")
    assert runs[-1].status == 0
    bench.check(runs[-1], [good], f"{bench.name} on {simulator}, after clear")


@pytest.mark.parametrize("start", ["clear", "reset"])
def test_corrupted_stream(bench, simulator, start, make_layer):
    """A flipped bit stops the engine: what came before is right, nothing comes of the layer."""
    good = _random_layer(bench, make_layer, "mixture", 3, 40, 16, 7)
    w = bench.w(good)
    row_scale, code, checksum = bench.layout.layer_header_beats, len(w) - 2, len(w) - 1
    jobs = []
    for beat in (row_scale, code, checksum):
        corrupted = w.copy()
        corrupted[beat, 1] ^= 0x10
        both = bench.job([good, good], start=start)
        jobs.append(replace(both, w=np.concatenate([w, corrupted])))
        jobs.append(bench.job([good], start=start))
    runs = bench.run(jobs, simulator)
    for stopped, restarted in zip(runs[::2], runs[1::2], strict=True):
        assert stopped.status & 7 == Error.CRC.value
        bench.check(stopped, [good], f"{bench.name} on {simulator}, before the error")
        assert restarted.status == 0
        bench.check(restarted, [good], f"{bench.name} on {simulator}, after {start}")


def test_error_codes(bench, simulator, make_layer):
    """Damage to headers and to the stream's length, each with its own code; nothing comes out."""
    layer = _random_layer(bench, make_layer, "mixture", 3, 40, 16, 13)
    w, beat_bytes = bench.w(layer), bench.layout.beat_width // 8
    # Bytes of the layer's header: its magic number, the layout's fingerprint, the top of its rows.
    damage = {Error.VERSION: 0, Error.FORMAT: 4, Error.SIZE: 11}
    jobs = []
    for byte in damage.values():
        jobs.append(bench.job([layer], start="clear"))
        jobs[-1].w[divmod(byte, beat_bytes)] ^= 0x10
    jobs.append(bench.job([layer], start="clear"))
    jobs[-1].w[len(w) - 1, beat_bytes] ^= 1  # no `last`
    runs = bench.run(jobs, simulator)
    assert [Error(run.status & 7) for run in runs] == [*damage, Error.LENGTH]
    assert not any(len(run.outputs) for run in runs)


def test_nothing_after_the_last_output(bench, simulator, make_layer):
    layers = [_random_layer(bench, make_layer, "mixture", 5, 40, 16, seed) for seed in (8, 9)]
    job = bench.job(layers)
    (run,) = bench.run([replace(job, expected=job.expected + 1, max_cycles=3000)], simulator)
    bench.check(run, layers, f"{bench.name} on {simulator}")
    assert run.cycles == 3000
    assert run.status == 0


def test_jobs_that_continue(bench, simulator, make_layer):
    """Layers given one by one are computed as layers given at once are."""
    layers = [_random_layer(bench, make_layer, "mixture", 4, 33, 32, seed) for seed in (10, 11, 12)]
    runs = bench.run([bench.job([layer], start="continue") for layer in layers], simulator)
    for layer, run in zip(layers, runs, strict=True):
        bench.check(run, [layer], f"{bench.name} on {simulator}")
        assert run.status == 0
