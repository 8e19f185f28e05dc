// rejected: turns back
#include <cstdio>
int main() { std::printf("4\n0 0\n9 0\n5 0\n2 0\n"); }
