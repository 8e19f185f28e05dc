// rejected: 'done' is not a number
#include <cstdio>
int main() { std::printf("4\n0 0\n9 0\n9 9\n0 9\ndone\n"); }
