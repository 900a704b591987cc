"""A component that stands for a module defined elsewhere."""

from amaranth import ClockSignal, Instance, ResetSignal
from amaranth.lib import wiring

__all__ = ["Blackbox"]


class Blackbox(wiring.Component):
    """Instance of a module that another conversion has defined, with a component's ports.

    Converting one lane once and referring to it by name is what keeps the generation of large
    arrays fast, and gives one module definition for all lanes.

    Parameters
    ----------
    signature : :class:`wiring.Signature`
        Signature of the component that the module was converted from.
    module : :class:`str`
        The module's name.
    """

    def __init__(self, signature: wiring.Signature, *, module: str) -> None:
        self._module = module
        super().__init__(signature)

    def elaborate(self, platform: object) -> Instance:
        ports = {}
        for path, member, value in self.signature.flatten(self):
            direction = "o" if member.flow == wiring.Out else "i"
            ports[f"{direction}_{'__'.join(map(str, path))}"] = value
        return Instance(self._module, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)
