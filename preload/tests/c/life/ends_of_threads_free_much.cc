// Much is freed while threads are being started and while they end, in the destructors of thread keys and of
// thread-local objects: what the C library does then under its own locks never waits for us.
#include "check.h"

#include <memory>

namespace {

const std::size_t bytes = 4 * MIB;

struct Holder {
    void *block = nullptr;
    ~Holder() { free(block); }
};

thread_local Holder holder;
pthread_key_t key;

void *touched() {
    void *block = malloc(bytes);
    CHECK(block != nullptr);
    memset(block, 1, bytes);
    return block;
}

void *leaf(void *nothing) {
    holder.block = touched();
    CHECK(pthread_setspecific(key, touched()) == 0);
    return nothing;
}

void *starter(void *nothing) {
    for (int round = 0; round < 12; round++) {
        pthread_t threads[3];
        for (pthread_t &thread : threads) thread = start(leaf, nullptr);
        void *mine = touched();
        for (pthread_t thread : threads) join(thread);
        free(mine);
    }
    return leaf(nothing);
}

}  // namespace

int main() {
    begin();
    CHECK(pthread_key_create(&key, free) == 0);
    pthread_t threads[4];
    for (pthread_t &thread : threads) thread = start(starter, nullptr);
    for (pthread_t thread : threads) join(thread);
    await_resident_below(100 * MIB);
    return 0;
}
