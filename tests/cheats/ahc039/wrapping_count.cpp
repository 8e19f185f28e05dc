// rejected: number of vertices is 4294967300
#include <cstdio>
int main() { std::printf("4294967300\n"); }
