// rejected: '0.5' is not a number
#include <cstdio>
int main() { std::printf("4\n0.5 0\n9 0\n9 9\n0.5 9\n"); }
