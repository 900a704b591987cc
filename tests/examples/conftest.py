"""Make the modules of the examples, which are not installed, importable."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"

sys.path.insert(0, str(EXAMPLES / "tinylm"))
