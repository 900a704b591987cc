"""Utilisation of every kind of engine, for single formats and for mixtures, in compiled hardware.

Run ``.venv/bin/python bench/mixture.py``; compiling the engines takes some minutes. Cycles and bits
depend on nothing but the code.
"""

import argparse

from lutra.formats import Numerics, StreamLayout, family
from lutra.gen import EngineConfig, compare_layer, make_backend, random_tokens
from lutra.gen.console import print_table, progress_bar
from lutra.hdl import CORE_OPTIONS, EngineParameters
from lutra.sim import random_matrix

WIDTHS = tuple(f"int{width}" for width in range(2, 9))
EVERY = (
    *WIDTHS,
    *("ternary", "bitmod3", "bitmod4", "float4_e2m1"),
    *("bcq1", "bcq2", "bcq3", "bcq4", "codebook4"),
)
# Formats that an engine is made for; layers of it, each with what its groups may have.
ENGINES = {
    WIDTHS: {name: (name,) for name in ("int2", "int4", "int8")} | {"2 to 8 bits": WIDTHS},
    EVERY: {"every family": EVERY},
}
SHAPES = ((1024, 1024), (4096, 1024), (4096, 4096))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", nargs="+", default=list(CORE_OPTIONS), choices=CORE_OPTIONS)
    parser.add_argument("--lanes", nargs="+", type=int, default=[8, 16])
    parser.add_argument("--tokens", type=int, default=4, help="activation vectors a layer")
    arguments = parser.parse_args()
    rows = []
    with progress_bar() as progress:
        for engine in arguments.engines:
            for lanes in arguments.lanes:
                for formats, mixtures in ENGINES.items():
                    config = engine_config(engine, lanes, formats)
                    rows += measure(config, mixtures, arguments.tokens, progress)
    columns = ("engine", "lanes", "shape", "formats", "differ", "cycles", "predicted")
    title = f"Groups of 128, {arguments.tokens} tokens"
    print_table(title, (*columns, "utilisation", "bits beside codes"), rows)


def engine_config(engine: str, lanes: int, formats: tuple[str, ...]) -> EngineConfig:
    """Return an engine that takes 32 weights a lane and slice."""
    layout = StreamLayout(
        lanes=lanes,
        width=32,
        tile_slices=4,
        formats=formats,
        group_sizes=(128,),
        output_lanes=4,
        codebook_terms=4,
    )
    parameters = EngineParameters(
        layout=layout, numerics=Numerics(), core=CORE_OPTIONS[engine](), slices_ahead=4
    )
    return EngineConfig(name=f"{engine}_{lanes}", parameters=parameters)


def measure(
    config: EngineConfig, mixtures: dict[str, tuple[str, ...]], tokens: int, progress
) -> list[tuple]:
    """Run layers of several shapes in every mixture; a row for each."""
    backend = make_backend("verilator", config, progress)
    parameters = config.parameters
    rows = []
    for shape in SHAPES:
        for name, formats in mixtures.items():
            progress(f"{config.name}: {name}", 0.0)
            names = {item.name for family_name in formats for item in family(family_name).members}
            members = [item for item in parameters.layout.members if item.name in names]
            matrix = random_matrix(members, *shape, 128, seed=5)
            x = random_tokens(parameters.numerics, tokens, shape[1], seed=1)
            seen = compare_layer("layer", matrix, x, config=config, backend=backend)
            overhead = (seen.stream_bits - matrix.code_bits) / matrix.codes.size
            rows.append((
                config.engine,
                parameters.layout.lanes,
                f"{shape[0]} x {shape[1]}",
                name,
                seen.mismatches,
                f"{seen.cycles:,}",
                f"{seen.predicted_cycles:,}",
                f"{100 * (seen.utilisation or 0):.1f} %",
                f"{overhead:.3f}",
            ))
    return rows


if __name__ == "__main__":
    main()
