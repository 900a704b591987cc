"""Write the table of ``docs/quantisers.md`` anew, from the registry: run this file."""

from pathlib import Path

from lutra.quant import METHODS, Method

__all__ = ["main", "table"]

PAGE = Path(__file__).with_suffix(".md")
BEGIN, END = "<!-- methods -->\n", "<!-- end -->\n"


def table() -> str:
    """Return the methods and their options in Markdown."""
    lines = []
    for method in METHODS.values():
        lines += [f"### `{method.name}`", "", f"{_sentence(method)}", ""]
        if method.options:
            lines += ["| option | default | values | |", "|---|---|---|---|"]
            lines += [
                f"| `{item.name}` | `{_value(item.default)}` | {item.wanted} | {item.summary} |"
                for item in method.options
            ]
            lines.append("")
    return "\n".join(lines)


def _sentence(method: Method) -> str:
    if method.calibrated:
        calibrated = "Needs calibration data."
    elif any(item.name == "weighting" for item in method.options):
        calibrated = "Uses calibration data if its weighting says so."
    else:
        calibrated = "Uses no calibration data."
    return f"{method.summary[0].upper()}{method.summary[1:]}. {calibrated}"


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def main() -> None:
    """Replace the part between the marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
