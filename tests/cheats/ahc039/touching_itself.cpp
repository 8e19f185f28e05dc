// rejected: touch or cross
#include <cstdio>
int main() { std::printf("8\n0 0\n9 0\n9 9\n5 9\n5 0\n3 0\n3 9\n0 9\n"); }
