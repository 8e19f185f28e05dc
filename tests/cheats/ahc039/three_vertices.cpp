// rejected: number of vertices is 3
#include <cstdio>
int main() { std::printf("3\n0 0\n9 0\n9 9\n"); }
