"""Streams of a component in Amaranth's simulator."""

from collections.abc import Mapping
from typing import Any

from amaranth import Value
from amaranth.sim import Simulator

from .handshake import Sink, Source

__all__ = ["StreamTimeoutError", "simulate_streams"]


class StreamTimeoutError(Exception):
    """A component did not yield what was expected of it in the cycles allowed."""


def simulate_streams(
    dut: Any,
    *,
    sources: Mapping[str, Source],
    sinks: Mapping[str, Sink],
    expected: Mapping[str, int],
    stop: Any = None,
    watch: Mapping[str, Any] | None = None,
    max_cycles: int = 100_000,
) -> dict[str, Any]:
    """Clock a component until every sink has what is expected of it.

    Parameters
    ----------
    dut : Component
        With one stream member for each source and sink, by name.
    sources, sinks : mapping
        The other ends of its streams.
    expected : mapping
        Payloads to wait for at each sink.
    stop : value, optional
        Ends the run early once it is non-zero.
    watch : mapping, optional
        Values to return as they are at the end.
    max_cycles : int
        Give up after this many.

    Returns
    -------
    dict
        ``cycles``: cycles until the last payload was taken; and the watched values.

    Raises
    ------
    :exc:`StreamTimeoutError`
        If the cycles run out.
    :exc:`ProtocolError`
        If an output stream breaks the handshake's rules.
    """
    ends = [(getattr(dut, name), source) for name, source in sources.items()]
    drains = [(getattr(dut, name), sink) for name, sink in sinks.items()]
    result: dict[str, Any] = {}

    async def host(ctx: Any) -> None:
        for cycle in range(max_cycles):
            for port, source in ends:
                ctx.set(port.valid, source.valid)
                ctx.set(Value.cast(port.payload), source.payload)
            for port, sink in drains:
                ctx.set(port.ready, sink.ready)
            samples = [port.ready for port, _ in ends]
            for port, _ in drains:
                samples += [port.valid, Value.cast(port.payload)]
            if stop is not None:
                samples.append(Value.cast(stop))
            values = list(await ctx.tick().sample(*samples))[2:]
            for _, source in ends:
                source.observe(bool(values.pop(0)))
            for _, sink in drains:
                sink.observe(bool(values.pop(0)), int(values.pop(0)))
            stopped = stop is not None and values.pop(0)
            if stopped or all(len(sinks[n].received) >= c for n, c in expected.items()):
                result["cycles"] = cycle + 1
                for name, value in (watch or {}).items():
                    result[name] = int(ctx.get(Value.cast(value)))
                return
        got = {name: len(sink.received) for name, sink in sinks.items()}
        raise StreamTimeoutError(
            f"Only {got} of {dict(expected)} payloads came in {max_cycles} cycles"
        )

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(host)
    simulator.run()
    return result
