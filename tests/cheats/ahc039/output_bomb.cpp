// rejected: the result exceeds
#include <cstdio>
int main() { for (;;) std::puts("4 0 0 9 0 9 9 0 9"); }
