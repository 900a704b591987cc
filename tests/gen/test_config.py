import copy
import re
from typing import Any

import pytest

from lutra.formats import Numerics, StreamLayout
from lutra.gen import PRESETS, ConfigurationError, EngineConfig, generate, load_config
from lutra.hdl import EngineParameters, LutOptions, MacOptions, TermOptions

SECTIONS = ("stream", "numerics", "datapath", "core")
FIELDS = [
    (),
    ("name",),
    ("engine",),
    *[(section,) for section in SECTIONS],
    *[(section, key) for section in SECTIONS for key in PRESETS["tiny"].to_dict()[section]],
]
JUNK = [0, -1, 1.5, True, "x", "", [], [1], [0], [True], [[1]], ["x"], {}, {"a": 1}, 10**9, 10**30]


def changed(path, value):
    """Return the plain data of a preset with one value replaced."""
    data = copy.deepcopy(PRESETS["tiny"].to_dict())
    if not path:
        return value
    table = data
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    return data


@pytest.mark.parametrize("name", PRESETS)
def test_presets_go_through_toml(name, tmp_path):
    preset = PRESETS[name]
    assert load_config(name) is preset
    (tmp_path / "c.toml").write_text(preset.to_toml())
    assert load_config(str(tmp_path / "c.toml")) == preset
    assert EngineConfig.from_dict(preset.to_dict()) == preset
    assert preset.name == f"lutra_{name}"


def test_every_field_goes_through_toml(tmp_path):
    config = EngineConfig(
        name="_Every9",
        parameters=EngineParameters(
            layout=StreamLayout(
                lanes=6,
                width=24,
                tile_slices=3,
                formats=("int3_asym", "int3"),
                group_sizes=(24, 72),
                scale_width=5,
                output_lanes=3,
                ahead=9,
                numbering="values",
                codebook_width=6,
                codebook_terms=3,
                max_rows=77,
                max_columns=99,
            ),
            numerics=Numerics(activation="bfloat16", act_width=11, output="int"),
            core=LutOptions(mu=3, table="half", banks=1),
            tokens=2,
            multiply="dsp",
            act_lanes=12,
            slices_ahead=3,
            adder_levels=1,
            lut_inputs=4,
        ),
    )
    (tmp_path / "c.toml").write_text(config.to_toml())
    assert load_config(str(tmp_path / "c.toml")) == config
    defaults = PRESETS["tiny"].to_dict()
    for section in SECTIONS:
        for key, value in config.to_dict()[section].items():
            assert defaults[section][key] != value, f"{section}.{key} is not tried"


def test_what_may_be_left_out(tmp_path):
    text = 'name = "least"\n[stream]\nlanes = 4\nwidth = 8\ntile_slices = 1\nformats = ["int2"]\n'
    (tmp_path / "c.toml").write_text(text)
    config = load_config(str(tmp_path / "c.toml"))
    assert config.parameters.numerics == Numerics()
    assert config.parameters.core == LutOptions()


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_junk_is_refused_in_a_sentence(path):
    for value in JUNK:
        try:
            config = EngineConfig.from_dict(changed(path, value))
        except ConfigurationError as error:
            sentence = str(error)
            assert "\n" not in sentence
            assert 15 < len(sentence) < 500
            # It says where, unless it is about two settings together.
            assert path[-1:] == () or path[-1].rstrip("s").split("_")[0] in sentence.lower()
        else:
            assert config.to_dict()  # what is accepted is a configuration


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("name",), 5, "name must be a string, not 5"),
        (
            ("name",),
            "8bit",
            "name must be a Verilog identifier of at most 64 letters, digits and _, not '8bit'",
        ),
        (
            ("name",),
            "a-b",
            "name must be a Verilog identifier of at most 64 letters, digits and _, not 'a-b'",
        ),
        (
            ("name",),
            "module",
            "name must not be a keyword of Verilog, as 'module' is; add a letter to it",
        ),
        (
            ("name",),
            "logic",
            "name must not be a keyword of Verilog, as 'logic' is; add a letter to it",
        ),
        (("engine",), "tpu", "engine must be one of 'lut', 'term', 'mac', not 'tpu'"),
        (("stream",), 3, "stream must be a table, not 3"),
        (("numerics",), [], "numerics must be a table, not []"),
        (("stream", "lanes"), 1.0, "stream.lanes must be an integer, not 1.0"),
        (("stream", "lanes"), True, "stream.lanes must be an integer, not True"),
        (("stream", "lanes"), 0, "lanes must be an integer in 1..256, not 0"),
        (("stream", "width"), 20, "width must be a multiple of 8, not 20"),
        (("stream", "width"), 1024, "width must be an integer in 8..512, not 1024"),
        (
            ("stream", "formats"),
            "int4",
            "stream.formats must be a list of strings, such as [\"int4\"], not 'int4'",
        ),
        (
            ("stream", "formats"),
            [],
            "formats must name at least one format, not ()",
        ),
        (("stream", "formats"), ["int4", "int4"], "formats must name each format once, not int4, "),
        (
            ("stream", "formats"),
            ["int9"],
            "Unknown format 'int9'; known formats: int2, int2_asym, ",
        ),
        (
            ("stream", "group_sizes"),
            [-16],
            "stream.group_sizes must be a list of positive integers, such as [32, 64], not [-16]",
        ),
        (
            ("stream", "group_sizes"),
            [24],
            (
                "Group size 24 must be a multiple of width 16, so that a cycle's weights share one "
                "scale; use width 8"
            ),
        ),
        (
            ("stream", "group_sizes"),
            [48],
            (
                "Group size 48 must divide the tile's 64 columns or be a multiple of them; use "
                "tile_slices 3"
            ),
        ),
        (
            ("numerics", "activation"),
            "float64",
            "Activation type must be one of int8, float16, bfloat16, float32, not 'float64'",
        ),
        (
            ("numerics", "activation"),
            "int8",
            "act_width must be 8 for int8 activations, not 16",
        ),
        (("numerics", "act_width"), 30, "act_width must be 'exact' or in 8..24, not 30"),
        (("numerics", "act_width"), 8.0, "numerics.act_width must be an integer or a string, not "),
        (
            ("numerics", "output"),
            "int8",
            "Output type must be one of int, float16, bfloat16, float32, not 'int8'",
        ),
        (("core", "mu"), 9, "mu must be an integer in 1..8 for table 'full', not 9"),
        (("core", "table"), "quarter", "table must be 'full', 'half' or 'block', not 'quarter'"),
        (
            ("datapath", "act_lanes"),
            3,
            "act_lanes must divide the 16 weights of a lane's cycle, not 3",
        ),
        (("stream", "output_lanes"), 3, "output_lanes must divide the 4 lanes, not 3"),
        (
            ("stream", "colour"),
            1,
            "Unknown setting 'stream.colour'; known settings: stream.ahead, ",
        ),
        (("core", "colour"), 1, "Unknown setting 'core.colour'; known settings: core.banks, "),
        (
            ("core", "fold"),
            2,
            "Unknown setting 'core.fold'; known settings: core.banks, core.mu, core.table",
        ),
        (("datapath", "tokens"), 3, "tokens must be 1, 2, 4 or 8, not 3"),
        (("datapath", "slices_ahead"), 0, "slices_ahead must be in 1..16, not 0"),
        (("datapath", "multiply"), "fast", "multiply must be 'serial' or 'dsp', not 'fast'"),
        (("stream", "ahead"), 1, "ahead must be an integer in 2..1024, not 1"),
        (
            ("colour",),
            1,
            "Unknown setting 'colour'; known settings: core, datapath, engine, name, numerics, ",
        ),
    ],
)
def test_the_sentence_names_the_constraint(path, value, sentence):
    with pytest.raises(ConfigurationError, match=f"^{re.escape(sentence)}"):
        EngineConfig.from_dict(changed(path, value))


def test_an_exact_sum_that_is_too_wide():
    data: Any = changed(("stream", "max_columns"), 1 << 20)
    data["stream"] |= {"scale_width": 16, "formats": ["int8"]}
    data["numerics"]["act_width"] = "exact"
    wanted = (
        r"^The exact sum of 1048576 columns needs \d+ bits, over the limit of 63; "
        r"lower max_columns, act_width or scale_width$"
    )
    with pytest.raises(ConfigurationError, match=wanted):
        EngineConfig.from_dict(data)


@pytest.mark.parametrize(
    ("missing", "path"), [("name", ()), ("stream", ()), ("lanes", ("stream",))]
)
def test_what_is_missing_is_named(missing, path):
    data = PRESETS["tiny"].to_dict()
    del (data[path[0]] if path else data)[missing]
    setting = ".".join([*path, missing])
    with pytest.raises(ConfigurationError, match=f"^Setting '{setting}' is missing$"):
        EngineConfig.from_dict(data)


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({"stream.lanes": "8"}, {"lanes": 8}),
        ({"stream.formats": '["int2", "int3"]'}, {"formats": ("int2", "int3")}),
        ({"stream.formats": "int2,int3"}, {"formats": ("int2", "int3")}),
        ({"stream.formats": "int2"}, {"formats": ("int2",)}),
        ({"stream.formats": '"int2", int3'}, {"formats": ("int2", "int3")}),
        ({"stream.group_sizes": "32,64"}, {"group_sizes": (32, 64)}),
        ({"stream.group_sizes": "[]"}, {"group_sizes": ()}),
    ],
)
def test_settings_change_the_stream(settings, values):
    changed = PRESETS["tiny"].replace(settings)
    for name, value in values.items():
        assert getattr(changed.parameters.layout, name) == value
    assert PRESETS["tiny"].parameters.layout.lanes == 4


def test_settings_of_every_section():
    settings = {
        "name": "mine",
        "engine": "lut",
        "datapath.tokens": "4",
        "numerics.activation": "int8",
        "numerics.act_width": "8",
        "numerics.output": '"int"',
        "core.table": "half",
    }
    config = PRESETS["tiny"].replace(settings)
    assert config.name == "mine"
    assert config.parameters.numerics == Numerics(activation="int8", act_width=8, output="int")
    assert config.parameters.core == LutOptions(table="half")
    assert PRESETS["tiny"].replace({"numerics.act_width": "exact"}).parameters.numerics.is_exact
    assert PRESETS["tiny"].replace({}) == PRESETS["tiny"]
    assert config.parameters.tokens == config.interface.tokens == 4


def test_another_engine_begins_with_its_own_defaults():
    base = PRESETS["tiny"].replace({"core.mu": "3"})
    term = base.replace({"engine": "term"})
    assert term.parameters.core == TermOptions()
    assert term.parameters.layout == base.parameters.layout
    mac = term.replace({"engine": "mac", "core.product": "dsp", "core.fold": "1"})
    assert mac.parameters.core == MacOptions(fold=1, product="dsp")
    assert mac.engine == mac.to_dict()["engine"] == "mac"
    with pytest.raises(ConfigurationError, match=r"^Unknown setting 'core\.mu'; known settings: "):
        mac.replace({"core.mu": "3"})
    with pytest.raises(ConfigurationError, match=r"^fold must divide the 16 weights of a lane's s"):
        mac.replace({"core.fold": "3"})
    with pytest.raises(ConfigurationError, match=r"^product must be 'logic' or 'dsp', not 'x'$"):
        mac.replace({"core.product": "x"})
    with pytest.raises(ConfigurationError, match=r"^engine must be one of 'lut', 'term', 'mac', "):
        mac.replace({"engine": "tpu"})


@pytest.mark.parametrize(
    "path", ["", ".", "lanes", "stream", "stream.", "stream.lanes.x.y", "name.x", "Stream.lanes"]
)
def test_unknown_settings(path):
    wanted = f"^Unknown setting '{re.escape(path)}'; known settings: name, engine, stream.lanes, "
    with pytest.raises(ConfigurationError, match=wanted):
        PRESETS["tiny"].replace({path: "1"})


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("stream.lanes", "three"),
        ("stream.lanes", ""),
        ("stream.lanes", "[1]"),
        ("stream.lanes", "1.5"),
        ("stream.lanes", "true"),
        ("stream.lanes", "2020-01-01"),
        ("stream.lanes", "[" * 5000),
        ("stream.formats", "["),
        ("stream.group_sizes", ""),
        ("stream.group_sizes", "16;32"),
        ("stream.group_sizes", "row"),
        ("name", "3"),
    ],
)
def test_bad_settings(path, text):
    with pytest.raises(ConfigurationError) as caught:
        PRESETS["tiny"].replace({path: text})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"lanes = ", "is not a TOML file: Invalid value"),
        (b"\xff\xfe", "is not a TOML file: 'utf-8' codec can't decode"),
        (b"x = " + b"[" * 5000, "is not a TOML file: "),
        (b"", "Setting 'name' is missing"),
        (b"stream = 1\nname = 'a'", "stream must be a table, not 1"),
        (b"[[stream]]\nlanes = 1\n[name]\n", "name must be a string, not {}"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, content, sentence):
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    with pytest.raises(
        ConfigurationError, match=f"^{re.escape(str(path))}:? {re.escape(sentence)}"
    ):
        load_config(str(path))


@pytest.mark.parametrize("name", ["tinny", "no/such.toml", ""])
def test_names_of_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = {"": "Cannot read .: Is a directory"}.get(
        name,
        f"No preset and no file is named {name!r}; presets: tiny, small, small_ecp5, mixed, wide, "
        "ecp5, xc7",
    )
    with pytest.raises(ConfigurationError, match=f"^{re.escape(wanted)}$"):
        load_config(name)


@pytest.mark.parametrize("name", [5, None, b"x"])
def test_names_must_be_strings_in_python_too(name):
    with pytest.raises(ConfigurationError, match=r"^name must be a Verilog identifier"):
        EngineConfig(name=name, parameters=PRESETS["tiny"].parameters)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"numerics.activation": "int8", "numerics.act_width": "8", "numerics.output": "int"},
        {"numerics.act_width": "exact", "numerics.output": "int", "stream.output_lanes": "4"},
        {
            "numerics.activation": "bfloat16",
            "numerics.output": "bfloat16",
            "datapath.act_lanes": "8",
        },
    ],
)
def test_drivers_know_the_widths_of_the_ports(mini, settings):
    config = mini.replace(settings)
    widths = {port.name: port.width for port in generate(config).ports}
    interface = config.interface
    assert widths["i_x__payload"] == interface.x_width + 1  # and `last`
    assert widths["i_w__payload"] == interface.beat_width + 1
    assert widths["o__payload"] == interface.o_width + 1
