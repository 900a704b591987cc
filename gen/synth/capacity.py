"""Whether a design fits into a device, and what to change if it does not."""

from .cells import Cells
from .targets import Target

__all__ = ["TooLargeError", "check_capacity"]

_PARTS = {"luts": "LUTs", "ffs": "flip-flops", "brams": "block RAMs", "dsps": "DSP blocks"}


class TooLargeError(ValueError):
    """A design that is too large for its device."""


def check_capacity(cells: Cells, target: Target, *, lower: str = "") -> None:
    """Refuse a design that needs more than there is.

    Parameters
    ----------
    cells : Cells
        What the design occupies.
    target : Target
        The device.
    lower : str
        What to change, to end the sentence with.

    Raises
    ------
    :exc:`TooLargeError`
        If there is too little of something; of what there is least.
    """
    shortages = {
        part: getattr(cells, part) / max(1, getattr(target, part))
        for part in _PARTS
        if getattr(cells, part) > getattr(target, part)
    }
    if not shortages:
        return
    part = max(shortages, key=lambda name: shortages[name])
    needed, there = getattr(cells, part), getattr(target, part)
    sentence = (
        f"The design is too large for {target.name}: it needs {needed:,} {_PARTS[part]} "
        f"where there are {there:,}, {needed - there:,} too many"
    )
    raise TooLargeError(f"{sentence}; {lower}" if lower else sentence)
