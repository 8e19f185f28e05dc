// rejected: number of vertices is 0
#include <cstdio>
int main() { std::printf("0\n"); }
