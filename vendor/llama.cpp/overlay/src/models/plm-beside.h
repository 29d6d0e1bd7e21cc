#pragma once

#include <exception>
#include <functional>
#include <future>
#include <system_error>

// Work that goes on in a thread beside this one's; where the system gives none, it is done at once, in this one.
class plm_beside {
  public:
    explicit plm_beside(const std::function<void()> & work) : first(told.get_future()) {
        const auto all = [this, work] {
            running() = this;
            try {
                work();
                tell(nullptr);
            } catch (...) {
                tell(std::current_exception());
                throw;
            }
        };
        try {
            done = std::async(std::launch::async, all);
        } catch (const std::system_error &) {
            done = std::async(std::launch::deferred, all);
            done.wait();
        }
    }

    plm_beside(const plm_beside &) = delete;

    // Called by the work, once what the other thread needs before the end is there: of a vocabulary n_tokens() and
    // n_token_types(), which all architectures' tensors are made by (LLAMA_LOAD_LOCALS). It changes neither from then on.
    static void reached() {
        if (running()) {
            running()->tell(nullptr);
        }
    }

    // Waits until the work calls `reached`, or ends, and throws what it threw before that. Called once.
    void wait() { first.get(); }

    // Waits for the end, and throws what the work threw. Called once. Who does not call it waits in the destructor.
    void end() { done.get(); }

  private:
    static plm_beside *& running() {
        static thread_local plm_beside * one = nullptr;
        return one;
    }

    void tell(const std::exception_ptr & thrown) { // in the work's thread alone
        if (!has_told) {
            has_told = true;
            thrown ? told.set_exception(thrown) : told.set_value();
        }
        running() = nullptr;
    }

    bool has_told = false;
    std::promise<void> told;
    std::future<void> first;
    std::future<void> done; // the last member: it waits for the work while the others are there
};
