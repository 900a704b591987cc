// Streams in, streams out: clocks a Verilated engine without a scripting language in the loop.
// Payloads are bytes, lowest bits first, `stride` bytes each. Compiled once for each engine.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "Vengine.h"
#include "verilated.h"

// Verilator writes the two underscores of a port's name as an underscore and a code.
#define PORT(stream, part) stream##___05F##part

namespace {

// Verilator's ports are plain integers up to 64 bits and arrays of 32-bit words above.
template <typename Port>
void put(Port& port, const uint8_t* bytes, size_t count) {
    Port value = 0;
    std::memcpy(&value, bytes, std::min(count, sizeof value));
    port = value;
}
template <size_t Words>
void put(VlWide<Words>& port, const uint8_t* bytes, size_t count) {
    const size_t copied = std::min(count, Words * 4);
    std::memcpy(port.data(), bytes, copied);
    std::memset(reinterpret_cast<uint8_t*>(port.data()) + copied, 0, Words * 4 - copied);
}
template <typename Port>
void get(const Port& port, uint8_t* bytes, size_t count) {
    std::memcpy(bytes, &port, std::min(count, sizeof port));
}
template <size_t Words>
void get(const VlWide<Words>& port, uint8_t* bytes, size_t count) {
    std::memcpy(bytes, port.data(), std::min(count, Words * 4));
}

// Vigna's xorshift64; the seed is spread over the state, or small seeds would start alike.
struct Stalls {
    uint64_t state;
    uint32_t threshold;  // of 2^32
    Stalls(uint64_t seed, uint32_t threshold)
        : state((seed * 2 + 1) * 0x9E3779B97F4A7C15u), threshold(threshold) {}
    bool next() {
        if (threshold == 0) return false;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return uint32_t(state >> 32) < threshold;
    }
};

struct Source {
    const uint8_t* bytes;
    uint64_t count, repeats, stride;
    Stalls stalls;
    uint64_t position = 0;
    bool offered = false;
    const uint8_t* at() const { return bytes + position % count * stride; }
    bool offer() {
        if (position == count * repeats) return false;
        if (!offered) offered = !stalls.next();
        return offered;
    }
    void taken() {
        ++position;
        offered = false;
    }
};

}  // namespace

extern "C" {

struct Input {
    const uint8_t* bytes;
    uint64_t count, repeats, stride;
};

struct Output {
    uint8_t* bytes;
    uint64_t expected, stride;
};

struct Options {
    uint64_t seed;
    uint32_t stall_x, stall_w, stall_o;  // chance of 2^32
    uint32_t reset;                      // start from reset instead of from where the last run ended
    uint64_t max_cycles;
};

struct Result {
    uint64_t cycles, outputs, taken_x, taken_w;
    uint32_t status, broken_handshakes;
};

void* lutra_create() {
    auto* context = new VerilatedContext;
    return new Vengine{context};
}

void lutra_destroy(void* handle) {
    auto* engine = static_cast<Vengine*>(handle);
    auto* context = engine->contextp();
    engine->final();
    delete engine;
    delete context;
}

static void tick(Vengine& engine) {
    engine.clk = 1;
    engine.eval();
    engine.clk = 0;
    engine.eval();
}

void lutra_run(void* handle, const Input* x, const Input* w, const Output* o,
               const Options* options, Result* result) {
    auto& engine = *static_cast<Vengine*>(handle);
    Source source_x{x->bytes, x->count, x->repeats, x->stride,
                    {options->seed * 3, options->stall_x}};
    Source source_w{w->bytes, w->count, w->repeats, w->stride,
                    {options->seed * 3 + 1, options->stall_w}};
    Stalls stalls_o{options->seed * 3 + 2, options->stall_o};
    std::vector<uint8_t> shown(o->stride), held(o->stride);
    bool holding = false;

    *result = Result{};
    engine.clear = 0;
    engine.PORT(i_x, valid) = engine.PORT(i_w, valid) = engine.PORT(o, ready) = 0;
    if (options->reset) {
        engine.rst = 1;
        engine.clk = 0;
        engine.eval();
        tick(engine);
        engine.rst = 0;
    }

    // After an error, go on while the engine is busy with outputs of layers finished before it.
    const uint32_t error = 7, busy = 16;  // masks of the status word
    bool stopped = false;
    while (result->outputs < o->expected && result->cycles < options->max_cycles && !stopped) {
        engine.PORT(i_x, valid) = source_x.offer();
        if (engine.PORT(i_x, valid)) put(engine.PORT(i_x, payload), source_x.at(), x->stride);
        engine.PORT(i_w, valid) = source_w.offer();
        if (engine.PORT(i_w, valid)) put(engine.PORT(i_w, payload), source_w.at(), w->stride);
        engine.PORT(o, ready) = !stalls_o.next();
        engine.eval();

        if (engine.PORT(i_x, valid) && engine.PORT(i_x, ready)) source_x.taken();
        if (engine.PORT(i_w, valid) && engine.PORT(i_w, ready)) source_w.taken();
        get(engine.PORT(o, payload), shown.data(), o->stride);
        if (holding && (!engine.PORT(o, valid) || shown != held)) ++result->broken_handshakes;
        holding = engine.PORT(o, valid) && !engine.PORT(o, ready);
        if (holding) held = shown;
        if (engine.PORT(o, valid) && engine.PORT(o, ready))
            std::copy(shown.begin(), shown.end(), o->bytes + result->outputs++ * o->stride);
        stopped = (engine.status & error) && !(engine.status & busy);
        tick(engine);
        ++result->cycles;
    }
    result->status = engine.status;
    result->taken_x = source_x.position;
    result->taken_w = source_w.position;
}

}  // extern "C"
