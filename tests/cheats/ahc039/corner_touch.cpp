// rejected: touch or cross
#include <cstdio>
int main() { std::printf("8\n0 0\n5 0\n5 5\n9 5\n9 9\n5 9\n5 5\n0 5\n"); }
