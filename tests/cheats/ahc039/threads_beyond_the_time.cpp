// rejected: CPU|wall-clock
#include <cstdio>
#include <ctime>
#include <thread>
// Two threads share the work: their CPU time adds up.
int main() {
    std::puts("4\n0 0\n9 0\n9 9\n0 9");
    auto work = [] { while (clock() < 2.6 * CLOCKS_PER_SEC) {} };
    std::thread other(work);
    work();
    other.join();
}
