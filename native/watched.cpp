#include "watched.hpp"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace nb = nanobind;

namespace wavestill {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds between_looks{5};
constexpr std::chrono::milliseconds between_reports{100};

long long slowest(const std::vector<Watch>& watches) {
    long long least = watches.front().done;
    for (const Watch& watch : watches) least = watch.done < least ? watch.done.load() : least;
    return least;
}

}  // namespace

void run_watched(const std::vector<Work>& works, long long steps, nb::handle progress) {
    std::vector<Watch> watches(works.size());
    std::vector<std::thread> threads;
    std::mutex mutex;
    std::condition_variable finished;
    std::size_t left = works.size();
    bool raised = false;
    {
        nb::gil_scoped_release release;
        for (std::size_t i = 0; i < works.size(); ++i)
            threads.emplace_back([&, i] {
                works[i](watches[i]);
                const std::lock_guard<std::mutex> lock(mutex);
                --left;
                finished.notify_one();
            });
        Clock::time_point reported = Clock::now();
        std::unique_lock<std::mutex> lock(mutex);
        while (!finished.wait_for(lock, between_looks, [&] { return left == 0; })) {
            if (raised) continue;
            lock.unlock();
            {
                nb::gil_scoped_acquire acquire;
                raised = PyErr_CheckSignals() != 0;
                if (!raised && !progress.is_none() && Clock::now() - reported >= between_reports) {
                    reported = Clock::now();
                    PyObject* answer =
                        PyObject_CallFunction(progress.ptr(), "L", slowest(watches));
                    raised = answer == nullptr;
                    Py_XDECREF(answer);
                }
            }
            if (raised)
                for (Watch& watch : watches) watch.stop = true;
            lock.lock();
        }
        lock.unlock();
        for (std::thread& thread : threads) thread.join();
    }
    if (!raised && !progress.is_none()) {
        PyObject* answer = PyObject_CallFunction(progress.ptr(), "L", steps);
        raised = answer == nullptr;
        Py_XDECREF(answer);
    }
    if (raised) throw nb::python_error();
}

}  // namespace wavestill
