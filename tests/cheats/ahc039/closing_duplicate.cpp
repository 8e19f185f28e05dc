// rejected: length zero
#include <cstdio>
int main() { std::printf("5\n0 0\n9 0\n9 9\n0 9\n0 0\n"); }
