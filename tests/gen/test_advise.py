import json

import pytest


def test_all_layouts_of_a_width(lutra):
    done = lutra("advise", "--parameters", "1B", "--tokens", "1T", "--bits", 4, "--json")
    found = json.loads(done.out)
    assert [row["layout"] for row in found["layouts"]] == ["E2M1", "E1M2", "E3M0"]
    assert found["layouts"][0]["format"] == "float4_e2m1"
    assert found["layouts"][0]["critical_tokens"] == pytest.approx(0.393e12, rel=1e-3)
    assert all(row["beyond_critical"] for row in found["layouts"])
    for row in found["layouts"]:
        assert row["loss"] == pytest.approx(found["float_loss"] + row["cost"])
    assert found["block"] == 128


def test_the_best_of_each_width(lutra):
    found = json.loads(lutra("advise", "--parameters", "300M", "--tokens", "6e9", "--json").out)
    layouts = {row["bits"]: row["layout"] for row in found["layouts"]}
    assert layouts == {
        3: "E1M1",
        4: "E2M1",
        5: "E2M2",
        6: "E3M2",
        7: "E3M3",
        8: "E4M3",
        16: "E8M7",
    }


def test_the_limits_are_printed(lutra):
    inside = lutra("advise", "--parameters", "300M", "--tokens", "10B").out
    assert "quantised after training" in inside
    assert "without exponent bits" in inside
    assert "41 to 679 million" in inside
    assert "outside" not in inside
    assert "beyond" not in inside
    assert "7B parameters are beyond" in lutra("advise", "--parameters", "7B", "--tokens", 1e9).out
    assert "1M parameters are outside" in lutra("advise", "--parameters", "1M", "--tokens", 9).out


def test_a_scale_for_each_channel(lutra):
    arguments = ["advise", "--parameters", "1B", "--tokens", "1T", "--json", "--block"]
    channel, blocks = (json.loads(lutra(*arguments, block).out) for block in ("channel", "128"))
    ratio = channel["layouts"][0]["cost"] / blocks["layouts"][0]["cost"]
    assert ratio == pytest.approx(13.1567 / 7)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--parameters", "7X", "'7X' must be a number such as 7e9, 7B, 300M or 2T"),
        ("--tokens", "0", "'0' must be a number such as"),
        ("--tokens", "nan", "'nan' must be a number such as"),
        ("--block", "1", "'1' must be weights, at least 2, or 'channel'"),
        ("--bits", "2", "2 is not in the range 3<=x<=16"),
    ],
)
def test_bad_numbers(refused, option, value, sentence):
    given = {"--parameters": "1B", "--tokens": "1T"} | {option: value}
    assert sentence in refused("advise", *(word for pair in given.items() for word in pair))
