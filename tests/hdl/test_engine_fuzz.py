# amaranth: UnusedElaboratable=no
"""Damaged weight streams by the ten thousand, in the compiled engine: none may pass unnoticed."""

import random
from collections import Counter

import numpy as np
import pytest

from lutra.formats import Numerics
from lutra.gen.config import EngineConfig
from lutra.gen.verilog import generate_verilog
from lutra.hdl import Error
from lutra.sim import GoldenModel, adversarial_tokens, random_matrix
from lutra.sim.emulator import Emulator

# Beats of the checksum's width, and wider ones, whose checksum leaves bits that do not matter.
SHAPES = {
    "narrow beats": (
        ("bitmod3", "int2_asym"),
        {"lanes": 4, "width": 8},
        (6, 37, 8),
    ),
    "wide beats": (
        ("bcq2_asym", "int8"),
        {"lanes": 4, "width": 16, "group_sizes": (16, 32), "output_lanes": 2},
        (9, 40, 16),
    ),
    "folded beats": (
        ("bitmod3", "int8"),
        {"lanes": 4, "width": 40, "group_sizes": (40,), "tile_slices": 1, "act_lanes": 4},
        (5, 80, 40),
    ),
    # Narrow where it could be wide: a flipped format makes lanes wait for each other.
    "one long span": (
        ("int2", "int8"),
        {"lanes": 4, "width": 8, "tile_slices": 4, "ahead": 2, "group_sizes": (32,)},
        (4, 320, 32, "int2"),
    ),
}


class Target:
    """A compiled engine, one layer, and what two tokens give."""

    def __init__(self, hdl, formats, changes, shape):
        rows, columns, group_size, *name = shape
        changes = {"max_columns": max(80, columns), **changes}
        parameters = hdl.parameters(formats, Numerics(act_width=8), **changes)
        config = EngineConfig(name="lutra_fuzz", parameters=parameters)
        self.emulator = Emulator(generate_verilog(config), top=config.name)
        self.interface = config.interface
        self.layout = parameters.layout
        members = [item for item in self.layout.members if item.name in (name or [item.name])]
        self.matrix = random_matrix(members, rows, columns, group_size, seed=1)
        tokens = adversarial_tokens(parameters.numerics, self.matrix.columns, seed=3)
        batch = np.stack([tokens["random"], tokens["cancelling"]])
        self.x = self.interface.activations(batch)
        self.packed = parameters.pack(self.matrix)
        self.w = self.interface.weights(self.packed)
        self.bits = parameters.layout.beat_width + 1  # `last` too
        self.layer_outputs = self.interface.output_beats(self.matrix.rows)
        self.right = np.zeros((0, self.interface.o_bytes), dtype=np.uint8)

        run = self.run([self.w, self.w])
        assert Error(run.status & 7) == Error.NONE
        outputs = self.interface.outputs(run.outputs, self.matrix.rows)
        golden = GoldenModel(self.matrix, parameters.numerics).run(batch)
        assert np.array_equal(outputs.view(np.uint32), golden.view(np.uint32))
        self.right = run.outputs

    def run(self, layers, *, x=None, **options):
        """Run layers against the same two vectors, again and again, or against others."""
        x = np.concatenate([self.x] * -(-len(layers) // 2)) if x is None else x
        run = self.emulator.run(
            x,
            np.concatenate(layers),
            expected=len(layers) * self.layer_outputs,
            output_bytes=self.interface.o_bytes,
            max_cycles=20_000,
            **options,
        )
        assert run.broken_handshakes == 0
        return run

    def verdict(self, layers, damaged, *, complete=False, **options):
        """Return the error that stopped the engine, having checked what came out before it.

        ``damaged`` is the first layer that is not as it should be; ``complete`` says that it is
        whole before the damage, so that its outputs are right.
        """
        run = self.run(layers, **options)
        error = Error(run.status & 7)
        finished = damaged + complete if error != Error.NONE else len(layers)
        right = np.concatenate([self.right] * -(-len(layers) // 2))
        count = finished * self.layer_outputs
        assert len(run.outputs) == count, f"{len(run.outputs)} outputs and not {count}, {error}"
        assert np.array_equal(run.outputs, right[:count]), f"wrong outputs, {error}"
        return error


def _every_bit_flip(target):
    """Flip each bit of the stream, in the first of two layers or in the second."""
    seen = {}
    for beat in range(len(target.w)):
        for bit in range(target.bits):
            flipped = target.w.copy()
            flipped[beat, bit // 8] ^= 1 << bit % 8
            damaged = (beat + bit) % 2
            layers = [target.w, flipped] if damaged else [flipped, target.w]
            try:
                seen[beat, bit] = target.verdict(layers, damaged)
            except AssertionError as failure:
                raise AssertionError(
                    f"bit {bit} of beat {beat} flipped in layer {damaged}: {failure}"
                ) from failure
    return seen


def _damage(rng, beats, bits):
    """Return what happened to a stream, and the stream."""
    count = len(beats)
    kind = rng.choice(["drop", "double", "insert", "swap", "burst", "noise", "cut", "splice"])
    i, j = sorted((rng.randrange(count), rng.randrange(count)))
    beats = beats.copy()
    if kind == "drop":
        beats = np.delete(beats, slice(i, i + rng.choice([1, 1, 2, 5])), axis=0)
    elif kind == "double":
        beats = np.insert(beats, i, beats[i], axis=0)
    elif kind == "insert":
        beats = np.insert(beats, i, 0, axis=0)
    elif kind == "swap":
        beats[[i, j]] = beats[[j, i]]
    elif kind == "burst":
        for _ in range(rng.randrange(2, 40)):
            bit = rng.randrange(bits)
            beats[rng.randrange(count), bit // 8] ^= 1 << bit % 8
    elif kind == "noise":
        for beat in beats[i : i + 5]:
            beat[:-1] = list(rng.randbytes(len(beat) - 1))
    elif kind == "cut":
        beats = beats[: max(i, 1)]
    else:
        beats = np.concatenate([beats[:i], beats[j:]])
    return kind, beats


def _random_damage(target, runs):
    """Damage the first or the second of four layers, under random stalls."""
    seen = Counter()
    for seed in range(runs):
        rng = random.Random(seed)
        kind, beats = _damage(rng, target.w, target.bits)
        damaged = rng.randrange(2)
        layers = [target.w] * 4
        layers[damaged] = beats
        # A layer that is repeated from its last beat on is a good layer and rubbish behind it.
        complete = np.array_equal(beats[: len(target.w)], target.w)
        stalls = (rng.choice([0, 0.5]), rng.choice([0, 0.5]), rng.choice([0, 0.5]))
        try:
            error = target.verdict(layers, damaged, complete=complete, stalls=stalls, seed=seed + 1)
        except AssertionError as failure:
            raise AssertionError(f"{kind}, seed {seed}: {failure}") from failure
        if error != Error.NONE:
            seen[kind] += 1
    return seen


def _random_vectors(target, runs):
    """Give layers vectors of any length; what comes out is whole layers, up to a wrong one."""
    seen = Counter()
    beats = len(target.x) // 2
    longest = -(-target.layout.max_columns // 4)
    for seed in range(runs):
        rng = random.Random(seed)
        lengths = [rng.choice([beats] * 4 + [rng.randint(1, longest + 3)]) for _ in range(4)]
        vectors = []
        for index, length in enumerate(lengths):
            vector = target.x[index % 2 * beats : (index % 2 + 1) * beats].copy()
            last = vector[-1, -1]
            vector[-1, -1] = 0
            vector = np.resize(vector, (length, vector.shape[1]))
            vector[-1, -1] = last
            vectors.append(vector)
        wrong = [index for index, length in enumerate(lengths) if length != beats]
        stalls = (rng.choice([0, 0.5]), rng.choice([0, 0.5]), rng.choice([0, 0.5]))
        run = target.run([target.w] * 4, x=np.concatenate(vectors), stalls=stalls, seed=seed + 1)
        error = Error(run.status & 7)
        finished, rest = divmod(len(run.outputs), target.layer_outputs)
        where = f"vectors of {lengths} beats, seed {seed}: {error}, {len(run.outputs)} outputs"
        assert rest == 0, where
        assert np.array_equal(
            run.outputs, np.concatenate([target.right] * 2)[: len(run.outputs)]
        ), where
        if not wrong:
            assert (error, finished) == (Error.NONE, 4), where
        elif error == Error.SIZE:  # a vector stops the layer before it, if that is still at work
            assert max(lengths) > longest, where
            assert finished <= wrong[0], where
        else:
            assert (error, finished) == (Error.LENGTH, wrong[0]), where
        seen[error] += 1
    return seen


@pytest.mark.parametrize("shape", SHAPES)
def test_no_damage_passes_unnoticed(hdl, shape):
    """One test for each engine, so that it is compiled once."""
    formats, changes, size = SHAPES[shape]
    target = Target(hdl, formats, changes, size)

    seen = _every_bit_flip(target)
    harmless = {place for place, error in seen.items() if error == Error.NONE}
    checksums = {beat for beat, _ in harmless}
    # What may be flipped without harm is what the format calls padding beside a checksum.
    assert harmless == {(beat, bit) for beat in checksums for bit in range(32, target.bits - 1)}
    tiles = -(-target.matrix.columns // target.layout.tile_columns)
    spans = -(-tiles // target.packed.span_tiles)
    assert len(checksums) == (0 if target.bits == 33 else 1 + spans)
    assert {Error.VERSION, Error.FORMAT, Error.SIZE, Error.LENGTH, Error.CRC} <= set(seen.values())

    assert len(_random_damage(target, 2000)) == 8
    assert set(_random_vectors(target, 500)) == {Error.NONE, Error.LENGTH, Error.SIZE}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_much_damage(hdl, shape):
    target = Target(hdl, *SHAPES[shape])
    _random_damage(target, 100_000)
    _random_vectors(target, 20_000)
