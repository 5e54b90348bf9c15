// A handler that throws: the exception reaches who called new, and becomes null in the form that must not throw.
#include "check.h"

#include <new>

namespace {

struct Sentry {
    int &count;
    explicit Sentry(int &place) : count(place) {}
    ~Sentry() { count++; }
};

struct OutOfMemory : std::bad_alloc {
    const char *what() const noexcept override { return "from the handler"; }
};

void throw_ours() {
    throw OutOfMemory();
}

template <typename New>
bool reaches_caller(New make) {
    int unwound = 0;
    try {
        Sentry sentry(unwound);
        (void)make();
    } catch (const OutOfMemory &error) {
        return unwound == 1 && strcmp(error.what(), "from the handler") == 0;
    }
    return false;
}

}  // namespace

int main() {
    begin();
    std::set_new_handler(throw_ours);
    const std::size_t bytes = opaque(LARGEST);
    const std::align_val_t align{64};
    for (int round = 0; round < 100; round++) {
        CHECK(reaches_caller([&] { return ::operator new(bytes); }));
        CHECK(reaches_caller([&] { return ::operator new[](bytes); }));
        CHECK(reaches_caller([&] { return ::operator new(bytes, align); }));
        CHECK(reaches_caller([&] { return ::operator new[](bytes, align); }));
        CHECK(::operator new(bytes, std::nothrow) == nullptr);
        CHECK(::operator new[](bytes, std::nothrow) == nullptr);
        CHECK(::operator new(bytes, align, std::nothrow) == nullptr);
        CHECK(::operator new[](bytes, align, std::nothrow) == nullptr);
    }
    // All is well after it.
    std::set_new_handler(nullptr);
    churn(1, 2000);
    return 0;
}
