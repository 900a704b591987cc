"""An IP-XACT description of a generated engine, as Vivado's IP catalogue reads it."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

from .verilog import Port

__all__ = ["ip_xact"]

_SPIRIT = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
_XILINX = "http://www.xilinx.com"
_VIEWS = {  # name: title, and what Vivado does with it
    "xilinx_anylanguagesynthesis": ("Synthesis", "synthesis"),
    "xilinx_anylanguagebehavioralsimulation": ("Simulation", "simulation"),
}
_FAMILIES = (
    *("artix7", "kintex7", "spartan7", "virtex7", "zynq"),
    *("artixuplus", "kintexu", "kintexuplus", "virtexu", "virtexuplus", "zynquplus"),
)
_STREAM_PARTS = ("TDATA", "TLAST", "TVALID", "TREADY")


def ip_xact(
    top: str,
    ports: Sequence[Port],
    *,
    streams: Sequence[str],
    optional: Mapping[str, int],
    files: Sequence[str],
    identity: Mapping[str, str],
    title: str,
    description: str,
    revision: int,
) -> str:
    """Describe a module with AXI4-Stream ports in IP-XACT (IEEE 1685-2009, Vivado's extensions).

    Parameters
    ----------
    top : str
        The module.
    ports : sequence of Port
        All of its ports: ``aclk``, ``aresetn``, four for each stream, and others.
    streams : sequence of str
        What the ports of each stream begin with; those that begin with ``m`` are masters.
    optional : mapping of str to int
        Inputs that may stay unconnected, and what they are then.
    files : sequence of str
        Names of its Verilog files, which lie beside the description.
    identity : mapping of str to str
        ``vendor``, ``library``, ``name`` and ``version``.
    title, description : str
        What the catalogue shows.
    revision : int
        Another for other contents; Vivado offers an upgrade where it is not what a project has.

    Returns
    -------
    str
        Text of ``component.xml``.
    """
    ET.register_namespace("spirit", _SPIRIT)
    ET.register_namespace("xilinx", _XILINX)
    root = ET.Element(_name("component"))
    for key in ("vendor", "library", "name", "version"):
        _add(root, key, identity[key])
    _add_interfaces(_add(root, "busInterfaces"), streams)
    model = _add(root, "model")
    _add_views(_add(model, "views"), top)
    _add_ports(_add(model, "ports"), ports, optional)
    _add_file_sets(_add(root, "fileSets"), files)
    _add(root, "description", description)
    parameter = _add(_add(root, "parameters"), "parameter")
    _add(parameter, "name", "Component_Name")
    _add(
        parameter,
        "value",
        f"{top}_v{identity['version'].replace('.', '_')}",
        resolve="user",
        id="PARAM_VALUE.Component_Name",
        order="1",
    )
    _add_extensions(_add(root, "vendorExtensions"), title, revision)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _name(tag: str) -> str:
    return f"{{{_SPIRIT}}}{tag}"


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, _name(tag), {_name(k): v for k, v in attributes.items()})
    element.text = text
    return element


def _add_interfaces(parent: ET.Element, streams: Sequence[str]) -> None:
    for stream in streams:
        parts = {part: f"{stream}_{part.lower()}" for part in _STREAM_PARTS}
        role = "master" if stream.startswith("m") else "slave"
        _add_interface(parent, stream, "interface", "axis", role, parts, {})
    _add_interface(
        parent,
        "aresetn",
        "signal",
        "reset",
        "slave",
        {"RST": "aresetn"},
        {"POLARITY": "ACTIVE_LOW"},
    )
    associated = {"ASSOCIATED_BUSIF": ":".join(streams), "ASSOCIATED_RESET": "aresetn"}
    _add_interface(parent, "aclk", "signal", "clock", "slave", {"CLK": "aclk"}, associated)


def _add_interface(
    parent: ET.Element,
    name: str,
    library: str,
    kind: str,
    role: str,
    port_map: Mapping[str, str],
    parameters: Mapping[str, str],
) -> None:
    interface = _add(parent, "busInterface")
    _add(interface, "name", name)
    for tag, suffix in (("busType", ""), ("abstractionType", "_rtl")):
        _add(
            interface, tag, vendor="xilinx.com", library=library, name=kind + suffix, version="1.0"
        )
    _add(interface, role)
    port_maps = _add(interface, "portMaps")
    for logical, physical in port_map.items():
        item = _add(port_maps, "portMap")
        _add(_add(item, "logicalPort"), "name", logical)
        _add(_add(item, "physicalPort"), "name", physical)
    if parameters:
        place = _add(interface, "parameters")
        for key, value in parameters.items():
            parameter = _add(place, "parameter")
            _add(parameter, "name", key)
            _add(parameter, "value", value, id=f"BUSIFPARAM_VALUE.{name.upper()}.{key}")


def _add_views(parent: ET.Element, top: str) -> None:
    for name, (title, purpose) in _VIEWS.items():
        view = _add(parent, "view")
        _add(view, "name", name)
        _add(view, "displayName", title)
        _add(view, "envIdentifier", f":vivado.xilinx.com:{purpose}")
        _add(view, "language", "Verilog")
        _add(view, "modelName", top)
        _add(_add(view, "fileSetRef"), "localName", f"{name}_view_fileset")


def _add_ports(parent: ET.Element, ports: Sequence[Port], optional: Mapping[str, int]) -> None:
    for port in ports:
        element = _add(parent, "port")
        _add(element, "name", port.name)
        wire = _add(element, "wire")
        _add(wire, "direction", port.direction.removesuffix("put"))
        if port.width > 1:
            vector = _add(wire, "vector")
            _add(vector, "left", str(port.width - 1), format="long")
            _add(vector, "right", "0", format="long")
        kind = _add(_add(wire, "wireTypeDefs"), "wireTypeDef")
        _add(kind, "typeName", "wire")
        for view in _VIEWS:
            _add(kind, "viewNameRef", view)
        if port.name in optional:
            value = str(optional[port.name])
            _add(_add(wire, "driver"), "defaultValue", value, format="long")


def _add_file_sets(parent: ET.Element, files: Sequence[str]) -> None:
    for view in _VIEWS:
        file_set = _add(parent, "fileSet")
        _add(file_set, "name", f"{view}_view_fileset")
        for name in files:
            file = _add(file_set, "file")
            _add(file, "name", name)
            _add(file, "fileType", "verilogSource")


def _add_extensions(parent: ET.Element, title: str, revision: int) -> None:
    def add(parent: ET.Element, tag: str, text: str | None = None) -> ET.Element:
        element = ET.SubElement(parent, f"{{{_XILINX}}}{tag}")
        element.text = text
        return element

    core = add(parent, "coreExtensions")
    families = add(core, "supportedFamilies")
    for family in _FAMILIES:
        add(families, "family", family).set(f"{{{_XILINX}}}lifeCycle", "Production")
    add(add(core, "taxonomies"), "taxonomy", "/UserIP")
    add(core, "displayName", title)
    add(core, "coreRevision", str(revision))
