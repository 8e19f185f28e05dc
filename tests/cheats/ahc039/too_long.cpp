// rejected: length is 400002, allowed
#include <cstdio>
// A comb within the sea: its outline is two too long.
int main() { std::printf("8\n0 0\n100000 0\n100000 100000\n50001 100000\n50001 99999\n50000 99999\n50000 100000\n0 100000\n"); }
