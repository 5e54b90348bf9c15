// The new-handler is called until there is memory, or none is left, by every form of new.
#include "check.h"

#include <new>

namespace {

int calls;

// Gives up after some calls: then there is no handler, and new throws.
void give_up() {
    if (++calls == 3) std::set_new_handler(nullptr);
}

void expect_calls(int wanted) {
    CHECK(calls == wanted);
    calls = 0;
    CHECK(std::get_new_handler() == nullptr);
    std::set_new_handler(give_up);
}

template <typename New>
void throws_after_three_calls(New make) {
    bool caught = false;
    try {
        CHECK(make() != nullptr);
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    CHECK(caught);
    expect_calls(3);
}

}  // namespace

int main() {
    begin();
    std::set_new_handler(give_up);
    const std::size_t bytes = opaque(LARGEST);
    const std::align_val_t align{64};
    throws_after_three_calls([&] { return ::operator new(bytes); });
    throws_after_three_calls([&] { return ::operator new[](bytes); });
    throws_after_three_calls([&] { return ::operator new(bytes, align); });
    throws_after_three_calls([&] { return ::operator new[](bytes, align); });
    CHECK(::operator new(bytes, std::nothrow) == nullptr);
    expect_calls(3);
    CHECK(::operator new[](bytes, std::nothrow) == nullptr);
    expect_calls(3);
    CHECK(::operator new(bytes, align, std::nothrow) == nullptr);
    expect_calls(3);
    CHECK(::operator new[](bytes, align, std::nothrow) == nullptr);
    expect_calls(3);
    // malloc has no handler.
    FAILS(malloc(bytes), ENOMEM);
    CHECK(calls == 0);
    return 0;
}
