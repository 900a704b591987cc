import re
from pathlib import Path

import pytest

from lutra.gen.synth import TARGETS, Cells, TooLargeError, check_capacity, count_cells, find_target


@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_found_by_name(name):
    target = find_target(name)
    assert target.name == name
    assert target.places == bool(target.nextpnr) == (len(target.programs) == 2)
    assert count_cells({}, target.family) == Cells()


def test_an_unknown_target():
    with pytest.raises(ValueError, match=r"^There is no target 'ecp6'; targets: ecp5-25k, .*xcup$"):
        find_target("ecp6")


def test_what_fits_is_not_refused():
    target = TARGETS["ecp5-25k"]
    check_capacity(
        Cells(luts=target.luts, ffs=target.ffs, brams=target.brams, dsps=target.dsps), target
    )


@pytest.mark.parametrize(
    ("part", "words"),
    [("luts", "LUTs"), ("ffs", "flip-flops"), ("brams", "block RAMs"), ("dsps", "DSP blocks")],
)
def test_one_too_many(part, words):
    target = TARGETS["ice40-hx8k"]
    there = getattr(target, part)
    with pytest.raises(TooLargeError) as caught:
        check_capacity(Cells(**{part: there + 1}), target)
    assert str(caught.value) == (
        f"The design is too large for ice40-hx8k: it needs {there + 1:,} {words}, "
        f"1 more than the {there:,} that there are"
    )
    assert caught.value.part == part


def test_the_greatest_excess_is_named():
    target = TARGETS["ice40-hx8k"]
    with pytest.raises(TooLargeError, match="it needs 64 block RAMs, 32 more than the 32"):
        check_capacity(Cells(luts=target.luts + 1000, brams=2 * target.brams), target)


def test_the_page_lists_them():
    page = (Path(__file__).parents[3] / "docs" / "synthesis.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+)` \| (\S+) \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|", page, re.M)
    assert rows == [
        (name, t.device, f"{t.luts:,}", f"{t.ffs:,}", f"{t.brams:,}", f"{t.dsps:,}")
        for name, t in TARGETS.items()
    ]
