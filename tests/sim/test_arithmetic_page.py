"""The examples of docs/arithmetic.md."""

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "arithmetic.md"


def test_examples_of_the_page():
    # Blank lines for the fences, which would otherwise be taken for expected output.
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    text = "\n".join("" if line.startswith("```") else line for line in lines)
    examples = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(examples.examples) > 20
    report = []
    doctest.DocTestRunner(verbose=False).run(examples, out=report.append)
    assert not report, "".join(report)
