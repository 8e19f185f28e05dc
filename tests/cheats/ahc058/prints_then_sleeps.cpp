// rejected: elapsed|wall-clock
#include <cstdio>
#include <unistd.h>
int main() { for (int t = 0; t < 500; t++) std::puts("-1"); std::fflush(stdout); sleep(3600); }
