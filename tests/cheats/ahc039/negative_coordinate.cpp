// rejected: '-1' is not a number
#include <cstdio>
int main() { std::printf("4\n-1 0\n9 0\n9 9\n-1 9\n"); }
