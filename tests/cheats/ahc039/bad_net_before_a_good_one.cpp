// rejected: number of vertices is 2
#include <cstdio>
int main() { std::printf("2\n0 0\n9 9\n4\n0 0\n9 0\n9 9\n0 9\n"); }
