// rejected: ends before turn 0
#include <cstdio>
int main() { for (int t = 0; t < 999; t++) std::puts("# -1\n"); }
