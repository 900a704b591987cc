"""docs/conformance.md is made of docs/conformance.csv, and that of the registries as they are."""

import importlib.util
from pathlib import Path

import pytest

from lutra.formats import CATALOG, family
from lutra.quant import METHODS

SCRIPT = Path(__file__).parents[2] / "docs" / "conformance.py"


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("conformance_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_generated(pages):
    """Run ``python docs/conformance.py`` after a change of it or of the table."""
    assert pages.PAGE.read_text(encoding="utf-8") == pages.page(pages.read_cells())


def test_every_pair_was_compared_on_every_engine(pages):
    """Run ``python docs/conformance.py --run`` after a change of a registry."""
    compared = {(cell.format, cell.method, cell.engine) for cell in pages.read_cells()}
    wanted = {
        (name, method.name, engine)
        for name in CATALOG
        for method in METHODS.values()
        if method.serves(family(name))
        for engine in ("lut", "term", "mac", "torch")
    }
    assert compared == wanted


def test_nothing_differs_and_refusals_have_reasons(pages):
    for cell in pages.read_cells():
        assert not cell.differing, cell
        assert bool(cell.outputs) != bool(cell.note), cell
