// A plug-in in C++ of a program in C, which has no C++ runtime before it is loaded.
#include <cstddef>
#include <cstdint>
#include <new>

static volatile std::size_t too_much = PTRDIFF_MAX;
static char *volatile block;
static int handled;

static void handler() {
    handled++;
    std::set_new_handler(nullptr);
}

extern "C" bool catches_bad_alloc() {
    try {
        block = new char[too_much];
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

extern "C" bool calls_its_handler() {
    std::set_new_handler(handler);
    bool fails = ::operator new(too_much, std::nothrow) == nullptr;
    std::set_new_handler(handler);
    return fails && catches_bad_alloc() && handled == 2;
}
