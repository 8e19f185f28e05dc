// rejected: SIGSEGV
#include <cstdio>
int main() { for (int t = 0; t < 500; t++) std::puts("-1"); std::fflush(stdout); *(volatile int*)0 = 0; }
