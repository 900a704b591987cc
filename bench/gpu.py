"""Speed of the GPU kernels against float16 and, where they are installed, gemlite and torchao.

Run ``.venv/bin/python bench/gpu.py --output build/bench``; it prints a table and writes it as
``gpu.csv`` with a plot, ``gpu.svg``. Products are timed as CUDA graphs, the median of many, over
as many copies of the weights as exceed the L2 cache twice. Without a GPU all rows say "not
measured".

Before anything is timed, each layer's kernels are compared with the exact float64 products.
"""

import argparse
import csv
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from lutra.formats import Numerics
from lutra.gen.console import print_line, print_table, progress_bar
from lutra.gen.plot import Panel, Series, draw
from lutra.gpu import PackedWeights, matmul
from lutra.gpu.configs import DECODE_CONFIGS, PREFILL_CONFIGS
from lutra.gpu.launch import DECODE_TOKENS, launch_matmul
from lutra.sim import random_matrix

SHAPES = ((4096, 4096), (4096, 11008), (11008, 4096), (8192, 28672))
FORMATS = ("bitmod4", "int4", "bitmod3", "int3", "int2", "int8", "bcq3", "bcq4_asym")
TOKENS = (1, 2, 4, 8, 16, 64, 256, 1024, 4096)
PEERS = ("gemlite int4", "torchao int4")
GROUP = 128
NOT_MEASURED = "not measured"
REPEATS = 20
WARM_UPS = 3


@dataclass
class Row:
    """One measurement; ``note`` says why there is none."""

    rows: int
    columns: int
    what: str
    tokens: int
    microseconds: float | None = None
    gigabytes_per_second: float | None = None
    share_of_copy: float | None = None
    time_of_float16: float | None = None
    config: str = ""
    note: str = ""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", type=parse_shape, default=SHAPES, metavar="NxK")
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--tokens", nargs="+", type=int, default=TOKENS)
    parser.add_argument("--act-width", type=int, default=15, help="15 is two digits (default: 15)")
    parser.add_argument("--tune", action="store_true", help="try every configuration")
    parser.add_argument("--output", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    rows: list[Row] = []
    with progress_bar() as progress:
        copy = copy_bandwidth() if torch.cuda.is_available() else None
        for shape in arguments.shapes:
            progress(f"{shape[0]} x {shape[1]}", 0.0)
            rows += measure_shape(shape, arguments, copy)
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_csv(arguments.output / "gpu.csv", rows)
    write_plot(arguments.output / "gpu.svg", rows)
    if copy is None:
        where = arguments.output / "gpu.csv"
        print_line(f"There is no CUDA device: all {len(rows)} rows of {where} are {NOT_MEASURED}")
        return
    device = torch.cuda.get_device_name()
    print_table(f"{device}; copy bandwidth {text(copy)} GB/s", [f.name for f in fields(Row)], [
        [text(value) for value in asdict(row).values()] for row in rows
    ])  # fmt: skip


def parse_shape(shape: str) -> tuple[int, int]:
    """Read ``4096x11008``, N and K."""
    rows, columns = shape.split("x")
    return int(rows), int(columns)


def measure_shape(shape: tuple[int, int], arguments, copy: float | None) -> Iterator[Row]:
    """Yield the rows of a shape: float16 first, which the others are compared with."""
    names = ("float16", *PEERS, *arguments.formats)
    if copy is None:
        for what in names:
            for tokens in arguments.tokens:
                yield Row(*shape, what, tokens, note=NOT_MEASURED)
        return
    float16: dict[int, float] = {}
    for what in names:
        try:
            products, weight_bytes = make_products(what, shape, arguments)
        except Exception as error:
            for tokens in arguments.tokens:
                note = f"{NOT_MEASURED}: {type(error).__name__}: {error}"
                yield Row(*shape, what, tokens, note=note)
            continue
        for tokens in arguments.tokens:
            row = Row(*shape, what, tokens)
            try:
                row.microseconds, row.config = best_time(products, tokens, shape[1], arguments)
            except Exception as error:
                row.note = f"{NOT_MEASURED}: {type(error).__name__}: {error}"
                yield row
                continue
            row.gigabytes_per_second = weight_bytes / row.microseconds / 1e3
            row.share_of_copy = row.gigabytes_per_second / copy
            if what == "float16":
                float16[tokens] = row.microseconds
            if tokens in float16:
                row.time_of_float16 = row.microseconds / float16[tokens]
            yield row
        del products
        torch.cuda.empty_cache()


Product = Callable[[Tensor, object], Tensor]


@dataclass
class Products:
    """Equal layers, more of them than the L2 cache holds, and the configurations of their kernels.

    A product takes activations and one of ``configs(tokens)``.
    """

    products: list[Product]
    configs: Callable[[int], tuple]
    dtype: torch.dtype = torch.float16


def make_products(what: str, shape: tuple[int, int], arguments) -> tuple[Products, int]:
    """Return products and the bytes of the weights that one of them reads."""
    weights = torch.randn(shape, dtype=torch.float16, device="cuda")
    if what == "float16":
        return copies(lambda: weights.clone(), lambda w, x, _: x @ w.T, weights.nbytes)
    int4_bytes = weights.nbytes // 4 + 4 * weights.numel() // GROUP  # scale and zero of 16 bits
    if what == "gemlite int4":
        return copies(lambda: gemlite_layer(shape), lambda layer, x, _: layer(x), int4_bytes)
    if what == "torchao int4":
        made = copies(lambda: torchao_layer(weights), lambda layer, x, _: layer(x), int4_bytes)
        made[0].dtype = torch.bfloat16
        return made
    matrix = random_matrix(what, *shape, GROUP, seed=1)
    numerics = Numerics(act_width=arguments.act_width, output="float16")
    packed = PackedWeights.words(matrix)
    x = torch.randn(9, shape[1], generator=torch.Generator().manual_seed(1)).half()
    expected = matmul(x, PackedWeights.dense(matrix), numerics)
    for part in (x[:1], x):
        y = launch_matmul(part.cuda(), packed.to("cuda"), numerics).cpu()
        if not torch.equal(y.view(torch.int16), expected[: len(part)].view(torch.int16)):
            raise RuntimeError("the kernels return other bits than the exact products")

    def configs(tokens: int) -> tuple:
        if not arguments.tune:
            return (None,)
        return (None, *(DECODE_CONFIGS if tokens <= DECODE_TOKENS else PREFILL_CONFIGS))

    def product(item: PackedWeights, x: Tensor, config) -> Tensor:
        return launch_matmul(x, item, numerics, config=config)

    def make() -> PackedWeights:
        return PackedWeights(packed.spec, tuple(part.cuda().clone() for part in packed.tensors))

    products, _ = copies(make, product, packed.code_bytes)
    products.configs = configs
    return products, packed.code_bytes


def copies(make, product, weight_bytes: int) -> tuple[Products, int]:
    """Make so many layers that going through them all leaves nothing in the L2 cache."""
    cache = torch.cuda.get_device_properties("cuda").L2_cache_size
    count = max(2, -(-2 * cache // weight_bytes))
    layers = [make() for _ in range(count)]
    bound = [lambda x, config, layer=layer: product(layer, x, config) for layer in layers]
    return Products(bound, lambda tokens: (None,)), weight_bytes


def best_time(made: Products, tokens: int, columns: int, arguments) -> tuple[float, str]:
    """Return the least median time of a product in microseconds, and the configuration."""
    x = torch.randn(tokens, columns, device="cuda").to(made.dtype)
    times = [
        (graph_time([lambda p=p, c=config: p(x, c) for p in made.products]), str(config or ""))
        for config in made.configs(tokens)
    ]
    return min(times)


def graph_time(steps: list[Callable[[], object]]) -> float:
    """Return the median time of a step, replayed as one CUDA graph, in microseconds."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):  # compiles and tunes outside the graph
            for step in steps:
                step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for step in steps:
            step()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / len(steps))
    return statistics.median(times)


def copy_bandwidth() -> float:
    """Measure what a copy reads and writes, in GB/s."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / graph_time([lambda: target.copy_(source)]) / 1e3


def gemlite_layer(shape: tuple[int, int]):
    """Make a layer of gemlite with random 4-bit weights."""
    from gemlite import DType, GemLiteLinear  # type: ignore[import-not-found]

    rows, columns = shape
    layer = GemLiteLinear(
        W_nbits=4,
        group_size=GROUP,
        in_features=columns,
        out_features=rows,
        input_dtype=DType.FP16,
        output_dtype=DType.FP16,
    )
    codes = torch.randint(0, 16, shape, dtype=torch.uint8, device="cuda")
    scales = torch.rand(rows * columns // GROUP, 1, dtype=torch.float16, device="cuda")
    layer.pack(codes, scales, torch.full_like(scales, 8), None)
    return layer


def torchao_layer(weights: Tensor) -> nn.Module:
    """Make a layer of torchao with 4-bit weights."""
    from torchao.quantization import (  # type: ignore[import-not-found]
        Int4WeightOnlyConfig,
        quantize_,
    )

    linear = nn.Linear(*reversed(weights.shape), bias=False, dtype=torch.bfloat16, device="cuda")
    linear.weight = nn.Parameter(weights.to(torch.bfloat16), requires_grad=False)
    model = nn.Sequential(linear)
    config = Int4WeightOnlyConfig(group_size=GROUP, int4_packing_format="tile_packed_to_4d")
    quantize_(model, config)
    return model


def text(value) -> str:
    """Return a number to three digits, and nothing for none."""
    if value is None:
        return NOT_MEASURED
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write_csv(path: Path, rows: list[Row]) -> None:
    """Write all rows; what was not measured is an empty field with a note."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def write_plot(path: Path, rows: list[Row]) -> None:
    """Draw time against float16 over tokens, a panel for each shape, as SVG."""
    panels = []
    for shape in dict.fromkeys((row.rows, row.columns) for row in rows):
        mine = [row for row in rows if (row.rows, row.columns) == shape]
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in mine:
            if row.time_of_float16 is not None:
                lines.setdefault(row.what, []).append((row.tokens, row.time_of_float16))
        panels.append(
            Panel(
                title=f"{shape[0]} x {shape[1]}",
                x_label="tokens",
                y_label="time / float16",
                series=[
                    Series(name=what, points=points, joined=True) for what, points in lines.items()
                ],
                x_log=True,
                note=NOT_MEASURED,
            )
        )
    path.write_text(draw(panels), encoding="utf-8")


if __name__ == "__main__":
    main()
