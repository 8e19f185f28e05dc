// rejected: CPU|wall-clock
#include <cstdio>
#include <ctime>
#include <thread>
// Two threads share the work: their CPU time adds up.
int main() {
    for (int t = 0; t < 500; t++) std::puts("-1");
    auto work = [] { while (clock() < 2.6 * CLOCKS_PER_SEC) {} };
    std::thread other(work);
    work();
    other.join();
}
