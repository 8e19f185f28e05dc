// rejected: is 100001
#include <cstdio>
int main() { std::printf("4\n0 0\n100001 0\n100001 9\n0 9\n"); }
