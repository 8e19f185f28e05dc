// rejected: touch or cross
#include <cstdio>
int main() { std::printf("8\n0 0\n6 0\n6 6\n2 6\n2 2\n8 2\n8 9\n0 9\n"); }
