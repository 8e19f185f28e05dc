// rejected: not parallel
#include <cstdio>
int main() { std::printf("4\n0 0\n9 1\n9 9\n0 9\n"); }
