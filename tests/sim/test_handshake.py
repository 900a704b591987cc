import pytest

from lutra.sim import ProtocolError, Sink, Source, StallPattern


def pass_through(source, sink, *, cycles, ready=None):
    """Connect a source to a sink for some cycles, as a wire would."""
    for cycle in range(cycles):
        taken = sink.ready if ready is None else ready(cycle)
        valid, payload = source.valid, source.payload
        sink.ready = taken
        source.observe(taken)
        sink.observe(valid, payload)


def test_everything_arrives_in_order_without_stalls():
    source, sink = Source([3, 1, 4, 1, 5]), Sink()
    pass_through(source, sink, cycles=5)
    assert sink.received == [3, 1, 4, 1, 5]
    assert source.sent == 5
    assert source.finished
    assert not source.valid


@pytest.mark.parametrize("chance_in", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("chance_out", [0.0, 0.5, 0.9])
def test_stalls_lose_nothing(chance_in, chance_out):
    source = Source(range(100), StallPattern(chance_in, 1))
    sink = Sink(StallPattern(chance_out, 2))
    pass_through(source, sink, cycles=20_000)
    assert sink.received == list(range(100))


def test_an_offer_holds_until_it_is_taken():
    source = Source([7, 8], StallPattern(0.5, 3))
    while not source.valid:
        source.observe(False)
    for _ in range(20):
        source.observe(False)
        assert source.valid
        assert source.payload == 7
    source.observe(True)
    assert source.sent == 1


def test_a_stalled_source_offers_nothing():
    source = Source(range(1000), StallPattern(0.5, 3))
    offered = []
    for _ in range(1000):
        offered.append(source.valid)
        source.observe(True)
    assert 400 < sum(offered) < 600


def test_payloads_are_taken_from_the_iterable_as_they_are_sent():
    asked = []

    def payloads():
        for payload in range(10):
            asked.append(payload)
            yield payload

    source = Source(payloads())
    source.observe(True)
    assert asked == [0, 1]


def test_a_zero_payload_is_a_payload():
    source, sink = Source([0, 0]), Sink()
    pass_through(source, sink, cycles=3)
    assert sink.received == [0, 0]


def test_nothing_to_send():
    source = Source([])
    assert source.finished
    assert not source.valid


def test_patterns_repeat_with_their_seed():
    def draw(seed):
        pattern = StallPattern(0.3, seed)
        return [pattern.stalled() for _ in range(1000)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert 250 < sum(draw(1)) < 350
    assert not any(StallPattern().stalled() for _ in range(10))


@pytest.mark.parametrize("chance", [-0.1, 1, 1.5])
def test_chances_are_checked(chance):
    with pytest.raises(ValueError, match=rf"^Stall probability must be in 0\.\.1.*, not {chance}$"):
        StallPattern(chance)


def stalled_sink():
    sink = Sink(name="out")
    sink.ready = False
    return sink


def test_dropped_valid_is_caught():
    sink = stalled_sink()
    sink.observe(True, 5)
    with pytest.raises(ProtocolError, match=r"^Stream out dropped valid before the transfer$"):
        sink.observe(False, 5)


def test_changed_payload_is_caught():
    sink = stalled_sink()
    sink.observe(True, 5)
    with pytest.raises(ProtocolError, match=r"^Stream out changed its payload from 0x5 to 0x6 "):
        sink.observe(True, 6)


def test_after_a_transfer_everything_may_change():
    sink = Sink()
    sink.observe(True, 5)
    sink.observe(True, 6)
    sink.observe(False, 0)
    assert sink.received == [5, 6]
