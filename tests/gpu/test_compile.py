"""Every launch of the kernels compiled for real GPUs, which needs none."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lutra.formats import CATALOG, Numerics
from lutra.gpu import PackedWeights, launch, self_test
from lutra.gpu.configs import PREFILL_CONFIGS, DecodeConfig
from lutra.gpu.kernel_decode import decode_kernel
from lutra.sim import random_matrix

TYPES = {
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.int16: "*i16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.float32: "*fp32",
}


@pytest.fixture
def launches(monkeypatch, tmp_path):
    """Record launches instead of making them, as if for PTX."""
    found = []

    def record(kernel, grid, *arguments, **constants):
        found.append(SimpleNamespace(kernel=kernel, arguments=arguments, constants=constants))

    monkeypatch.setattr(launch, "_run", record)
    monkeypatch.setattr(launch, "_is_portable", lambda: False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    return found


def compile_for(capability, item):
    """Compile a launch as Triton would when it comes, and return PTX, metadata and machine code."""
    names = item.kernel.arg_names
    options = {name: item.constants[name] for name in ("num_warps", "num_stages")
               if name in item.constants}  # fmt: skip
    constants = {name: value for name, value in item.constants.items() if name not in options}
    signature, attributes = {}, {}
    for place, (name, value) in enumerate(zip(names, item.arguments, strict=False)):
        is_tensor = isinstance(value, torch.Tensor)
        signature[name] = TYPES[value.dtype] if is_tensor else "i32"
        if is_tensor or value % 16 == 0:
            attributes[place,] = [["tt.divisibility", 16]]
    signature |= dict.fromkeys(names[len(item.arguments) :], "constexpr")
    source = ASTSource(fn=item.kernel, signature=signature, constexprs=constants, attrs=attributes)
    done = triton.compile(
        source,
        target=GPUTarget("cuda", capability, 32),
        options={"enable_fp_fusion": False, **options},
    )
    return done.asm["ptx"], done.metadata, done.asm["cubin"]


def resources(cubin, folder):
    """Return what a kernel takes of a multiprocessor, such as registers, by NVIDIA's tool."""
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    done = subprocess.run(
        [tool, "--dump-resource-usage", path], capture_output=True, text=True, check=True
    )
    return {name: int(size) for name, size in re.findall(r"(\w+):(\d+)", done.stdout)}


def layer(*names, group_size=128, scale_width=8):
    formats = [item for name in names for item in CATALOG[name].members]
    matrix = random_matrix(formats, 256, 512, group_size, seed=1, scale_width=scale_width)
    return PackedWeights.words(matrix)


def tokens(count, numerics):
    dtype = getattr(torch, numerics.activation)
    return torch.zeros(count, 512, dtype=dtype)


def kernels(launches):
    return [item.kernel.__name__ for item in launches]


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("names", "tables"),
    [(("bitmod4",), 3), (("int4",), 0), (("bitmod3",), 1), (("bcq2_asym",), 0)],
)
def test_decode(names, tables, capability, launches, tmp_path):
    numerics = Numerics(act_width=15)
    launch.launch_matmul(tokens(1, numerics), layer(*names), numerics)
    assert kernels(launches) == ["align_kernel", "decode_kernel", "output_kernel"]
    ptx, metadata, cubin = compile_for(capability, launches[1])
    assert len(re.findall(r"dp4a\.s32\.s32", ptx)) >= 64  # quads of a segment, times the digits
    # None for the quads of a segment, one or three for each of them and each row of a thread.
    constants = launches[1].constants
    thread_rows = constants["ROWS"] // (32 * constants["num_warps"])
    assert len(re.findall(r"prmt\.b32", ptx)) // 32 == tables * thread_rows
    assert metadata.shared <= 2048  # scales at the end of a group, and no weights
    used = resources(cubin, tmp_path)
    assert used["REG"] > 16
    assert used["STACK"] == used["LOCAL"] == 0  # no spilled registers
    assert "red." in ptx or "atom." in ptx


# Bytes: what ptxas gives up by itself, so that more warps fit a multiprocessor. A kernel that has
# too few registers spills hundreds.
SOME = ["int2", "int3", "int4", "int5", "int6", "int7", "int8", "ternary", "bitmod3", "bitmod4"]
SOME += ["bcq1", "bcq2", "bcq3", "bcq4", "float4_e2m1", "nf4"]  # of every bucket a few
SMALL_STACK = 64
FAMILIES = {
    "value": [("int4",), ("int4_asym",), ("int8",), ("int3",)],
    "table": [("bitmod4",), ("bitmod3",)],
    "bcq": [("bcq1",), ("bcq3",), ("bcq4_asym",)],
    "mixture": [("int2", "int5", "bitmod4", "bcq3_asym")],
}


def check_registers(capability, packed, launches, folder, cases):
    """Compile decode kernels as they are launched by default, and look for spilled registers."""
    for count, act_width in cases:
        numerics = Numerics(act_width=act_width)
        launch.launch_matmul(tokens(count, numerics), packed, numerics)
    distinct = {str(item.constants): item for item in launches if item.kernel is decode_kernel}
    for item in distinct.values():
        *_, cubin = compile_for(capability, item)
        used = resources(cubin, folder)
        assert used["STACK"] <= SMALL_STACK, item.constants
        assert used["LOCAL"] == 0
    return {item.constants["COLUMNS"] for item in distinct.values()}


@pytest.mark.parametrize("names", [("bitmod4",), ("bcq3",)], ids=str)
def test_decode_has_the_registers(names, launches, tmp_path):
    assert check_registers(90, layer(*names), launches, tmp_path, [(2, 16)]) == {8}


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90, 120])
@pytest.mark.parametrize("group_size", [16, 128])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_decode_has_the_registers(family, group_size, capability, launches, tmp_path):
    cases = [(count, width) for count in range(1, 9) for width in (8, 15, 16, 24, "exact")]
    for names in FAMILIES[family]:
        packed = layer(*names, group_size=group_size)
        columns = check_registers(capability, packed, launches, tmp_path, cases)
        assert columns == {1, 2, 4, 8, 16, 32, 64}
        launches.clear()


def test_too_large_a_tile_is_found(launches, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "default_decode", lambda *_: DecodeConfig(256, 2, 4))
    with pytest.raises(AssertionError, match=r"assert \d+ <= 64"):
        check_registers(90, layer("int4"), launches, tmp_path, [(2, 16)])


@pytest.mark.parametrize(
    ("numerics", "output"),
    [
        (Numerics(act_width="exact"), "float16"),
        (Numerics(activation="bfloat16"), "bfloat16"),
        (Numerics(activation="float32", act_width=24), "float32"),
        (Numerics(activation="int8", act_width=8), "int"),
    ],
)
def test_aligner_and_output(numerics, output, launches):
    packed = layer("int4")
    if output == "int":
        launch.launch_sums(tokens(1, numerics), packed, numerics)
    else:
        numerics = Numerics(
            activation=numerics.activation, act_width=numerics.act_width, output=output
        )
        launch.launch_matmul(tokens(1, numerics), packed, numerics)
    align, _, convert = launches
    for capability in (80, 90):
        compile_for(capability, align)
        ptx, *_ = compile_for(capability, convert)
        assert ("cvt.rn.f32.s64" in ptx) == (output != "int")
        assert "fma" not in ptx
        assert ".ftz" not in ptx


@pytest.mark.parametrize(("capability", "instruction"), [(80, "mma.sync"), (90, "wgmma")])
def test_prefill_uses_integer_tensor_cores(capability, instruction, launches):
    numerics = Numerics(act_width=15)
    launch.launch_matmul(tokens(64, numerics), layer("bitmod4"), numerics)
    assert kernels(launches) == [
        "align_kernel",
        "values_kernel",
        "prefill_kernel",
        "output_kernel",
    ]
    compile_for(capability, launches[1])
    ptx, *_ = compile_for(capability, launches[2])
    assert re.search(rf"{instruction}.*s32\.s8\.s8", ptx)
    assert "cp.async" in ptx  # loads overlap
    assert not re.search(r"fma\.rn\.f|mma.*\.f16|mma.*\.f32", ptx)


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "shared_kib"), [(80, 163), (90, 227), (120, 99)])
def test_everything_compiles(capability, shared_kib, launches):
    numerics = Numerics()
    packed = [layer(name) for name in SOME]
    packed += [layer("int2", "int5", "bitmod4", "bcq3"), layer("bitmod4", group_size=16)]
    packed.append(layer("int4", scale_width=16))
    for item in packed:
        for count in (1, 9, 64):
            launch.launch_matmul(tokens(count, numerics), item, numerics)
    by_default = len(launches)
    for config in (*PREFILL_CONFIGS, DecodeConfig(512, 4, 8)):
        launch.launch_matmul(tokens(8, numerics), layer("int4"), numerics, config=config)
    distinct = {}
    for place, item in enumerate(launches):
        distinct.setdefault((item.kernel.__name__, str(item.constants)), (place, item))
    for place, item in distinct.values():
        _, metadata, _ = compile_for(capability, item)
        # A candidate for tuning may be too large for a small GPU, what is taken by default not.
        if place < by_default or shared_kib > 100:
            assert metadata.shared <= shared_kib * 1024
    assert len({item.kernel for item in launches}) == 5


def variants(launches):
    """Return which kernels were launched, but for how many programs share a row."""
    names = ("decode_kernel", "values_kernel", "prefill_kernel")
    found = {
        (item.kernel.__name__, str(item.constants | {"SPLIT": 0}))
        for item in launches
        if item.kernel.__name__ in names
    }
    launches.clear()
    return found


@pytest.mark.parametrize(
    ("names", "columns", "group_size"),
    [
        (("int4",), 512, 128),
        (("bitmod4",), 96, 16),
        (("bcq3_asym",), 5, 128),
        (("int2", "bitmod4", "bcq3"), 300, 64),
        (("int8",), 4096, 2048),
    ],
)
def test_the_self_test_runs_what_a_layer_runs(names, columns, group_size, launches):
    formats = [item for name in names for item in CATALOG[name].members]
    matrix = random_matrix(formats, 70, columns, group_size, seed=1)
    packed = PackedWeights.words(matrix)
    for count in range(1, 34):
        for width in (8, 15, 16, 24):
            numerics = Numerics(act_width=width)
            x = torch.zeros(count, columns, dtype=torch.float16)
            launch.launch_matmul(x, packed, numerics)
    expected = variants(launches)
    run = self_test._as_layer(matrix, launch.launch_matmul)
    small, *_ = self_test.adversarial_layers(matrix).values()
    for numerics, counts in self_test._CASES:
        for count in counts:
            x = torch.zeros(count, small.columns, dtype=getattr(torch, numerics.activation))
            run(x, PackedWeights.words(small), numerics)
    seen = variants(launches)
    if group_size > 1024:  # longer groups are more segments, and more steps, of the same
        assert len(seen) >= len(expected)
    else:
        assert expected <= seen
