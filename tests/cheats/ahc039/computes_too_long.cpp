// rejected: CPU|wall-clock
#include <cstdio>
#include <ctime>
int main() { std::puts("4\n0 0\n9 0\n9 9\n0 9"); std::fflush(stdout); while (clock() < 2.5 * CLOCKS_PER_SEC) {} }
