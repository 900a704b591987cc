# amaranth: UnusedElaboratable=no
"""Codes and bits that hosts know: they are part of the interface and do not change."""

from lutra.hdl import Error, Status


def test_error_codes():
    assert {error.name: error.value for error in Error} == {
        "NONE": 0,
        "VERSION": 1,
        "FORMAT": 2,
        "SIZE": 3,
        "LENGTH": 4,
        "CRC": 5,
        "NONFINITE": 6,
    }


def test_status_word():
    status = Status()
    assert status.size == 5
    assert {name: (field.offset, field.width) for name, field in status} == {
        "error": (0, 3),
        "nonfinite": (3, 1),
        "busy": (4, 1),
    }
