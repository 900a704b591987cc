// A board's two serial wires against a file descriptor, such as the near end of a pseudo-terminal.
// Compiled once for each board with its Verilated top.

#include <poll.h>
#include <unistd.h>

#include <cstdint>

#include "Vengine.h"
#include "verilated.h"

namespace {

constexpr uint64_t kRest = 50000;  // cycles without a sign of life after which time may stand still

// One direction's bytes, and what is to happen to some of them.
struct Faults {
    const int64_t* at;  // numbers of bytes, ascending
    const uint8_t* how;  // 0 drops the byte, anything else is XORed to it
    uint64_t count, next = 0;
    int64_t byte = 0;
    // Returns false for a byte that is to be dropped.
    bool apply(uint8_t& value) {
        bool kept = true;
        for (; next != count && at[next] == byte; ++next) {
            value ^= how[next];
            kept = kept && how[next] != 0;
        }
        ++byte;
        return kept;
    }
};

// Sends bytes bit by bit, and finds bytes in bits, as a UART does.
struct Line {
    uint32_t divisor, timer = 0, bits = 1, left = 0;
    bool idle() const { return left == 0; }
    void send(uint8_t byte) {
        bits = 0x200u | uint32_t(byte) << 1;
        left = 10;
        timer = divisor;
    }
    bool level() const { return left ? bits & 1 : 1; }
    void step() {
        if (left && --timer == 0) {
            bits >>= 1;
            timer = divisor;
            --left;
        }
    }
    // True when a byte is complete.
    bool receive(bool level, uint8_t& byte) {
        if (left == 0) {
            if (!level) {
                left = 10;
                timer = divisor / 2 + 1;
                bits = 0;
            }
            return false;
        }
        if (--timer) return false;
        timer = divisor;
        bits |= uint32_t(level) << (10 - left);
        if (--left) return false;
        byte = bits >> 1;
        return bits >> 9 & 1;
    }
};

}  // namespace

extern "C" {

struct FaultList {
    const int64_t* at;
    const uint8_t* how;
    uint64_t count;
};

// Runs the board until `stop` is set or the descriptor fails; returns the cycles.
uint64_t lutra_serve(int descriptor, uint32_t divisor, const FaultList* to_board,
                     const FaultList* to_host, const volatile int32_t* stop) {
    VerilatedContext context;
    Vengine board{&context};
    Faults faults_in{to_board->at, to_board->how, to_board->count};
    Faults faults_out{to_host->at, to_host->how, to_host->count};
    Line in{divisor}, out{divisor};
    uint64_t cycles = 0, quiet = 0;
    uint8_t pending[4096];
    ssize_t have = 0, used = 0;

    board.rx = 1;
    board.rst = 1;
    for (int step = 0; step < 8; ++step) {
        board.clk = step & 1;
        board.eval();
    }
    board.rst = 0;
    while (!*stop) {
        if (in.idle() && used < have) {
            uint8_t byte = pending[used++];
            if (faults_in.apply(byte)) in.send(byte);
        } else if (in.idle() && (cycles & 63) == 0) {
            pollfd ready{descriptor, POLLIN, 0};
            // A board at rest waits with its clock stopped, so as not to keep a processor busy.
            poll(&ready, 1, quiet > kRest ? 20 : 0);
            if (ready.revents & POLLIN) {
                have = read(descriptor, pending, sizeof pending);
                used = 0;
                if (have < 0) have = 0;
            }
            if (quiet > kRest && used == have) continue;
        }
        board.rx = in.level();
        board.clk = 0;
        board.eval();
        board.clk = 1;
        board.eval();
        in.step();
        ++cycles;
        quiet = in.idle() && out.idle() && !board.running ? quiet + 1 : 0;
        uint8_t byte;
        if (out.receive(board.tx, byte) && faults_out.apply(byte))
            for (ssize_t sent = 0; sent == 0 && !*stop;) {
                sent = write(descriptor, &byte, 1);
                if (sent < 0) sent = 0;
                if (!sent) usleep(1000);
            }
    }
    board.final();
    return cycles;
}

}  // extern "C"
