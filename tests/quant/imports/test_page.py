"""The tables of docs/checkpoints.md against the importers and exporters."""

import re
from pathlib import Path

from lutra.quant.exports import EXPORTERS
from lutra.quant.imports import IMPORTERS

PAGE = Path(__file__).parents[3] / "docs" / "checkpoints.md"


def first_column(heading):
    """Return the names in the first column of the table below a heading."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    table = re.search(r"^\| `--(?:from|to)`.*\n(?:\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    return re.findall(r"^\| `([a-z][a-z-]*)` \|", table[0], re.MULTILINE)


def test_every_importer_is_in_the_table():
    assert first_column("## Formats") == list(IMPORTERS)


def test_every_exporter_is_in_the_table():
    assert first_column("## Export") == list(EXPORTERS)
