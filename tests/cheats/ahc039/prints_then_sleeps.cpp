// rejected: elapsed|wall-clock
#include <cstdio>
#include <unistd.h>
int main() { std::puts("4\n0 0\n9 0\n9 9\n0 9"); std::fflush(stdout); sleep(3600); }
