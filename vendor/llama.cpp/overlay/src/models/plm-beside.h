#pragma once

#include <functional>
#include <future>
#include <system_error>

// Work that goes on in a thread beside this one's; where the system gives none, it is done when it is waited for.
class plm_beside {
  public:
    explicit plm_beside(const std::function<void()> & work) : first(told.get_future()) {
        const auto all = [this, work] {
            running() = this;
            try {
                work();
            } catch (...) {
                tell();
                throw;
            }
            tell();
        };
        try {
            done = std::async(std::launch::async, all).share();
        } catch (const std::system_error &) {
            done = std::async(std::launch::deferred, all).share();
            done.wait();
        }
    }

    plm_beside(const plm_beside &) = delete;

    // Called by the work, once what the other thread needs before the end is there.
    static void reached() {
        if (running()) {
            running()->tell();
        }
    }

    // Waits until the work calls `reached`, or ends.
    void wait() { first.wait(); }

    // Waits for the end, and throws what the work threw. Who does not call it waits in the destructor.
    void end() { done.get(); }

  private:
    static plm_beside *& running() {
        static thread_local plm_beside * one = nullptr;
        return one;
    }

    void tell() { // in the work's thread alone
        if (!has_told) {
            has_told = true;
            told.set_value();
        }
        running() = nullptr;
    }

    bool has_told = false;
    std::promise<void> told;
    std::future<void> first;
    std::shared_future<void> done; // the last member: it waits for the work while the others are there
};
