// rejected: CPU|wall-clock
#include <cstdio>
#include <ctime>
int main() { for (int t = 0; t < 500; t++) std::puts("-1"); std::fflush(stdout); while (clock() < 2.5 * CLOCKS_PER_SEC) {} }
